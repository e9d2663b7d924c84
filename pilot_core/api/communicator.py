"""The task "talk to the server": requests, updates and answers in neutral, typed form.

Field names and units are those of the PanDA server's REST API v1 (panda-server 1.0.4), spelled out; a
communicator translates, truncates and drops as its protocol needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pilot_core.api.job import BadJob, Job

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = [
    "Acquired",
    "Communicator",
    "FileReport",
    "JobReader",
    "JobRequest",
    "JobStatus",
    "JobUpdate",
    "ServerAnswer",
    "WorkerNode",
    "WorkerStatus",
]

Acquired = Job | BadJob


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What the pilot offers when it asks for jobs; None and "" = not said."""

    queue: str
    label: str = ""
    """Kind of job (`prodSourceLabel`): managed, user, test ...; `unified` = production's and users' alike."""
    node: str = ""
    """`slot@host` or `host`."""
    jobs: int = 1
    memory_mb: int | None = None
    disk_mb: int | None = None
    remaining_seconds: int | None = None
    """How long the pilot can still run."""
    resource_type: str = ""
    computing_element: str = ""
    task_id: int | None = None
    job_type: str = ""
    harvester_id: str = ""
    worker_id: int | None = None
    scheduler_id: str = ""
    user: str = ""


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """One stored file, for the server's catalogue."""

    lfn: str
    guid: str
    size: int
    checksum: str
    """`adler32:<8 hex>` or `md5:<32 hex>`."""
    surl: str = ""
    rse: str = ""
    events: int | None = None


@dataclass(frozen=True, kw_only=True)
class JobUpdate:
    """The state of a job as told to the server. Plain values only, so that it can be stored and sent later."""

    job_id: int
    attempt: int | None
    state: str
    """starting, running, transferring, holding, finished or failed."""
    sub_state: str = ""
    queue: str = ""
    node: str = ""
    pilot_id: str = ""
    batch_id: str = ""
    scheduler_id: str = ""
    start_time: float | None = None
    """Wall time of the payload's start, seconds since 1970."""
    end_time: float | None = None
    """Wall time of the job's end, seconds since 1970."""
    timing: tuple[int, ...] = ()
    """Whole seconds: get job, stage-in, payload, stage-out, initial setup, setup."""
    core_count: int | None = None
    cpu_seconds: int | None = None
    cpu_unit: str = ""
    max_rss_kb: int | None = None
    input_files: int | None = None
    events: int | None = None
    payload_exit_code: int | None = None
    """What the payload's own process said: `trans_exit_code`."""
    payload_error_code: int | None = None
    payload_error: str = ""
    pilot_error_code: int | None = None
    pilot_error: str = ""
    files: tuple[FileReport, ...] = ()
    """Everything stored; final updates only."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    log_extract: str = ""
    stdout: str = ""
    """The end of the payload's stdout; a communicator that has to cut it keeps the end."""

    @property
    def final(self) -> bool:
        """Whether this ends the job on the server."""
        return self.state in {"finished", "failed"}

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobUpdate:
        """Make the update from what `to_json` returned."""
        fields = dict(value)
        fields["timing"] = tuple(fields.get("timing", ()))
        fields["files"] = tuple(FileReport(**entry) for entry in fields.get("files", ()))
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class ServerAnswer:
    """What the server said to an accepted update."""

    commands: tuple[str, ...] = ()
    """Commands for the pilot (`tobekilled`, `debug`, `softkill` ...); empty = none."""
    heartbeat_seconds: float | None = None
    """Interval that the server asks for, where its protocol can say so."""
    pilot_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def kill(self) -> bool:
        """Whether the server wants the job ended."""
        return "tobekilled" in self.commands

    @property
    def already_done(self) -> bool:
        """Whether the server has had a final update for this job before."""
        return "alreadydone" in self.commands


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """What the server believes of a job."""

    job_id: int
    status: str
    """PanDA's job status, or `not found`, or `unknown` when its database is down."""
    attempt: int | None


@dataclass(frozen=True, kw_only=True)
class WorkerStatus:
    """The life of the pilot itself, for Harvester."""

    worker_id: int
    harvester_id: str
    status: str
    """started or finished."""
    site: str = ""
    node: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerNode:
    """The machine the pilot runs on."""

    site: str
    queue: str
    host_name: str
    cpu_model: str
    logical_cpus: int | None = None
    sockets: int | None = None
    cores_per_socket: int | None = None
    threads_per_core: int | None = None
    cpu_architecture: str = ""
    cpu_architecture_level: str = ""
    clock_mhz: float | None = None
    memory_mb: int | None = None
    disk_gb: int | None = None


class Communicator(Protocol):
    """One server's protocol. Methods may be called from several threads.

    One that speaks HTTP tells every exchange to its context's `traffic`, if there is one (`pilot_core.api.traffic`): it
    can then be recorded, and replayed against a server that answers what was recorded. Others are replayed by their
    calls.

    All raise `CommunicationError` once the retry budget or the deadline is used up, `RequestRefused` when repeating
    cannot help, `AuthError` for a credential, `Cancelled` when called off while waiting. Each retries inside itself.
    """

    def is_alive(self, *, cancel: CancelToken, deadline: Deadline) -> bool:
        """Say whether the server answers."""
        ...

    def acquire(self, request: JobRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[Acquired]:
        """Get jobs; an empty answer means that the server has none.

        A description that makes no sense comes back as a `BadJob`. The server's protocol has no key for a lost
        answer: only what surely did not reach the server may be repeated silently.
        """
        ...

    def update(self, update: JobUpdate, *, cancel: CancelToken, deadline: Deadline) -> ServerAnswer:
        """Tell the server a job's state, again and again until it acknowledges it."""
        ...

    def job_status(self, job_ids: Sequence[int], *, cancel: CancelToken, deadline: Deadline) -> Sequence[JobStatus]:
        """Ask what the server believes of some jobs."""
        ...

    def worker_status(self, status: WorkerStatus, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Tell Harvester, through the server, that this pilot has started or finished."""
        ...

    def worker_node(self, node: WorkerNode, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Describe the machine."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


@runtime_checkable
class JobReader(Protocol):
    """What a communicator may do besides: read a job's description out of a file, for `pilot-core run-job`.

    A communicator that does is made without a server, too: `Context.server_url` is empty then, no method but
    `read_job` and `close` is called, and no connection may be opened.
    """

    def read_job(self, description: Any) -> Acquired:
        """Translate a job's description as the server sends it, given as JSON data, and as `acquire` would.

        `description` may be the job's alone or the server's whole answer with it. A description that makes no sense
        comes back as a `BadJob`. Raises `JobDescriptionError` for what is no description of exactly one job.
        """
        ...
