"""The task "serve a protocol in the development server": neutral requests, a job store, neutral responses.

A `ServerProtocol` maps a request and a `JobStore` to a response and knows nothing of HTTP libraries or sockets. The
store keeps what PanDA's database keeps and applies its rules (states, attempts, commands, the Adder), so that two
protocols over one store answer consistently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

__all__ = [
    "ExplainsRequests",
    "FieldProblem",
    "Identity",
    "JobFilter",
    "JobRecord",
    "JobStore",
    "NamesCalls",
    "RequestedCall",
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
    user: str = ""
    """The name by which jobs and secrets of a user are matched: the last CN of a DN, without digits."""
    uses_secrets: bool = False
    """Whether the user's secrets go with the job (`specialHandling` has `us`)."""
    priority: int = 0
    node: str = ""
    """The pilot's machine, as its last request told it."""
    heartbeats: Sequence[float] = ()
    """Wall time of every update of the pilot that was applied or ignored, not of those that were refused."""
    file_status: Mapping[str, str] = field(default_factory=dict)
    """What the Adder made of each file: ready, failed, nooutput, skipped."""


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """What a pilot that asks for jobs can take; None or "" = any."""

    queue: str
    labels: tuple[str, ...] = ()
    """A pilot's `unified` is no label of a job: it means production's and users'."""
    limit: int = 1
    memory_mb: int | None = None
    disk_mb: int | None = None
    remaining_seconds: int | None = None
    resource_type: str = ""
    task_id: int | None = None
    user: str = ""
    processing_types: tuple[str, ...] = ()
    """Where both `labels` and these are given, either one is enough."""
    node: str = ""
    background: bool = False
    """Only jobs that may run in the background."""
    computing_element: str | None = None
    scheduler_id: str | None = None
    harvester_id: str = ""
    """With `worker_id`: whom the jobs are handed to."""
    worker_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class UpdateOutcome:
    """What an update did: the command for the pilot, and secrets that go with it."""

    command: str = "NULL"
    pilot_secrets: str | None = None


