"""What a communicator is tested against: the other side of its protocol, for which `ProtocolServer` is ready.

A protocol that is no HTTP (a spool directory, a message queue) brings a side of its own, with these methods; whatever
such a side cannot do it leaves out of `faults` and `broken`, and the clauses that need it do not apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pilot_core.api.communicator import JobUpdate, WorkerNode, WorkerStatus
    from pilot_core.api.job import Job

__all__ = ["BROKEN", "FAULTS", "OtherSide"]

FAULTS: Mapping[str, str] = {
    "refuse": "it cannot be reached at all, until `heal`",
    "reset": "the connection ends after the request was received and before it was carried out",
    "lost-reply": "the request is carried out, and the connection ends without an answer",
    "hang": "the request is received, not carried out, and nothing is answered",
    "truncated": "the request is carried out, and half of the answer comes",
    "wrong-length": "the request is carried out; the answer is announced shorter than it is",
    "garbage": "not carried out; the answer is bytes that mean nothing, as if all were well",
    "no-protocol": "not carried out; what comes is not even the transport's (no HTTP)",
    "html": "not carried out; a portal's HTML page comes, as if all were well",
    "empty": "not carried out; an empty answer comes, as if all were well",
    "drip": "the request is carried out; the answer comes in small pieces",
    "chunked": "the request is carried out; the answer comes in chunks, its length is not announced",
    "endless": "not carried out; the answer comes in small pieces and never ends",
    "error": "not carried out: an error of the server (HTTP 500)",
    "busy": "not carried out: come again later (HTTP 503), `seconds` later where that is given (Retry-After)",
    "busy-odd": "as `busy`, with a Retry-After that is a date long ago, a word, or below 0",
    "bad-request": "not carried out: the request makes no sense to the server (HTTP 400)",
    "redirect": "not carried out; the server points to another place, `/elsewhere` (HTTP 302)",
    "echo": "not carried out: a refusal (HTTP 400) whose text repeats the request's headers, the credential among them",
    "database": "the server is there, its database is not: it says so in its own way",
    "unauthorized": "not carried out: the credential is not accepted (HTTP 401)",
    "denied": "the credential is not accepted (it has expired), said in the protocol's own way",
    "anonymous": "the server sees no credential, said in the protocol's own way",
    "no-role": "the credential is fine and lacks the role that pilots need, said in the protocol's own way",
    "wrong-name": "the server's certificate is another host's",
    "expired-certificate": "the server's certificate has expired",
}
"""What may go wrong on the way or at the server: name -> what happens then."""

BROKEN: Mapping[str, str] = {
    "no-program": "it names no program to run",
    "bad-size": "an input file's size is no number",
    "lists-differ": "there are more input files than sizes",
    "bad-checksum": "an input file's checksum is none",
}
"""What may be wrong with a job's description: name -> what it is."""


class OtherSide(Protocol):
    """A real server of one protocol, in this process, that tells what it understood.

    Its attributes may be properties. Everything may be called while requests are being answered.
    """

    url: str
    """For `Context.server_url`."""
    ca_file: Path | None
    """For `Context.ca_file`; None where it speaks no TLS: then the communicator is given no credential either."""
    faults: frozenset[str]
    """Which of `FAULTS` it can do."""
    broken: frozenset[str]
    """Which of `BROKEN` it can offer."""

    def offer(self, *jobs: Job) -> None:
        """Have jobs handed out, in this order, each to one request."""
        ...

    def offer_broken(self, job: Job, how: str) -> None:
        """Have a job handed out whose description is broken in one of the ways of `BROKEN`."""
        ...

    def dispatched(self) -> Sequence[int]:
        """Return the PandaIDs of the jobs that were handed out, in order, one entry for each handing-out."""
        ...

    def asked(self) -> Sequence[Mapping[str, Any]]:
        """Return what each request for jobs was understood to say: fields of `JobRequest`, only those it can see."""
        ...

    def understood(self, job_id: int) -> Sequence[JobUpdate]:
        """Return the updates of a job that were carried out, as they were understood, repetitions included."""
        ...

    def command(self, job_id: int, command: str) -> None:
        """Have the next updates of a job answered with a command; `alreadydone` as if it had had its final update."""
        ...

    def workers(self) -> Sequence[WorkerStatus]:
        """Return what pilots told of themselves; fields that it cannot see are empty."""
        ...

    def nodes(self) -> Sequence[WorkerNode]:
        """Return the machines that pilots told of; fields that it cannot see are empty."""
        ...

    def fault(self, name: str, *, times: int | None = 1, seconds: float | None = None) -> None:
        """Have the next requests (None = all, until `heal`) meet one of `FAULTS`."""
        ...

    def heal(self) -> None:
        """End every fault."""
        ...

    def requests(self) -> int:
        """Return how many requests were received, in whole, faulty ones included."""
        ...

    def await_requests(self, count: int) -> None:
        """Return once so many requests were received; raises `TimeoutError` after some seconds."""
        ...

    def seen(self) -> str:
        """Return, for what must not be there, the addresses and headers of all requests as one text."""
        ...
