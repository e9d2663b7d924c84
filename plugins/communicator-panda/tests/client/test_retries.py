"""What is repeated, how long, and what the log shows of it."""

import logging
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_communicator_panda.retry import AttemptFailed, Retrier, RetryPolicy
from pilot_communicator_panda.settings import PandaSettings

from pilot_core import (
    AuthError,
    BearerToken,
    Cancelled,
    CancelToken,
    CommunicationError,
    Deadline,
    JobRequest,
    JobUpdate,
    RequestRefused,
    WorkerStatus,
)
from pilot_core.testing.clock import FakeClock
from pilot_core.testing.scripted import Answer

OK = Answer({"success": True, "message": "", "data": {"StatusCode": 0, "command": "NULL"}})
NO_JOB = Answer({"success": False, "message": "No jobs in PanDA", "data": None})
DATABASE = Answer({"success": True, "message": "Database error", "data": {"StatusCode": 30}})
RUNNING = JobUpdate(job_id=86, attempt=1, state="running")
FINISHED = JobUpdate(job_id=86, attempt=1, state="finished")
ASK = JobRequest(queue="Q")
STATUS = WorkerStatus(worker_id=1, harvester_id="h", status="started")

BROKEN = [
    Answer(fault="close"),
    Answer(fault="reset"),
    Answer({"success": True, "data": {"StatusCode": 0}}, fault="cut"),
    Answer("<html>portal</html>"),
    Answer("{'success': True, 'message': '', 'data': {'StatusCode': 0}}"),
    Answer(""),
    Answer("[1]"),
    Answer("null"),
    Answer({"message": "no success"}),
    Answer({"success": "yes"}),
    Answer({"success": True}),
    Answer({"success": True, "data": []}),
    Answer({"success": True, "data": {}}),
    Answer("{" * 100000),
    Answer(b"\xff\xfe"),
    Answer(b"HTTP/1.1 banana\r\n\r\n", fault="raw"),
    Answer(b"garbage\r\n\r\n", fault="raw"),
    Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", fault="raw"),
    Answer("bang", status=500),
    Answer("bang", status=502),
    Answer("bang", status=504),
    DATABASE,
    Answer({"success": True, "message": "Failed to add meta_data", "data": {"StatusCode": 30, "ErrorDiag": "x"}}),
    Answer({"success": False, "message": "Timed out", "data": {"StatusCode": 10}}),
    Answer({"success": False, "message": "something odd", "data": None}),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda answer: f"{answer.status}-{answer.fault}-{answer.body!r:.30}")
def test_an_update_is_repeated_until_it_is_acknowledged(serve, client, limits, caplog, broken):
    server = serve(broken, broken, OK)
    assert client(server).update(FINISHED, **limits()).commands == ()
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 2
    assert all("\n" not in line and line.startswith("update_job of 86 (finished): ") for line in lines)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda answer: f"{answer.status}-{answer.fault}-{answer.body!r:.30}")
def test_a_lost_answer_about_jobs_is_not_asked_for_again(serve, client, limits, broken):
    server = serve(broken, NO_JOB)
    with pytest.raises(CommunicationError, match=r"may have been given to this pilot .* fails it after 30 minutes"):
        client(server).acquire(ASK, **limits())
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_server_that_turns_us_away_is_asked_again_for_jobs(serve, client, limits, status):
    server = serve(Answer("later", status=status), NO_JOB)
    assert client(server).acquire(ASK, **limits()) == []
    assert len(server.requests) == 2


def test_a_refused_connection_is_tried_again_for_jobs(serve, client, limits, clock):
    server = serve(NO_JOB)
    port = server.port
    server.__exit__()
    with pytest.raises(CommunicationError, match=rf"nothing listens at localhost:{port} .* \(gave up after 7 att"):
        client(server).acquire(ASK, **limits(60))
    assert 50 < sum(clock.waits) <= 60


def test_the_budget_is_in_the_log_and_is_kept(serve, client, limits, clock, caplog):
    server = serve(DATABASE)
    start = clock.monotonic()
    with pytest.raises(CommunicationError) as caught:
        client(server, PandaSettings(retry_budget=100)).update(FINISHED, **limits())
    assert clock.monotonic() - start == pytest.approx(100)
    assert re.search(r"Database error \(StatusCode 30\) \(gave up after 9 attempts in 100 s\)$", str(caught.value))
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    shown = [re.search(r"attempt (\d+), next in ([\d.]+) s, budget (\d+) s left$", line).groups() for line in lines]
    assert [(int(n), float(p), int(left)) for n, p, left in shown] == [
        (1, 1.0, 100),
        (2, 2.0, 99),
        (3, 4.0, 97),
        (4, 8.0, 93),
        (5, 16.0, 85),
        (6, 30.0, 69),
        (7, 30.0, 39),
        (8, 9.0, 9),
    ]


