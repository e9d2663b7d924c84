"""What is wrong with a request, told field by field."""

import gzip
import json

import pytest
from hypothesis import given, strategies

from pilot_core.api.server import ExplainsRequests, Identity, ServerRequest

PILOT = Identity(dn="/O=x/CN=pilot", fqans=("/wlcg/Role=production",))
UPDATE = {"job_id": 1, "job_status": "running"}


@pytest.fixture
def problems(protocol):
    def problems(path, body=None, *, method="POST", identity=PILOT, **more):
        headers = {"content-type": "application/json", **more.pop("headers", {})}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = ServerRequest(
            method=method, path=f"/api/v1/{path}", headers=headers, body=data, identity=identity, **more
        )
        return [(problem.field, problem.kind) for problem in protocol.problems(request)]

    return problems


def test_the_protocol_can_explain_requests(protocol):
    assert isinstance(protocol, ExplainsRequests)


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_is_wrong_with_a_good_update(problems, packed):
    body = json.dumps({**UPDATE, "node": "n", "max_rss": 3, "meta_data": ""}).encode()
    if packed:
        assert problems("pilot/update_job", gzip.compress(body), headers={"content-encoding": "gzip"}) == []
    else:
        assert problems("pilot/update_job", body) == []


def test_all_mistakes_are_named_not_only_the_first(problems):
    found = problems(
        "pilot/update_job",
        {"jobid": 1, "job_status": "done", "attempt_nr": "2", "node": "n" * 129, "max_rss": "much", "avg_pss": []},
    )
    assert set(found) == {
        ("jobid", "unknown"),
        ("job_id", "missing"),
        ("job_status", "refused"),
        ("attempt_nr", "type"),
        ("node", "truncated"),
        ("max_rss", "type"),
        ("avg_pss", "type"),
    }


def test_a_value_that_the_server_would_leave_out_is_ignored(problems):
    assert problems("pilot/update_job", b'{"job_id": 1, "job_status": "running", "avg_rss": 1e999}') == [
        ("avg_rss", "ignored")
    ]


def test_each_update_of_a_bulk_has_its_own_fields(problems):
    updates = [UPDATE, {"job_id": "7", "job_status": "running"}, 5, {"job_id": 1, "job_status": "gone"}]
    assert problems("pilot/update_jobs_bulk", {"job_list": updates}) == [
        ("job_list[1].job_id", "type"),
        ("job_list[2]", "type"),
        ("job_list[3].job_status", "refused"),
    ]


def test_metadata_of_a_bulk_may_be_anything(problems):
    assert problems("pilot/update_jobs_bulk", {"job_list": [{**UPDATE, "meta_data": {"a": 1}}]}) == []


def test_a_query_is_converted_before_it_is_checked(problems):
    assert problems("job/get_status", method="GET", query="job_ids=1&job_ids=2") == []
    assert problems("job/get_status", method="GET", query="job_ids=x") == [("job_ids", "type")]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"identity": None}, ("", "refused")),
        ({"identity": Identity(dn="/CN=x")}, ("", "refused")),
        ({"denied": "Invalid token. Signature has expired"}, ("header:authorization", "refused")),
        ({"method": "GET", "query": "job_id=1&job_status=running"}, ("", "refused")),
    ],
)
def test_who_may_not_call_is_told(problems, options, found):
    assert problems("pilot/update_job", UPDATE, **options) == [found]


@pytest.mark.parametrize("body", [b"{", b"\x1f\x8b\x08nonsense", b"[" * 100000])
def test_a_body_that_cannot_be_read_is_one_problem(problems, body):
    headers = {"content-encoding": "gzip"} if body[:1] == b"\x1f" else {}
    assert problems("pilot/update_job", body, headers=headers) == [("", "unreadable")]


def test_an_unknown_method_is_one_problem(problems):
    assert problems("pilot/nothing", {}) == [("", "refused")]


@given(
    body=strategies.recursive(
        strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
        lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    ),
    name=strategies.sampled_from(["update_job", "update_jobs_bulk", "acquire_jobs", "get_job_status"]),
)
def test_whatever_is_sent_is_explained_without_an_exception(body, name):
    import logging

    from pilot_communicator_panda.server.protocol import PandaProtocol

    request = ServerRequest(
        method="POST",
        path=f"/api/v1/pilot/{name}",
        headers={"content-type": "application/json"},
        body=json.dumps(body).encode(),
        identity=PILOT,
    )
    for problem in PandaProtocol(logging.getLogger("test")).problems(request):
        assert problem.message.isprintable()
