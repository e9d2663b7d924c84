"""Whoever listens to a communicator's traffic hears of every exchange, once, whatever became of it."""

import json

import pytest

from pilot_core import AuthError, BearerToken, Cancelled, CancelToken, CommunicationError, JobRequest, JobUpdate
from pilot_core.api.traffic import CALLED_OFF, LOST, NOT_CONNECTED, STALE, TIMED_OUT
from pilot_core.testing.scripted import Answer

DONE = {"success": True, "message": "", "data": {"StatusCode": 0, "command": "NULL"}}
UPDATE = JobUpdate(job_id=7, attempt=1, state="running")


class Listener:
    """Keeps what it hears."""

    def __init__(self):
        self.heard = []

    def exchanged(self, exchange):
        self.heard.append(exchange)


@pytest.fixture
def listener():
    return Listener()


def test_a_request_and_its_answer_are_told_as_they_travelled(serve, client, held, listener, limits):
    server = serve(Answer(DONE))
    credential = held(BearerToken(value="the-token", origin="vo.role"))
    client(server, traffic=listener, credential=credential).update(UPDATE, **limits())
    (exchange,) = listener.heard
    (received,) = server.requests
    assert (exchange.method, exchange.url) == ("POST", f"{server.url}/api/v1/pilot/update_job")
    assert {name.lower(): value for name, value in exchange.request_headers} == received.headers
    assert exchange.request_body == received.body
    assert (exchange.status, json.loads(exchange.response_body)) == (200, DONE)
    assert exchange.reason
    assert exchange.failure == exchange.error == ""
    assert exchange.connect_seconds is not None
    assert "the-token" in dict(exchange.request_headers)["Authorization"]
    assert "the-token" not in repr(exchange)


def test_a_kept_connection_has_no_time_for_connecting(serve, client, listener, limits):
    made = client(serve(Answer(DONE), Answer(DONE)), traffic=listener)
    made.update(UPDATE, **limits())
    made.update(UPDATE, **limits())
    assert [exchange.connect_seconds is None for exchange in listener.heard] == [False, True]


@pytest.mark.parametrize(("fault", "failure"), [("close", LOST), ("reset", LOST), ("cut", LOST), ("hang", TIMED_OUT)])
def test_an_answer_that_does_not_come_is_told_and_so_is_the_next_try(
    serve, client, listener, limits, clock, fault, failure
):
    clock.patience = 0.05
    made = client(serve(Answer(DONE, fault=fault), Answer(DONE)), traffic=listener)
    made.update(UPDATE, **limits())
    first, second = listener.heard
    assert (first.status, first.failure) == (0, failure)
    assert first.error
    assert (second.status, second.failure) == (200, "")
    assert second.started >= first.started


def test_a_connection_that_was_closed_meanwhile_is_told_from_a_lost_answer(serve, client, listener, limits):
    made = client(serve(Answer(DONE), Answer(fault="close"), Answer(DONE)), traffic=listener)
    made.update(UPDATE, **limits())
    made.update(UPDATE, **limits())
    assert [exchange.failure for exchange in listener.heard] == ["", STALE, ""]


def test_a_server_that_is_not_there_is_told(client, listener, limits):
    with pytest.raises(CommunicationError):
        client("https://127.0.0.1:9", traffic=listener).acquire(JobRequest(queue="Q"), **limits(1))
    assert {exchange.failure for exchange in listener.heard} == {NOT_CONNECTED}
    assert "refused" in listener.heard[0].error


def test_a_request_that_is_called_off_is_told(serve, client, listener, limits):
    token = CancelToken()
    server = serve(Answer(DONE, fault="hang"))
    server.on_request = lambda _: token.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        client(server, traffic=listener).update(UPDATE, **limits(cancel=token))
    assert [exchange.failure for exchange in listener.heard] == [CALLED_OFF]


def test_an_answer_that_refuses_is_an_answer(serve, client, listener, limits):
    with pytest.raises(AuthError):
        client(serve(Answer("no", status=401)), traffic=listener).update(UPDATE, **limits())
    assert [(exchange.status, exchange.failure) for exchange in listener.heard] == [(401, "")]


def test_without_a_listener_nothing_is_gathered(serve, client, limits):
    made = client(serve(Answer(DONE)))
    assert made._caller.http._telling(None, {}) is None
    made.update(UPDATE, **limits())
