"""The task "serve a protocol in the development server": neutral requests, a job store, neutral responses.

A `ServerProtocol` maps a request and a `JobStore` to a response and knows nothing of HTTP libraries or sockets. The
store keeps what PanDA's database keeps and applies its rules (states, attempts, commands, the Adder), so that two
protocols over one store answer consistently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = [
    "Identity",
    "JobFilter",
    "JobRecord",
    "JobStore",
    "ServerProtocol",
    "ServerRequest",
    "ServerResponse",
    "StoreUnavailable",
    "UpdateOutcome",
]


class StoreUnavailable(Exception):
    """The database is down, or refused the statement (value beyond its column, NUL byte ...)."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who sent a request, after TLS and token were verified."""

    dn: str
    """Subject of the certificate (without proxy levels), or the token's name."""
    fqans: tuple[str, ...] = ()
    """VOMS attributes, or what a token's role amounts to: `/atlas/Role=production`."""

    @property
    def production(self) -> bool:
        """Whether it has a production role, which pilots need: `^/[^/]+/(usatlas/)?Role=production`."""
        for fqan in self.fqans:
            parts = fqan.split("/")
            if len(parts) >= 3 and not parts[0] and "Role=production" in parts[2:4]:
                return True
        return False


@dataclass(frozen=True, kw_only=True)
class ServerRequest:
    """One HTTP request, neutral."""

    method: str
    path: str
    """Undecoded path, without query."""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""
    secure: bool = True
    """Whether it came over TLS."""
    identity: Identity | None = None
    """None = anonymous."""
    denied: str = ""
    """Why a credential that was sent is not accepted; protocols answer as the real server does."""


@dataclass(frozen=True, kw_only=True)
class ServerResponse:
    """One HTTP response, neutral."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One job as the server's database holds it."""

    id: int
    queue: str
    status: str
    """activated, sent, starting, running, holding, transferring, finished, failed or cancelled."""
    attempt: int
    label: str
    description: Mapping[str, Any]
    """The job as it is dispatched: PanDA's field names and encodings."""
    command: str = ""
    """What the next update is answered, without `debug`."""
    debug: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The last accepted values of the updates, by their v1 names."""
    report: str = ""
    """`job_output_report` of the final update."""
    metadata: str = ""
    log: str = ""
    stdout: str = ""
    reported_state: str = ""
    """finished or failed, once the pilot said so."""
    errors: Mapping[str, Any] = field(default_factory=dict)
    """Error codes and texts set by the server itself (`ddmErrorCode`, `ddmErrorDiag` ...)."""
    history: Sequence[tuple[float, str]] = ()
    """Wall time and status of every change."""


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """What a pilot that asks for jobs can take; None or "" = any."""

    queue: str
    labels: tuple[str, ...] = ()
    limit: int = 1
    memory_mb: int | None = None
    disk_mb: int | None = None
    remaining_seconds: int | None = None
    resource_type: str = ""
    task_id: int | None = None
    user: str = ""
    processing_types: tuple[str, ...] = ()
    node: str = ""


@dataclass(frozen=True, kw_only=True)
class UpdateOutcome:
    """What an update did: the command for the pilot, and secrets that go with it."""

    command: str = "NULL"
    pilot_secrets: str | None = None


class JobStore(Protocol):
    """What protocols may ask of the server's database. Safe to call from several threads.

    Every method may raise `StoreUnavailable`.
    """

    def dispatch(self, wanted: JobFilter) -> Sequence[JobRecord]:
        """Hand out up to `limit` activated jobs, each to one caller only, and mark them sent."""
        ...

    def get(self, job_id: int) -> JobRecord | None:
        """Return a job, or None."""
        ...

    def update(self, job_id: int, state: str, *, attempt: int | None, values: Mapping[str, Any]) -> UpdateOutcome:
        """Apply a pilot's update (`values` by their v1 names) by the rules of PanDA's database."""
        ...

    def add_metadata(self, job_id: int, text: str) -> None:
        """Keep a job's metadata."""
        ...

    def kill(self, job_id: int) -> bool:
        """Have a job killed: at once if no pilot has it, else by `tobekilled` with its next update."""
        ...

    def set_command(self, job_id: int, command: str) -> bool:
        """Set the command that the next updates are answered with; False for an unknown job."""
        ...

    def set_debug(self, job_id: int, debug: bool) -> bool:
        """Switch a job's debug mode; False for an unknown job."""
        ...

    def worker_status(self, harvester_id: str, worker_id: str, values: Mapping[str, Any]) -> bool:
        """Keep what a pilot said about itself."""
        ...

    def worker_node(self, site: str, host_name: str, values: Mapping[str, Any]) -> bool:
        """Keep what a pilot said about its machine."""
        ...

    def queue_status(self, queue: str) -> str:
        """Return `online`, `test` ... or "" for an unknown queue."""
        ...


class ServerProtocol(Protocol):
    """One protocol of a PanDA server."""

    def handles(self, request: ServerRequest) -> bool:
        """Say whether this protocol answers the request (by its path)."""
        ...

    def respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Answer as the real server does, mistakes included. May raise nothing."""
        ...
