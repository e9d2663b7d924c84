"""JSON-RPC 2.0: the examples of the specification (https://www.jsonrpc.org/specification, section 7), and nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pilot_core import AuthError, CommunicationError, RequestRefused

from pilot_communicator_jsonrpc.rpc import result_of
from pilot_communicator_jsonrpc.server.envelope import LARGEST_BATCH, METHOD_NOT_FOUND, Call, Fault, answer

PARSE_ERROR = {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": None}
INVALID = {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None}


def carry_out(call: Call) -> Any:
    """Do what the methods of the specification's examples do."""
    params = call.params
    if call.method == "subtract":
        return params[0] - params[1] if isinstance(params, list) else params["minuend"] - params["subtrahend"]
    if call.method == "sum":
        return sum(params)
    if call.method == "get_data":
        return ["hello", 5]
    if call.method in {"update", "notify_hello", "notify_sum"}:
        return None
    raise Fault(METHOD_NOT_FOUND)


def result(value: Any, call_id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": value, "id": call_id}


def not_found(call_id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": call_id}


EXAMPLES: dict[str, tuple[str, Any]] = {
    "positional parameters": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        result(19, 1),
    ),
    "positional parameters, the other way": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        result(-19, 2),
    ),
    "named parameters": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        result(19, 3),
    ),
    "named parameters, the other way": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        result(19, 4),
    ),
    "a notification": ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    "a notification of an unknown method": ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    "an unknown method": ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', not_found("1")),
    "invalid JSON": ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE_ERROR),
    "an invalid request": ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    "a batch of invalid JSON": (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]',
        PARSE_ERROR,
    ),
    "an empty array": ("[]", INVALID),
    "an invalid batch that is not empty": ("[1]", [INVALID]),
    "an invalid batch": ("[1,2,3]", [INVALID, INVALID, INVALID]),
    "a batch": (
        """[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]""",
        [result(7, "1"), result(19, "2"), INVALID, not_found("5"), result(["hello", 5], "9")],
    ),
    "a batch of notifications": (
        """[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ]""",
        None,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_specification_is_answered_as_there(name: str) -> None:
    body, expected = EXAMPLES[name]
    assert answer(body.encode(), carry_out) == expected


@pytest.mark.parametrize("call_id", ["true", "[1]", "{}"])
def test_an_id_is_a_text_a_number_or_null(call_id: str) -> None:
    body = f'{{"jsonrpc": "2.0", "method": "get_data", "id": {call_id}}}'
    assert answer(body.encode(), carry_out) == INVALID


def test_an_id_that_is_null_is_no_notification() -> None:
    assert answer(b'{"jsonrpc": "2.0", "method": "get_data", "id": null}', carry_out) == result(["hello", 5], None)


def test_the_id_of_an_invalid_request_comes_back_where_it_can_be_read() -> None:
    assert answer(b'{"jsonrpc": "1.0", "method": "get_data", "id": 7}', carry_out) == {**INVALID, "id": 7}


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "[" * 100_000, "\ufeff", "9" * 5000])
def test_what_json_does_not_have_is_a_parse_error(text: str) -> None:
    body = f'{{"jsonrpc": "2.0", "method": "get_data", "params": [{text}], "id": 1}}'
    assert answer(body.encode(), carry_out) == PARSE_ERROR


def test_a_batch_has_a_largest_size() -> None:
    calls = [{"jsonrpc": "2.0", "method": "get_data", "id": number} for number in range(LARGEST_BATCH + 1)]
    assert len(answer(json.dumps(calls[1:]).encode(), carry_out)) == LARGEST_BATCH
    assert answer(json.dumps(calls).encode(), carry_out) == INVALID


# -- whatever comes, an answer goes out that JSON-RPC has ------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | VALUES,
        "method": st.sampled_from(["sum", "get_data", "nothing"]) | VALUES,
        "params": st.lists(st.integers(), max_size=3) | st.just({}) | VALUES,
        "id": st.integers() | st.text(max_size=5) | VALUES,
    },
)
BODIES = st.one_of(
    st.binary(max_size=60),
    VALUES.map(json.dumps).map(str.encode),
    OBJECTS.map(json.dumps).map(str.encode),
    st.lists(OBJECTS, max_size=4).map(json.dumps).map(str.encode),
)


def harmless(call: Call) -> Any:
    """Carry out a call of which anything may be wrong."""
    if call.method == "nothing":
        raise Fault(METHOD_NOT_FOUND, data=[call.params])
    return call.params


def check(told: Any) -> None:
    """Fail a test whose answer is none."""
    assert told["jsonrpc"] == "2.0"
    assert set(told) in ({"jsonrpc", "result", "id"}, {"jsonrpc", "error", "id"})
    assert told["id"] is None or type(told["id"]) in {str, int, float}
    if "error" in told:
        assert type(told["error"]["code"]) is int
        assert type(told["error"]["message"]) is str


@settings(max_examples=300, deadline=None, database=None)
@given(body=BODIES)
def test_any_body_has_an_answer_of_json_rpc(body: bytes) -> None:
    told = answer(body, harmless)
    # what goes out is JSON again: no NaN, no infinity
    told = json.loads(json.dumps(told, allow_nan=False))
    for each in told if isinstance(told, list) else [told] if told else []:
        check(each)


@settings(max_examples=200, deadline=None, database=None)
@given(calls=st.lists(st.tuples(st.booleans(), st.integers() | st.text(max_size=5)), min_size=1, max_size=8))
def test_a_batch_is_answered_but_for_its_notifications(calls: list[tuple[bool, Any]]) -> None:
    sent = [{"jsonrpc": "2.0", "method": "x", **({"id": call_id} if wanted else {})} for wanted, call_id in calls]
    told = answer(json.dumps(sent).encode(), harmless)
    assert [each["id"] for each in told or []] == [call_id for wanted, call_id in calls if wanted]
    assert told != []


@settings(max_examples=300, deadline=None, database=None)
@given(told=VALUES | OBJECTS | st.fixed_dictionaries({"jsonrpc": st.just("2.0"), "id": st.just(1), "error": VALUES}))
def test_whatever_comes_as_an_answer_is_a_result_or_an_error_of_the_pilots(told: Any) -> None:
    try:
        result_of(told, 1)
    except (CommunicationError, RequestRefused, AuthError):
        pass
    else:
        assert told["id"] == 1
        assert "result" in told
