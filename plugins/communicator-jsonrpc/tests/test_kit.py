"""Both sides do what pilot-core asks of them: each clause of the two conformance kits is a test here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pilot_core import JobRequest, JobUpdate, ServerRequest, ServerResponse
from pilot_core.testing import CommunicatorKit, ProtocolServer, ServerProtocolKit

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
        return post(
            call("job.acquire", {name: value for name, value in vars(request).items() if value not in (None, "")})
        )

    def acquired(self, response: ServerResponse) -> Sequence[int] | None:
        """Read the PandaIDs of jobs."""
        told = read(response)
        return None if told is None else [job["job_id"] for job in told["jobs"]]

    def update(self, update: JobUpdate) -> ServerRequest:
        """Tell a job's state."""
        return post(call("job.update", update.to_json()))

    def commands(self, response: ServerResponse) -> Sequence[str] | None:
        """Read the commands for a job."""
        told = read(response)
        return None if told is None else list(told["commands"])

    def status(self, job_ids: Sequence[int]) -> ServerRequest:
        """Ask for the states of jobs."""
        return post([call("job.status", {"job_id": job_id}, job_id) for job_id in job_ids])

    def statuses(self, response: ServerResponse) -> Mapping[int, str] | None:
        """Read the states of jobs."""
        told = json.loads(response.body)
        if not isinstance(told, list) or any("error" in each for each in told):
            return None
        return {each["id"]: each["result"]["status"] for each in told}


def call(method: str, params: Mapping[str, Any], call_id: int | str = "kit") -> dict[str, Any]:
    """Return a request object."""
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": call_id}


def post(said: Any) -> ServerRequest:
    """Return a request."""
    body = json.dumps(said).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    return ServerRequest(method="POST", path="/jsonrpc", headers=headers, body=body)


def read(response: ServerResponse) -> Any:
    """Return a result, None if the answer is an error."""
    told = json.loads(response.body)
    if told.get("jsonrpc") != "2.0" or ("result" in told) == ("error" in told):
        raise ValueError("no answer of JSON-RPC 2.0")
    return told.get("result")


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
