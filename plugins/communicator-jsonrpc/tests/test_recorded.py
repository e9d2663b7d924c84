"""One recorded conversation, both sides: the client asks as is written there and understands what is answered there;
the server answers as is written there.

Each line of `recordings/exchanges.jsonl` is one exchange: a name, what the store knows (`scene`), who asks (`who`), the
request, the status and the answer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pilot_core import (
    AuthError,
    BadJob,
    BearerToken,
    CancelToken,
    CommunicationError,
    Context,
    Deadline,
    FileReport,
    Identity,
    InputFile,
    Job,
    JobRequest,
    JobStatus,
    JobUpdate,
    NoSettings,
    OutputFile,
    RequestRefused,
    ServerRequest,
    SystemClock,
    WorkerNode,
    WorkerStatus,
)
from pilot_core.testing import MemoryStore
from pilot_core.testing.loopback import HttpRequest, Loopback, Reaction, response_bytes
from pilot_core.testing.tls import TestAuthority

from pilot_communicator_jsonrpc.client import Jsonrpc
from pilot_communicator_jsonrpc.server.protocol import Protocol
from pilot_communicator_jsonrpc.settings import Settings

FILE = Path(__file__).parent / "recordings" / "exchanges.jsonl"
EXCHANGES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
NAMES = [exchange["name"] for exchange in EXCHANGES]

JOB = Job(
    id=6_612_345_678,
    attempt=1,
    name="example.1",
    label="managed",
    transformation="/usr/bin/sha256sum",
    parameters="in.dat",
    inputs=(InputFile(lfn="in.dat", scope="example", size=4097, checksum="adler32:0a1b2c3d"),),
    outputs=(OutputFile(lfn="out.dat", scope="example", dataset="example.out", rse="EXAMPLE_DISK"),),
    log=OutputFile(lfn="job.log.tgz", scope="example", guid="9b1c3e0a-0000-4000-8000-000000000009"),
    resource_type="SCORE",
    pilot_secrets={"KEY": "value"},
)
FINAL = JobUpdate(
    job_id=JOB.id,
    attempt=1,
    state="finished",
    node="wn1.example",
    start_time=1_700_000_000.0,
    end_time=1_700_000_060.5,
    timing=(1, 2, 3, 4, 5, 6),
    payload_exit_code=0,
    files=(
        FileReport(lfn="out.dat", guid="7f1c3e0a-0000-4000-8000-000000000001", size=65, checksum="adler32:00620062"),
    ),
    metadata={"events": 10},
    metrics={"leak": "0.1"},
)
ASKED = JobRequest(queue="KIT_QUEUE", label="unified", node="wn1.example", memory_mb=2000)


class Caller:
    """A communicator and the patience of the tests."""

    def __init__(self, communicator: Jsonrpc) -> None:
        self._communicator = communicator
        self._waits: Any = {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 60)}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *values: getattr(self._communicator, name)(*values, **self._waits)


CALLS: dict[str, tuple[Callable[[Caller], Any], Any]] = {
    "a server that is there": (lambda server: server.is_alive(), True),
    "no job": (lambda server: server.acquire(ASKED), []),
    "a job": (lambda server: server.acquire(ASKED), [JOB]),
    "a job whose lists differ": (
        lambda server: [(type(job), job.id, job.attempt) for job in server.acquire(ASKED)],
        [(BadJob, JOB.id, 1)],
    ),
    "the last update": (lambda server: server.update(FINAL).commands, ()),
    "an update for a job that is to end": (
        lambda server: server.update(JobUpdate(job_id=JOB.id, attempt=1, state="running")).commands,
        ("tobekilled",),
    ),
    "a state that there is not": (
        lambda server: server.update(JobUpdate(job_id=JOB.id, attempt=1, state="resting")),
        RequestRefused,
    ),
    "the states of two jobs": (
        lambda server: server.job_status([JOB.id, 5]),
        [
            JobStatus(job_id=JOB.id, status="activated", attempt=1),
            JobStatus(job_id=5, status="not found", attempt=None),
        ],
    ),
    "a pilot that starts": (
        lambda server: server.worker_status(WorkerStatus(worker_id=7, harvester_id="h", status="started")),
        None,
    ),
    "a machine": (
        lambda server: server.worker_node(
            WorkerNode(site="S", queue="KIT_QUEUE", host_name="wn1.example", cpu_model="Example CPU", clock_mhz=2400.5)
        ),
        None,
    ),
    "a database that is down": (lambda server: server.acquire(ASKED), CommunicationError),
    "nobody": (lambda server: server.acquire(ASKED), AuthError),
    "somebody without a role": (lambda server: server.acquire(ASKED), AuthError),
}
"""What the client is asked for, and what comes of it: a value, or an error. Others are for the server only."""

WHO = {
    "pilot": Identity(dn="/CN=pilot", fqans=("/example/Role=production",)),
    "stranger": Identity(dn="/CN=stranger"),
    "nobody": None,
}


def to_be_killed(store: MemoryStore) -> None:
    """Have a job whose updates are answered with a command."""
    store.offer(JOB)
    store.answer_with(JOB.id, "tobekilled")


SCENES: dict[str, Callable[[MemoryStore], None]] = {
    "nothing": lambda store: None,
    "a job": lambda store: store.offer(JOB),
    "a job whose lists differ": lambda store: store.offer(JOB, fsize="1,2"),
    "a job that is to end": to_be_killed,
    "a database that is down": lambda store: setattr(store, "available", False),
}


class Token:
    """A credential source with one token."""

    def credential(self, **_: object) -> BearerToken:
        return BearerToken(value="recorded-token", origin="example.pilot", source="the tests")

    def secrets(self) -> tuple[str, ...]:
        return ("recorded-token",)


def respond(exchange: dict[str, Any], folder: Path) -> tuple[int, Any]:
    """Return what the server's side answers."""
    store = MemoryStore()
    SCENES[exchange["scene"]](store)
    context = Context(clock=SystemClock(), log=logging.getLogger("jsonrpc"), work_dir=folder)
    body = json.dumps(exchange["request"]).encode()
    request = ServerRequest(method="POST", path="/jsonrpc", body=body, identity=WHO[exchange["who"]])
    with store.request():
        response = Protocol(NoSettings(), context).respond(request, store)
    return response.status, json.loads(response.body) if response.body else None


