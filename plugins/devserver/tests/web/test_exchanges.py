"""The last exchanges are kept, and no more than that."""

import json

import pytest
from pilot_devserver.web import exchanges
from pilot_devserver.web.exchanges import ExchangeLog, endpoint_of

from pilot_core.api.server import FieldProblem, ServerRequest, ServerResponse
from pilot_core.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def log(clock):
    return ExchangeLog(clock)


def add(log, body=b"{}", answer=b"{}", path="/api/v1/pilot/update_job", **values):
    request = ServerRequest(method="POST", path=path, headers={"content-type": "application/json"}, body=body)
    return log.add(log.begin(), request, ServerResponse(body=answer), **values)


def test_an_exchange_has_its_time_and_duration(log, clock):
    begun = log.begin()
    clock.advance(0.25)
    exchange = log.add(begun, ServerRequest(method="GET", path="/"), None, client="127.0.0.1:1", faults=["refuse"])
    assert (exchange.time, exchange.seconds) == (begun.wall, pytest.approx(0.25))
    assert "without an answer" in exchange.answered.notes[0]
    assert exchange.faults == ("refuse",)


def test_what_an_update_says_is_known_from_its_bodies(log):
    answer = {"success": True, "data": {"StatusCode": 0, "command": "tobekilled"}}
    exchange = add(log, b'{"job_id": 3, "job_status": "running"}', json.dumps(answer).encode())
    assert (exchange.jobs, exchange.reported, exchange.command) == ((3,), "running", "tobekilled")
    assert log.of_job(3) == [exchange]
    assert log.of_job(4) == []


def test_the_form_apis_updates_are_understood_too(log):
    request = ServerRequest(
        method="POST",
        path="/server/panda/updateJob",
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=b"jobId=3&state=running",
    )
    exchange = log.add(log.begin(), request, ServerResponse(body=b"StatusCode=0&command=NULL"))
    assert (exchange.endpoint, exchange.jobs, exchange.reported, exchange.command) == ("updateJob", (3,), "running", "")


def test_only_so_many_are_kept(log, monkeypatch):
    monkeypatch.setattr(exchanges, "KEPT_EXCHANGES", 3)
    numbers = [add(log).number for _ in range(5)]
    assert [kept.number for kept in log.all()] == numbers[2:]
    assert log.get(numbers[0]) is None


def test_only_so_many_bytes_are_kept(log, monkeypatch):
    monkeypatch.setattr(exchanges, "KEPT_BYTES", 1000)
    for _ in range(5):
        add(log, b"x" * 300, b"")
    assert len(log.all()) == 3
    add(log, b"x" * 5000, b"")
    assert len(log.all()) == 1


def test_a_huge_body_is_cut_and_explained_whole(log):
    body = json.dumps({"job_id": 1, "meta_data": "x" * 1_000_000}).encode()
    seen = []

    def explain(request):
        seen.append(len(request.body))
        return [FieldProblem(field="meta_data", kind="truncated", message="long")]

    exchange = add(log, body, explain=explain)
    assert (len(exchange.request.body), exchange.request_size) == (exchanges.KEPT_BODY, len(body))
    assert exchange.problems[0].field == "meta_data"
    assert seen == [len(body)]


def test_a_small_body_is_explained_when_somebody_looks_and_once(log):
    seen = []
    exchange = add(log, explain=lambda request: seen.append(request) or ())
    assert seen == []
    assert exchange.problems == exchange.problems == ()
    assert len(seen) == 1


def test_listeners_hear_of_every_exchange_until_they_leave(log):
    heard = []
    leave = log.subscribe(lambda: heard.append(len(log.all())))
    add(log)
    log.clear()
    leave()
    add(log)
    assert heard == [1, 0]


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/api/v1/pilot/update_job", "pilot/update_job"),
        ("/server/panda/getJob", "getJob"),
        ("/cache/ddmendpoints.json", "/cache/ddmendpoints.json"),
    ],
)
def test_endpoints_have_short_names(path, endpoint):
    assert endpoint_of(path) == endpoint