class JobStore(Protocol):
    """What protocols may ask of the server's database. Safe to call from several threads.

    Every method may raise `StoreUnavailable`. Where PanDA's database answers with a text, that text is returned.
    """

    def dispatch(self, wanted: JobFilter) -> Sequence[JobRecord]:
        """Hand out up to `limit` activated jobs, each to one caller only, and mark them sent."""
        ...

    def get(self, job_id: int) -> JobRecord | None:
        """Return a job, or None."""
        ...

    def sent_count(self, queue: str, seconds: float) -> int:
        """Count the production jobs (label managed or test) of a queue that were handed out in the last seconds."""
        ...

    def update(self, job_id: int, state: str, *, attempt: int | None, values: Mapping[str, Any]) -> UpdateOutcome:
        """Apply a pilot's update (`values` by their v1 names) by the rules of PanDA's database.

        Raises `StoreUnavailable` for a value that does not fit its column; then nothing of the update is kept.
        """
        ...

    def add_metadata(self, job_id: int, text: str, *, state: str = "") -> bool:
        """Keep a job's metadata, the first only; False for an unknown job. `state` is what the pilot reports."""
        ...

    def add_log(self, job_id: int, text: str) -> None:
        """Keep an excerpt of the pilot's log (4000 characters)."""
        ...

    def add_stdout(self, job_id: int, text: str) -> None:
        """Keep the tail of the payload's stdout of a job that is not finished (2048 characters)."""
        ...

    def kill(self, job_id: int, *, user: str = "", production: bool = True, code: int | None = None) -> bool:
        """Have a job killed: at once unless it is running, else by `tobekilled` with its next updates.

        False for an unknown or archived job, one that is being killed already, and one that this user may not kill.
        """
        ...

    def set_command(self, job_id: int, command: str) -> tuple[bool, str]:
        """Set the command that the next updates are answered with; say whether it was accepted, or why not."""
        ...

    def set_debug(self, job_id: int, debug: bool) -> str:
        """Switch a job's debug mode; return `Succeeded` or why not."""
        ...

    def worker_status(self, harvester_id: str, worker_id: str, values: Mapping[str, Any]) -> bool:
        """Keep what a pilot said about itself (`status`, `node_id`)."""
        ...

    def worker_node(self, site: str, host_name: str, values: Mapping[str, Any]) -> tuple[bool, str]:
        """Keep what a pilot said about its machine; `host_name` may be `slot@host`."""
        ...

    def worker_gpu(self, site: str, host_name: str, values: Mapping[str, Any]) -> tuple[bool, str]:
        """Keep what a pilot said about one kind of GPU of its machine (`vendor`, `model`, `count` ...)."""
        ...

    def queue_status(self, queue: str) -> str:
        """Return `online`, `test` ... or "" for an unknown queue."""
        ...

    def queue_data(self, queue: str) -> Mapping[str, Any] | None:
        """Return the queue's configuration (`queuedata.json`), or None for an unknown queue."""
        ...

    def secrets(self, owner: str) -> str:
        """Return a user's secrets, or those of all pilots (owner ""), as a JSON object in a string; `{}` for none."""
        ...

    def set_secret(self, owner: str, key: str | None, value: str | None) -> None:
        """Keep a secret; without a value forget it, without a key forget all of the owner."""
        ...

    def credential(self, kind: str, name: str) -> str | None:
        """Return what `creds/*` hands out: kind `proxy`, `token`, `token-key` or `key`."""
        ...

    def permitted(self, user: str, flag: str) -> bool:
        """Say whether a user has a flag of PanDA's `USERS.GRIDPREF`: p (proxies, tokens), k (keys), t (token keys)."""
        ...

    def resource_types(self) -> Sequence[Mapping[str, Any]]:
        """Return the definitions of `SCORE`, `MCORE` ..."""
        ...


class ServerProtocol(Protocol):
    """One protocol of a PanDA server."""

    def handles(self, request: ServerRequest) -> bool:
        """Say whether this protocol answers the request (by its path)."""
        ...

    def respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Answer as the real server does, mistakes included. May raise nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class FieldProblem:
    """What is wrong with one field of a request, for the people who look at the exchange."""

    field: str
    """Path of the field: `node`, `job_list[2].job_id`, `header:authorization`; "" = the request as a whole."""
    kind: str
    """missing, unknown, type, truncated (cut to its column), ignored (left out), refused, or unreadable (the body)."""
    message: str
    """One line, without the value where that could be a secret."""


@runtime_checkable
class ExplainsRequests(Protocol):
    """What a `ServerProtocol` may have besides: it says what is wrong with a request, field by field.

    A real server names the first mistake at most; this names all of them. It changes no answer.
    """

    def problems(self, request: ServerRequest) -> Sequence[FieldProblem]:
        """Return everything that is wrong with a request that it handles; empty = nothing. May raise nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class RequestedCall:
    """What one call in a request is about, for the server's faults, which choose by it, and for people who look on."""

    name: str
    """What the protocol calls it: `job.update`."""
    task: str = ""
    """acquire (it asks for jobs), update (it tells a job's state), or "" for anything else."""
    jobs: Sequence[tuple[int, str]] = ()
    """PandaIDs, each with the state that is told of it, "" for none."""
    queue: str = ""


@runtime_checkable
class NamesCalls(Protocol):
    """What a `ServerProtocol` may have besides, where address and parameters are not PanDA's: it names the calls.

    Without it the last part of the path counts as the call's name, and jobs are looked for by PanDA's names.
    """

    def requested_calls(self, request: ServerRequest) -> Sequence[RequestedCall]:
        """Return the calls in a request that it handles, in order; of what cannot be read none. May raise nothing."""
        ...