@pytest.mark.parametrize("exchange", EXCHANGES, ids=NAMES)
def test_the_server_answers_as_recorded(exchange: dict[str, Any], tmp_path: Path) -> None:
    assert respond(exchange, tmp_path) == (exchange["status"], exchange["answer"])


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path, "Recorded CA")


@pytest.fixture
def play(authority: TestAuthority, tmp_path: Path) -> Iterator[Any]:
    """Start a server that says some things, one after the other, and a client; returns it and what it asked."""
    servers: list[Loopback] = []

    def start(status: int, *answers: Any) -> tuple[Caller, list[Any]]:
        bodies: list[Any] = []

        def react(request: HttpRequest) -> Reaction:
            assert (request.method, request.target) == ("POST", "/below/jsonrpc")
            bodies.append(json.loads(request.body))
            answer = answers[min(len(bodies), len(answers)) - 1]
            body = b"" if answer is None else json.dumps(answer).encode()
            return Reaction(data=response_bytes(status, body, "application/json"))

        tls = authority.server_context()
        servers.append(Loopback(react, tls=lambda: tls))
        context = Context(
            clock=SystemClock(),
            log=logging.getLogger("pilot_core.communicator.jsonrpc"),
            work_dir=tmp_path,
            server_url=f"https://127.0.0.1:{servers[-1].port}/below",
            ca_file=authority.ca_file,
            credential=Token(),
        )
        return Caller(Jsonrpc(Settings(first_pause=0.01), context)), bodies

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("name", CALLS)
def test_the_client_asks_and_understands_as_recorded(name: str, play: Any) -> None:
    exchange = EXCHANGES[NAMES.index(name)]
    server, bodies = play(exchange["status"], exchange["answer"])
    call, expected = CALLS[name]
    if isinstance(expected, type):
        with pytest.raises(expected):
            call(server)
    else:
        assert call(server) == expected
    assert bodies[0] == exchange["request"]


