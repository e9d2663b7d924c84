"""What every method shares: paths, JSON or not, roles, types."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pilot_communicator_panda.server.binding import Crash, Refused, bind
from pilot_communicator_panda.server.protocol import HANDLERS
from pilot_communicator_panda.server.signatures import METHODS, REQUIRED

from pilot_core.api.server import Identity

NO_JOBS = {"success": False, "message": "No jobs in PanDA", "data": None}
FORM = "application/x-www-form-urlencoded"
USER = Identity(dn="/O=x/CN=Jane User")
UPDATE = METHODS["pilot", "update_job"]
ACQUIRE = METHODS["pilot", "acquire_jobs"]


def test_every_method_has_a_handler():
    assert set(HANDLERS) == set(METHODS)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/pilot/nope", "nope"),
        ("/api/v1/nope/acquire_jobs", "acquire_jobs"),
        ("/api/latest/pilot/acquire_jobs", "acquire_jobs"),
        ("/api/v1/pilot/acquire_jobs/", ""),
        ("/api/v1/pilot", ""),
        ("/api/v1/pilot/update_job/more", ""),
        ("/api/v1/event/acquire_event_ranges", "acquire_event_ranges"),
        ("/server/panda/getJob", "getJob"),
    ],
)
def test_what_it_does_not_have_it_forbids(respond, path, name):
    response = respond(path, {}, denied="Invalid token. Not enough segments")
    assert (response.status, response.body.decode()) == (403, f"ERROR : method {name} is forbidden")


def test_a_refused_token_is_told_why(respond):
    response = respond("pilot/acquire_jobs", {"site_name": "Q"}, denied="Unknown vo : other")
    assert (response.status, response.body) == (403, b"ERROR : Token authentication failed. Unknown vo : other")


@pytest.mark.parametrize(
    ("headers", "is_json"),
    [
        ({"content_type": "application/json", "accept": "*/*"}, True),
        ({"content_type": "application/x-www-form-urlencoded", "accept": "application/json"}, True),
        ({"content_type": "application/x-www-form-urlencoded", "accept": "application/json, */*"}, False),
        ({"content_type": "application/json; charset=utf-8"}, False),
        ({}, False),
    ],
)
def test_json_is_sent_only_to_who_asks_for_exactly_that(respond, headers, is_json):
    body = b'{"site_name": "Q"}' if headers.get("content_type") == "application/json" else b"site_name=Q"
    answer = respond("pilot/acquire_jobs", body, **headers).body.decode()
    assert answer.startswith('{"success": false' if is_json else "{'success': False")


def test_a_json_type_with_a_charset_is_not_even_parsed(respond):
    body = b'{"site_name": "Q"}'
    answer = respond("pilot/acquire_jobs", body, content_type="application/json; charset=utf-8").body.decode()
    assert "Argument error: missing a required argument: 'site_name'" in answer


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (b"", {}, "ERROR : received invalid JSON : Expecting value: line 1 column 1 (char 0)"),
        (b"\x1f\x8b\x08\x00abc", {}, "'utf-8' codec can't decode byte 0x8b in position 1: invalid start byte"),
        (b"{}", {"content_encoding": "gzip"}, "Not a gzipped file (b'{}')"),
        (b"[1]", {}, "pandaserver.api.v1.pilot_api.acquire_jobs() argument after ** must be a mapping, not list"),
        (b"null", {}, "pandaserver.api.v1.pilot_api.acquire_jobs() argument after ** must be a mapping, not NoneType"),
        (b'{"req": 1}', {}, "acquire_jobs() got multiple values for argument 'req'"),
    ],
)
def test_a_body_that_cannot_be_used_is_a_server_error(respond, body, headers, text):
    response = respond("pilot/acquire_jobs", body, content_type="application/json", **headers)
    assert (response.status, response.body.decode()) == (500, text)
    assert response.headers["Connection"] == "close"


def test_a_packed_body_is_unpacked(respond):
    body = gzip.compress(b'{"site_name": "Q"}')
    headers = {"content_type": "application/json", "content_encoding": "gzip"}
    assert json.loads(respond("pilot/acquire_jobs", body, **headers).body) == NO_JOBS


def test_who_may_do_what(post):
    no_tls = {"success": False, "message": "SSL secure connection is required", "data": None}
    for who in (None, Identity(dn="/O=x/CN=y/CN=limited proxy", fqans=("/wlcg/Role=production",))):
        assert post("pilot/acquire_jobs", {"nonsense": 1}, identity=who) == no_tls
        assert post("pilot/update_job", {}, identity=who) == no_tls
    assert post("pilot/update_job", {}, identity=USER)["message"] == "production or pilot role required"
    role = "no production/pilot role in VOMS FQANs or non pilot owner"
    assert post("pilot/acquire_jobs", {"site_name": "Q"}, identity=USER)["message"] == role
    assert post("pilot/acquire_jobs", {"site_name": "Q", "prod_source_label": "user"}, identity=USER) == NO_JOBS


def test_a_wrong_http_method_is_told(get, post):
    assert get("pilot/acquire_jobs", "site_name=Q")["message"] == "expecting POST, received GET"
    assert post("pilot/get_job_status", {"job_ids": [1]})["message"] == "expecting GET, received POST"
    assert post("system/is_alive", {}, identity=None)["message"] == "expecting GET, received POST"
    assert get("system/is_alive", identity=None) == {"success": True, "message": "", "data": None}


def test_forms_carry_text_only(respond):
    form = {"content_type": "application/x-www-form-urlencoded", "accept": "application/json"}
    assert json.loads(respond("pilot/acquire_jobs", b"site_name=Q&node=a%20b", **form).body) == NO_JOBS
    answer = json.loads(respond("pilot/acquire_jobs", b"site_name=Q&timeout=60", **form).body)
    assert answer["message"] == "Type error: 'timeout' must be of type int, got str."


def test_multipart_forms_are_forms(respond):
    form = {"content_type": "multipart/form-data; boundary=X", "accept": "application/json"}
    part = b'--X\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = part % (b"site_name", b"", b"Q") + b"--X--\r\n"
    assert json.loads(respond("pilot/acquire_jobs", body, **form).body) == NO_JOBS
    body = part % (b"site_name", b'; filename="f"', b"Q") + b"--X--\r\n"
    answer = json.loads(respond("pilot/acquire_jobs", body, **form).body)
    assert answer["message"] == "Type error: 'site_name' must be of type str, got FileStorage."
    answer = json.loads(respond("pilot/acquire_jobs", b"--Y broken", **form).body)
    assert answer["message"] == "Argument error: missing a required argument: 'site_name'"


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        (ACQUIRE, {}, "Argument error: missing a required argument: 'site_name'"),
        (ACQUIRE, {"site_name": "Q", "foo": 1}, "Argument error: got an unexpected keyword argument 'foo'"),
        (ACQUIRE, {"site_name": None}, "Type error: 'site_name' must be of type str, got NoneType."),
        (ACQUIRE, {"site_name": "Q", "n_jobs": None}, "Type error: 'n_jobs' must be of type int, got NoneType."),
        (ACQUIRE, {"site_name": "Q", "memory": "1"}, "Type error: 'memory' must be of type int, got str."),
        (ACQUIRE, {"site_name": "Q", "memory": 1.0}, "Type error: 'memory' must be of type int, got float."),
        (ACQUIRE, {"site_name": "Q", "node": 5}, "Type error: 'node' must be of type str, got int."),
        (ACQUIRE, {"site_name": "Q", "background": "True"}, "Type error: 'background' must be of type bool, got str."),
        (ACQUIRE, {"site_name": "Q", "background": 1}, "Type error: 'background' must be of type bool, got int."),
        (
            ACQUIRE,
            {"site_name": "Q", "get_proxy_key": True},
            "Type error: 'get_proxy_key' must be of type str, got bool.",
        ),
        (UPDATE, {"job_id": 1.0, "job_status": "x"}, "Type error: 'job_id' must be of type int, got float."),
        (
            UPDATE,
            {"job_id": 1, "job_status": "x", "meta_data": None},
            "Type error: 'meta_data' must be of type str, got NoneType.",
        ),
        (
            UPDATE,
            {"job_id": 1, "job_status": "x", "meta_data": {"a": 1}},
            "Type error: 'meta_data' must be of type str, got dict.",
        ),
        (
            METHODS["pilot", "update_worker_node"],
            {"site": "S", "host_name": "h", "cpu_model": "c", "clock_speed": 2400},
            "Type error: 'clock_speed' must be of type float, got int.",
        ),
        (
            METHODS["pilot", "update_jobs_bulk"],
            {"job_list": {}},
            "Type error: 'job_list' must be of type list, got dict.",
        ),
        (METHODS["job", "kill"], {"job_ids": 5}, "Type error: 'job_ids' must be of type list, got int."),
        (METHODS["job", "kill"], {"job_ids": ["5"]}, "Type error: All elements in 'job_ids' must be int."),
    ],
)
def test_types_are_strict(method, given, message):
    with pytest.raises(Refused) as refusal:
        bind(method, given, "POST")
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "given",
    [
        {"timeout": 60.0},
        {"timeout": True},
        {"n_jobs": True},
        {"n_jobs": 1.0},
        {"memory": None},
        {"memory": True},
        {"worker_id": False},
        {"remaining_time": ["anything"]},
        {"target_architecture": {}},
        {"target_architecture": "x"},
    ],
)
def test_what_passes_for_the_right_type(given):
    assert bind(ACQUIRE, {"site_name": "Q", **given}, "POST")[next(iter(given))] == next(iter(given.values()))


@pytest.mark.parametrize("name", ["max_rss", "cpu_conversion_factor", "tot_rbytes"])
@pytest.mark.parametrize("value", ["1", [1], {}])
def test_a_wrong_value_for_a_parameter_of_two_types_is_a_server_error(respond, name, value):
    response = respond("pilot/update_job", {"job_id": 1, "job_status": "running", name: value})
    assert (response.status, response.body) == (500, b"'types.UnionType' object has no attribute '__name__'")


@pytest.mark.parametrize(
    ("query", "outcome"),
    [
        ("job_ids=1", [1]),
        ("job_ids=1&job_ids=2.7", [1, 2]),
        ("job_ids=1e3", [1000]),
        ("job_ids=1&timeout=5.9", [1]),
        ("", "Argument error: missing a required argument: 'job_ids'"),
        (
            "job_ids=abc",
            "Type error: 'job_ids' with value '['abc']' could not be casted to type List from list.",
        ),
        ("job_ids=", "Type error: 'job_ids' with value '['']' could not be casted to type List from list."),
        ("job_ids=1&timeout=x", "Type error: 'timeout' with value 'x' could not be casted to type int from str."),
    ],
)
def test_the_values_of_a_query_are_converted(get, query, outcome):
    answer = get("pilot/get_job_status", query)
    found = [item["job_id"] for item in answer["data"]] if answer["success"] else answer["message"]
    assert found == outcome


def test_a_number_without_end_is_a_server_error(respond):
    response = respond("pilot/get_job_status", method="GET", query="job_ids=inf")
    assert (response.status, response.body) == (500, b"cannot convert float infinity to integer")


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]) | st.just({})
PYTHON = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


@given(method=st.sampled_from(sorted(METHODS.items())), data=st.data())
@settings(max_examples=300, deadline=None)
def test_only_values_of_the_declared_types_are_bound(method, data):
    """Whatever is sent, a handler sees the declared types, the defaults, or nothing at all."""
    method = method[1]
    names = [parameter.name for parameter in method.parameters]
    sent = data.draw(st.dictionaries(st.sampled_from([*names, "extra"]), values))
    try:
        bound = bind(method, sent, "POST")
    except (Refused, Crash):
        return
    assert set(bound) == set(names)
    for parameter in method.parameters:
        value = bound[parameter.name]
        types = tuple(PYTHON[name.partition("[")[0]] for name in parameter.types if name != "any")
        assert not types or isinstance(value, types) or value == parameter.default
        assert parameter.name in sent or value is parameter.default is not REQUIRED


@given(body=st.binary(max_size=60), method=st.sampled_from(sorted(METHODS)), query=st.text(max_size=20), data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_request_gets_an_answer(respond, body, method, query, data):
    headers = data.draw(
        st.dictionaries(
            st.sampled_from(["content_type", "accept", "content_encoding"]),
            st.sampled_from(
                [
                    "application/json",
                    "gzip",
                    "application/x-www-form-urlencoded",
                    "multipart/form-data; boundary=X",
                    "x",
                ]
            ),
        )
    )
    http = data.draw(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"]))
    response = respond("/".join(method), body, method=http, query=query, **headers)
    assert response.status in (200, 500)
    assert response.content_type == "text/plain"
