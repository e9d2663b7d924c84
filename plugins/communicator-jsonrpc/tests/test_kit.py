"""Both sides do what pilot-core asks of them: each clause of the two conformance kits is a test here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pilot_core import JobRequest, JobUpdate, ServerRequest, ServerResponse
from pilot_core.testing import CommunicatorKit, ProtocolServer, ServerProtocolKit

# YOUR CODE: what your protocol has no place for, with the reason
DROPPED = {"JobRequest.job_type": "the development server does not choose jobs by it"}


class TestJsonrpc(CommunicatorKit):
    """The clauses for the communicator, which talks to the server's side over TLS, with every fault of a network."""

    dropped = DROPPED

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "communicator.jsonrpc"

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[ProtocolServer]:
        """The other side."""
        with ProtocolServer("server-protocol.jsonrpc", tmp_path) as server:
            yield server


class Dialect:
    """How a client speaks, by the definition of the protocol: written without the communicator's code."""

    needs_role = True

    def acquire(self, request: JobRequest) -> ServerRequest:
        """Ask for jobs."""
        return post("acquire", {name: value for name, value in vars(request).items() if value not in (None, "")})

    def acquired(self, response: ServerResponse) -> Sequence[int] | None:
        """Read the PandaIDs of jobs."""
        told = read(response)
        return None if told is None else [job["description"]["PandaID"] for job in told["jobs"]]

    def update(self, update: JobUpdate) -> ServerRequest:
        """Tell a job's state."""
        # YOUR CODE: every field that your protocol carries
        return post("update", update.to_json())

    def commands(self, response: ServerResponse) -> Sequence[str] | None:
        """Read the commands for a job."""
        told = read(response)
        return None if told is None else list(told["commands"])

    def status(self, job_ids: Sequence[int]) -> ServerRequest:
        """Ask for the states of jobs."""
        return post("status", {"job_ids": list(job_ids)})

    def statuses(self, response: ServerResponse) -> Mapping[int, str] | None:
        """Read the states of jobs."""
        told = read(response)
        return None if told is None else {row["job_id"]: row["status"] for row in told["jobs"]}


def post(call: str, values: Mapping[str, Any]) -> ServerRequest:
    """Return a request."""
    body = json.dumps(values).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    return ServerRequest(method="POST", path=f"/jsonrpc/v1/{call}", headers=headers, body=body)


def read(response: ServerResponse) -> Any:
    """Return an answer, None if it is a refusal."""
    told = json.loads(response.body)
    return told if response.status == 200 and told["ok"] else None


class TestJsonrpcServer(ServerProtocolKit):
    """The clauses for the server's side, over a store in memory."""

    dropped = DROPPED

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point."""
        return "server-protocol.jsonrpc"

    @pytest.fixture
    def dialect(self) -> Dialect:
        """How a client speaks."""
        return Dialect()