def test_without_a_budget_of_its_own_an_update_has_the_time_that_the_pilot_gives_it(serve, client, limits, clock):
    server = serve(DATABASE)
    start = clock.monotonic()
    with pytest.raises(CommunicationError):
        client(server).update(FINISHED, **limits(1800))
    assert clock.monotonic() - start == pytest.approx(1800)


def test_a_deadline_that_comes_before_the_end_of_the_budget_holds(serve, client, limits, clock):
    server = serve(DATABASE)
    start = clock.monotonic()
    with pytest.raises(CommunicationError):
        client(server).update(FINISHED, **limits(20))
    assert clock.monotonic() - start == pytest.approx(20)


@pytest.mark.parametrize(("value", "pause"), [("7", 7.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0), ("soon", 1.0)])
def test_a_pause_that_the_server_asks_for_is_kept(serve, client, limits, clock, value, pause):
    # the fake clock's wall time is 1_700_000_000: 2023-11-14 22:13:20
    server = serve(Answer("later", status=429, headers={"Retry-After": value}), OK)
    client(server).update(RUNNING, **limits())
    assert clock.waits == [pause]


def test_a_pause_beyond_the_budget_ends_the_attempts_at_once(serve, client, limits, clock):
    server = serve(Answer("later", status=503, headers={"Retry-After": "3600"}))
    with pytest.raises(CommunicationError, match=r"is busy .HTTP 503.: later"):
        client(server).update(RUNNING, **limits(1800))
    assert clock.waits == []


REFUSED = [
    Answer({"success": False, "message": "Type error: 'x' must be of type int, got str.", "data": None}),
    Answer({"success": False, "message": "Argument error: got an unexpected keyword argument 'x'", "data": None}),
    Answer({"success": False, "message": "Invalid job status: flying", "data": {"StatusCode": 50}}),
    Answer("ERROR : method update_job is forbidden", status=403),
    Answer("not found", status=404),
    Answer("<html>", status=411),
    Answer("", status=302, headers={"Location": "https://other.example/x"}),
]


@pytest.mark.parametrize("answer", REFUSED, ids=lambda answer: f"{answer.status}-{answer.body!r:.40}")
def test_what_the_server_refuses_is_not_repeated(serve, client, limits, answer):
    server = serve(answer, OK)
    with pytest.raises(RequestRefused):
        client(server).update(FINISHED, **limits())
    assert len(server.requests) == 1


class Renewed:
    """A credential source whose file is not there for some time."""

    def __init__(self, missing):
        self.missing = missing

    def credential(self, *, cancel, deadline):
        self.missing -= 1
        if self.missing >= 0:
            raise AuthError("token file /t is empty; put a token into it")
        return BearerToken(value="abc", origin="wlcg.production")

    def secrets(self):
        return ()


def test_an_update_waits_for_a_credential_that_is_being_renewed(serve, client, limits, caplog):
    server = serve(OK)
    client(server, credential=Renewed(2)).update(FINISHED, **limits())
    assert len(server.requests) == 1
    assert "token file /t is empty; put a token into it; attempt 2, next in" in caplog.text


def test_a_credential_that_is_not_renewed_within_the_budget_is_told_as_such(serve, client, limits):
    server = serve()
    with pytest.raises(AuthError, match="token file /t is empty"):
        client(server, credential=Renewed(10**6)).update(FINISHED, **limits())
    assert server.requests == []


@pytest.mark.parametrize(
    "message",
    [
        "SSL secure connection is required",
        "production or pilot role required",
        "no production/pilot role in VOMS FQANs or non pilot owner",
    ],
)
def test_a_missing_credential_or_role_is_not_repeated(serve, client, limits, message):
    server = serve(Answer({"success": False, "message": message, "data": None}), OK)
    with pytest.raises(AuthError):
        client(server).update(FINISHED, **limits())
    assert len(server.requests) == 1


def test_a_redirection_names_the_place_and_is_not_followed(serve, client, limits):
    other = serve(OK)
    server = serve(Answer("", status=302, headers={"Location": f"{other.url}/api/v1/pilot/update_job"}))
    with pytest.raises(RequestRefused, match=rf"it sends us to https://localhost:{other.port}"):
        client(server).update(FINISHED, **limits())
    assert other.requests == []


