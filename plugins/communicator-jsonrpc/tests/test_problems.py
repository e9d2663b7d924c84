"""What the server's side says of requests, for the people and the faults of the development server."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pilot_core import Context, NoSettings, RequestedCall, ServerRequest, SystemClock

from pilot_communicator_jsonrpc.server.protocol import Protocol

UPDATE = {"job_id": 7, "state": "running"}


@pytest.fixture
def protocol(tmp_path: Path) -> Protocol:
    return Protocol(NoSettings(), Context(clock=SystemClock(), log=logging.getLogger("jsonrpc"), work_dir=tmp_path))


def call(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}


def posted(said: Any) -> ServerRequest:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return ServerRequest(method="POST", path="/jsonrpc", body=body)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (call("job.update", UPDATE), []),
        (call("job.update", {**UPDATE, "state": "resting"}), [("params.state", "type")]),
        (call("job.update", {"state": "running"}), [("params.job_id", "missing")]),
        (call("job.update", {**UPDATE, "colour": "red"}), [("params.colour", "unknown")]),
        (call("job.update", {**UPDATE, "pilot_id": "x" * 201}), [("params.pilot_id", "truncated")]),
        (
            call("job.update", {**UPDATE, "files": [{"lfn": "a", "size": 1, "checksum": "ad:1"}, 3]}),
            [("params.files[0].checksum", "type"), ("params.files[1]", "type")],
        ),
        (call("job.stop", {}), [("method", "unknown")]),
        (call("job.status", [7]), [("params", "type")]),
        ([call("job.status", {"job_id": 7}), call("job.status", {})], [("[1].params.job_id", "missing")]),
        ([call("job.status", {"job_id": 7}), 3], [("[1]", "refused")]),
        ({"method": "job.status"}, [("", "refused")]),
        ([], [("", "refused")]),
        (b"{", [("", "unreadable")]),
    ],
)
def test_each_problem_is_told_with_its_field(said: Any, found: list[tuple[str, str]], protocol: Protocol) -> None:
    assert [(problem.field, problem.kind) for problem in protocol.problems(posted(said))] == found


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        (call("job.update", UPDATE), [RequestedCall(name="job.update", task="update", jobs=((7, "running"),))]),
        (call("job.acquire", {"queue": "Q"}), [RequestedCall(name="job.acquire", task="acquire", queue="Q")]),
        (
            [call("job.status", {"job_id": 7}), call("job.status", {"job_id": 8})],
            [RequestedCall(name="job.status", jobs=((7, ""),)), RequestedCall(name="job.status", jobs=((8, ""),))],
        ),
        (
            call("job.update", {"job_id": True, "state": 3, "queue": []}),
            [RequestedCall(name="job.update", task="update")],
        ),
        (3, [RequestedCall(name="")]),
        (b"\xff", []),
    ],
)
def test_calls_are_named(said: Any, calls: list[RequestedCall], protocol: Protocol) -> None:
    assert protocol.requested_calls(posted(said)) == calls