@pytest.mark.parametrize("name", ["the states of two jobs", "a job"])
def test_ids_of_answers_count_not_their_order(name: str, play: Any) -> None:
    exchange = EXCHANGES[NAMES.index(name)]
    call, expected = CALLS[name]
    answer = exchange["answer"]
    if isinstance(answer, list):
        server, _ = play(200, answer[::-1])
        assert call(server) == expected
        wrong: Any = [{**each, "id": each["id"] + 1} for each in answer]
    else:
        wrong = {**answer, "id": answer["id"] + 1}
    server, bodies = play(200, wrong, answer)
    if isinstance(answer, list):
        # asked again, under other ids
        server, bodies = play(200, wrong, [{**each, "id": each["id"] + 2} for each in answer])
        assert call(server) == expected
        assert len(bodies) == 2
    else:
        with pytest.raises(CommunicationError):
            call(server)


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"jobs": []}, "id": 1},
        {"jsonrpc": "1.0", "result": {"jobs": []}, "id": 1},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "result": {"jobs": []}, "error": {"code": 1, "message": ""}, "id": 1},
        {"jsonrpc": "2.0", "result": {"jobs": []}, "id": None},
        {"jsonrpc": "2.0", "result": {"jobs": []}, "id": True},
        {"jsonrpc": "2.0", "result": {"jobs": []}, "id": "1"},
        {"jsonrpc": "2.0", "result": {"jobs": []}},
        {"jsonrpc": "2.0", "result": [], "id": 1},
        {"jsonrpc": "2.0", "result": {"jobs": {}}, "id": 1},
        {"jsonrpc": "2.0", "error": "no", "id": 1},
        {"jsonrpc": "2.0", "error": {"code": "no"}, "id": 1},
        [{"jsonrpc": "2.0", "result": {"jobs": []}, "id": 1}],
        [],
        3,
    ],
    ids=json.dumps,
)
def test_what_is_no_answer_of_json_rpc_is_not_taken_for_one(answer: Any, play: Any) -> None:
    server, bodies = play(200, answer)
    with pytest.raises(CommunicationError):
        server.acquire(ASKED)
    assert len(bodies) == 1


@pytest.mark.parametrize(
    "result", [{"commands": True}, {"commands": "tobekilled"}, {"pilot_secrets": "x"}, {"pilot_secrets": [1]}], ids=str
)
def test_an_answer_to_an_update_that_cannot_be_read_is_an_error(result: Any, play: Any) -> None:
    server, _ = play(200, {"jsonrpc": "2.0", "result": result, "id": 1})
    with pytest.raises(CommunicationError, match="cannot be read"):
        server.update(JobUpdate(job_id=1, attempt=1, state="running", queue="KIT_QUEUE"))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (-32700, RequestRefused),
        (-32600, RequestRefused),
        (-32601, RequestRefused),
        (-32602, RequestRefused),
        (-32603, None),
        (-32001, None),
        (-32002, AuthError),
        (-32003, AuthError),
        (-32004, None),
        (-32099, None),
        (-32000, RequestRefused),
        (4711, RequestRefused),
    ],
)
@pytest.mark.parametrize("call_id", [1, None])
def test_each_code_of_an_error_has_its_consequence(
    code: int, error: type[Exception] | None, call_id: int | None, play: Any
) -> None:
    failed = {"jsonrpc": "2.0", "error": {"code": code, "message": "why"}, "id": call_id}
    server, bodies = play(200, failed, {"jsonrpc": "2.0", "result": {"commands": ["debug"]}, "id": 2})
    if error is None:
        assert server.update(FINAL).commands == ("debug",)
        assert [body["id"] for body in bodies] == [1, 2]
        assert bodies[0]["params"] == bodies[1]["params"]
    else:
        with pytest.raises(error, match="why"):
            server.update(FINAL)
        assert len(bodies) == 1


def test_nothing_is_asked_where_no_state_is_wanted(play: Any) -> None:
    server, bodies = play(200, [])
    assert server.job_status([]) == []
    assert bodies == []