def test_a_worker_status_that_the_database_did_not_take_is_repeated(serve, client, limits):
    failed = Answer({"success": False, "message": "Failed to update worker status", "data": None})
    server = serve(failed, Answer({"success": True, "message": "", "data": None}))
    client(server).worker_status(STATUS, **limits())
    assert len(server.requests) == 2


def test_a_kept_connection_that_the_server_closed_costs_no_attempt(serve, client, limits, clock):
    server = serve(Answer(OK.body, fault="last"), OK)
    ours = client(server)
    ours.update(RUNNING, **limits())
    ours.update(RUNNING, **limits())
    assert [request.connection for request in server.requests] == [0, 1]
    assert clock.waits == []


def test_one_connection_serves_call_after_call(serve, client, limits):
    server = serve(OK)
    ours = client(server)
    for _ in range(5):
        ours.update(RUNNING, **limits())
    assert server.connections == 1


def test_an_old_connection_is_not_trusted_with_a_request_for_jobs(serve, client, limits, clock):
    server = serve(NO_JOB)
    ours = client(server)
    ours.acquire(ASK, **limits())
    clock.advance(3)
    ours.acquire(ASK, **limits())
    clock.advance(5)
    ours.acquire(ASK, **limits())
    assert [request.connection for request in server.requests] == [0, 0, 1]


def test_several_threads_send_at_once(serve, client, limits):
    server = serve(OK)
    ours = client(server)
    done = []

    def work():
        for _ in range(20):
            done.append(ours.update(RUNNING, **limits()).commands)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 80
    assert server.connections <= 4


def test_a_server_that_does_not_answer_is_given_up(serve, client, limits, clock):
    server = serve(Answer(fault="hang"))
    ours = client(server, PandaSettings(timeout=120, retry_budget=0))
    server.script.appendleft(OK)
    ours.update(RUNNING, **limits())
    clock.patience = 0.05
    with pytest.raises(CommunicationError, match=r"did not answer within 120 s$"):
        ours.update(RUNNING, **limits())
    assert clock.waits[-1] == pytest.approx(120, abs=1)


def test_a_cancellation_ends_the_wait_for_an_answer(serve, client, limits, caplog):
    server = serve(Answer(fault="hang"))
    cancel = CancelToken()
    server.on_request = lambda _: cancel.cancel("the pilot is told to stop")
    with pytest.raises(Cancelled, match="the pilot is told to stop"):
        client(server).acquire(ASK, **limits(cancel=cancel))
    assert "may have been carried out" in caplog.text


def test_a_cancellation_ends_the_pause_between_attempts(serve, client, limits, clock):
    server = serve(DATABASE)
    cancel = CancelToken()
    clock.on_jump = lambda: cancel.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        client(server).update(RUNNING, **limits(cancel=cancel))
    assert len(server.requests) == 1


def test_nothing_is_sent_once_the_work_is_called_off(serve, client, limits):
    server = serve(OK)
    cancel = CancelToken()
    cancel.cancel("enough")
    with pytest.raises(Cancelled):
        client(server).update(RUNNING, **limits(cancel=cancel))
    assert server.connections == 0


@given(
    jitter=st.lists(st.floats(0, 1, exclude_max=True), min_size=1),
    budget=st.floats(0, 1e6),
    pause=st.floats(0.001, 1e3),
    limit=st.floats(0.001, 1e3),
    asked=st.none() | st.floats(0, 1e4),
    deadline=st.floats(0, 1e6),
)
def test_no_attempt_begins_after_the_budget_or_the_deadline(jitter, budget, pause, limit, asked, deadline):
    clock = FakeClock(monotonic=0.0)
    draws = iter(jitter * 1000)
    begun = []

    def attempt():
        begun.append(clock.monotonic())
        if len(begun) > 500:
            return "enough"
        raise AttemptFailed("x", retry_after=asked)

    retrier = Retrier(clock, logging.getLogger("test.quiet"), lambda: next(draws))
    logging.getLogger("test.quiet").disabled = True
    try:
        retrier.run(
            "it",
            attempt,
            RetryPolicy(budget, pause, limit),
            repeatable=lambda _: True,
            cancel=CancelToken(),
            deadline=Deadline(clock, deadline),
        )
    except CommunicationError:
        assert len(begun) <= 500
    assert all(at <= min(budget, deadline) + 1e-6 for at in begun[1:])
    assert all(wait <= max(limit, asked or 0) + 1e-6 for wait in clock.waits)
