"""A job store in memory, for testing server protocols: PanDA's rules as far as a pilot can meet them.

What the rules are was observed on panda-server 1.0.4: a job is handed out once; an update for an unknown job or another
attempt, or after the end, is answered `tobekilled`; one more final update is answered `alreadydone`; a value that does
not fit its column loses the whole update. The development server's store has all of PanDA's rules.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilot_core.api.server import JobFilter, JobRecord, StoreUnavailable, UpdateOutcome
from pilot_core.testing import server_words as words

if TYPE_CHECKING:
    from pilot_core.api.communicator import JobUpdate, WorkerNode, WorkerStatus
    from pilot_core.api.job import Job

__all__ = ["QUEUE", "MemoryStore"]

QUEUE = "KIT_QUEUE"
"""The queue that a store has jobs for unless it is told another."""
FINAL = frozenset({"finished", "failed"})
_PARKED = frozenset({"holding", "transferring"})
_OVER = frozenset({"finished", "failed", "cancelled"})
_STDOUT, _LOG, _COMMAND = 2048, 4000, 250
"""Characters that the database takes of the payload's stdout, the pilot's log, and a command."""


@dataclass
class _Held:
    """One job."""

    id: int
    description: Mapping[str, Any]
    attempt: int
    label: str = ""
    user: str = ""
    uses_secrets: bool = False
    debug: bool = False
    status: str = "activated"
    command: str = ""
    parked_by_pilot: bool = False
    """Whether it is in `holding` or `transferring` because the pilot said so itself."""
    fields: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    updates: list[JobUpdate] = field(default_factory=list)


def _decided(job: _Held, state: str) -> tuple[str, str]:
    """Return the command that an update is answered with, and the job's new status; "" = nothing of it is kept.

    The rules are those of `updateJobStatus` in panda-server 1.0.4: `holding` is where a finished or failed job waits,
    unless the pilot itself asked for it.
    """
    reply = ",".join(filter(None, ("debug" if job.debug else "", job.command))) or "NULL"
    wanted = "holding" if state in FINAL else state
    if job.status in _PARKED:
        if wanted == "holding" and not (job.status == state == "holding") and not job.parked_by_pilot:
            return "alreadydone", ""
        if wanted in {"running", "starting"} or (job.status == "holding" and state in _PARKED):
            return reply, ""
    return reply, job.status if (job.status, wanted) == ("running", "starting") else wanted


class _Request(threading.local):
    """What the request says that this thread answers just now."""

    def __init__(self) -> None:
        self.open = False
        self.available = True
        self.updates: list[tuple[_Held, str, int | None, dict[str, Any]]] = []
        self.texts: dict[int, dict[str, str]] = {}


class MemoryStore:
    """Implements `JobStore`; safe to call from several threads."""

    def __init__(self, queue: str = QUEUE) -> None:
        self.queue = queue
        self.available = True
        """False = every method raises `StoreUnavailable`, as with a database that is down."""
        self.filters: list[JobFilter] = []
        """What jobs were asked for, one entry a call of `dispatch`."""
        self.dispatched: list[int] = []
        """PandaIDs in the order of their handing out."""
        self.workers: list[WorkerStatus] = []
        self.nodes: list[WorkerNode] = []
        self.calls = 0
        """How many of this class's methods were called that protocols may call."""
        self._jobs: dict[int, _Held] = {}
        self._secrets: dict[str, dict[str, str]] = {}
        self._lock = threading.RLock()
        self._request = _Request()

    # -- for tests -----------------------------------------------------------------------------------------------

    def offer(self, job: Job, **changed: Any) -> None:
        """Have a job handed out. `changed` are fields of its description that are to be other than they should."""
        held = _Held(job.id, {**words.described(job), **changed}, job.attempt or 0, job.label, job.user)
        held.uses_secrets, held.debug = bool(job.secrets), job.debug
        with self._lock:
            self._jobs[job.id] = held
            if job.secrets:
                self._secrets[job.user] = dict(job.secrets)
            if job.pilot_secrets:
                self._secrets[""] = dict(job.pilot_secrets)

    def answer_with(self, job_id: int, command: str) -> None:
        """Have the next updates of a job answered with a command."""
        with self._lock:
            self._jobs[job_id].command = command

    def understood(self, job_id: int) -> list[JobUpdate]:
        """Return the updates of a job that were carried out, in order, repetitions included."""
        with self._lock:
            return list(self._jobs[job_id].updates) if job_id in self._jobs else []

    @contextmanager
    def request(self, *, available: bool = True) -> Iterator[None]:
        """Answer one request in this thread: what it says of a job, in whatever order, is one update.

        `available` False = the database is down for this request only.
        """
        scratch = self._request
        scratch.open, scratch.available = True, available
        scratch.updates, scratch.texts = [], {}
        try:
            yield
        finally:
            scratch.open, scratch.available = False, True
            with self._lock:
                for held, state, attempt, values in scratch.updates:
                    texts = scratch.texts.get(held.id, {})
                    held.updates.append(words.understood_update(held.id, state, attempt, {**values, **texts}))

    # -- jobs ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self.calls += 1
            if not (self.available and self._request.available):
                raise StoreUnavailable("could not connect to the database")
            yield

    def dispatch(self, wanted: JobFilter) -> Sequence[JobRecord]:
        """Hand out up to `limit` activated jobs."""
        with self._transaction():
            self.filters.append(wanted)
            waiting = [job for job in self._jobs.values() if self._fits(job, wanted)]
            handed_out = waiting[: max(0, wanted.limit)]
            for job in handed_out:
                job.status = "sent"
                self.dispatched.append(job.id)
            return [self._record(job) for job in handed_out]

    def _fits(self, job: _Held, wanted: JobFilter) -> bool:
        """Say whether a pilot may have a job."""
        if job.status != "activated" or wanted.queue != self.queue:
            return False
        told, needs = job.description, ((wanted.memory_mb, "minRamCount"), (wanted.disk_mb, "maxDiskCount"))
        return (
            (not wanted.labels or not job.label or job.label in wanted.labels)
            and all(not limit or int(told[name]) <= limit for limit, name in needs)
            and wanted.task_id in (None, told["taskID"])
        )

    def get(self, job_id: int) -> JobRecord | None:
        """Return a job, or None."""
        with self._transaction():
            job = self._jobs.get(job_id)
            return self._record(job) if job else None

    def _record(self, job: _Held) -> JobRecord:
        return JobRecord(
            id=job.id,
            queue=self.queue,
            status=job.status,
            attempt=job.attempt,
            label=job.label,
            description=dict(job.description),
            command=job.command,
            debug=job.debug,
            fields=dict(job.fields),
            report=str(job.fields.get("job_output_report", "")),
            metadata=job.texts.get("meta_data", ""),
            log=job.texts.get("pilot_log", ""),
            stdout=job.texts.get("stdout", ""),
            user=job.user,
            uses_secrets=job.uses_secrets,
        )

    def sent_count(self, queue: str, seconds: float) -> int:  # noqa: ARG002  (no time passes here)
        """Count the jobs that were handed out and not heard of since."""
        with self._transaction():
            return sum(job.status == "sent" for job in self._jobs.values() if queue == self.queue)

    def update(self, job_id: int, state: str, *, attempt: int | None, values: Mapping[str, Any]) -> UpdateOutcome:
        """Apply a pilot's update."""
        with self._transaction():
            job = self._jobs.get(job_id)
            if job is None or job.status in _OVER or attempt not in (None, job.attempt):
                return UpdateOutcome(command="tobekilled")
            reply, status = _decided(job, state)
            # what nothing is kept of is not looked at either
            kept = words.check_values(values) if status else dict(values)
            if status:
                job.status, job.fields = status, job.fields | kept
                job.parked_by_pilot = state in _PARKED or (job.parked_by_pilot and state not in FINAL)
            if self._request.open:
                self._request.updates.append((job, state, attempt, kept))
            else:
                job.updates.append(words.understood_update(job_id, state, attempt, kept))
            return UpdateOutcome(command=reply, pilot_secrets=self.secrets("") if "debug" in reply else None)

    def add_metadata(self, job_id: int, text: str, *, state: str = "") -> bool:  # noqa: ARG002
        """Keep a job's metadata; False for an unknown job and for text that the database cannot hold."""
        with self._transaction():
            try:
                return self._keep(job_id, "meta_data", text)
            except StoreUnavailable:
                return False

    def add_log(self, job_id: int, text: str) -> None:
        """Keep an excerpt of the pilot's log."""
        self._add_text(job_id, "pilot_log", text[:_LOG])

    def add_stdout(self, job_id: int, text: str) -> None:
        """Keep the tail of the payload's stdout; what is longer than the column is lost."""
        if len(text) <= _STDOUT:
            self._add_text(job_id, "stdout", text)

    def _add_text(self, job_id: int, name: str, text: str) -> None:
        with self._transaction():
            try:
                self._keep(job_id, name, text)
            except StoreUnavailable:
                return

    def _keep(self, job_id: int, name: str, text: str) -> bool:
        job = self._jobs.get(job_id)
        words.check_text(name, text)
        if job is None:
            return False
        job.texts[name] = text
        self._request.texts.setdefault(job_id, {})[name] = text
        return True

    # -- what users do -------------------------------------------------------------------------------------------

    def kill(self, job_id: int, *, user: str = "", production: bool = True, code: int | None = None) -> bool:  # noqa: ARG002
        """Have a job killed."""
        with self._transaction():
            job = self._jobs.get(job_id)
            if job is None or job.status in _OVER or job.command == "tobekilled":
                return False
            job.command = "tobekilled"
            if job.status != "running":
                job.status = "cancelled"
            return True

    def set_command(self, job_id: int, command: str) -> tuple[bool, str]:
        """Set the command that the next updates are answered with."""
        with self._transaction():
            job = self._jobs.get(job_id)
            if len(command) > _COMMAND:
                return False, f"command string too long. must be less than {_COMMAND} chars"
            if job is None or job.status in _OVER:
                return False, f"no active job with PandaID={job_id}"
            if job.command == "tobekilled":
                return False, "job is being killed"
            job.command = command
            return True, "command received"

    def set_debug(self, job_id: int, debug: bool) -> str:
        """Switch a job's debug mode."""
        with self._transaction():
            job = self._jobs.get(job_id)
            if job is None:
                return f"PandaID={job_id} not found in active DB"
            job.debug = debug
            return "Succeeded"

    # -- workers, queues, secrets --------------------------------------------------------------------------------

    def worker_status(self, harvester_id: str, worker_id: str, values: Mapping[str, Any]) -> bool:
        """Keep what a pilot said about itself."""
        with self._transaction():
            try:
                self.workers.append(words.worker_status(harvester_id, worker_id, values))
            except ValueError:
                raise StoreUnavailable(f"worker_id: invalid input syntax for type bigint: {worker_id!r}") from None
            return True

    def worker_node(self, site: str, host_name: str, values: Mapping[str, Any]) -> tuple[bool, str]:
        """Keep what a pilot said about its machine."""
        with self._transaction():
            self.nodes.append(words.worker_node(site, host_name, values))
            return True, "Inserted new worker node."

    def worker_gpu(self, site: str, host_name: str, values: Mapping[str, Any]) -> tuple[bool, str]:  # noqa: ARG002
        """Take what a pilot said about its GPUs."""
        with self._transaction():
            return True, "Inserted new worker node GPU."

    def queue_status(self, queue: str) -> str:
        """Return `online` for the store's queue."""
        with self._transaction():
            return "online" if queue == self.queue else ""

    def queue_data(self, queue: str) -> Mapping[str, Any] | None:
        """Return the queue's configuration."""
        with self._transaction():
            return {"nickname": queue, "status": "online"} if queue == self.queue else None

    def secrets(self, owner: str) -> str:
        """Return a user's secrets as a JSON object in a string."""
        with self._transaction():
            return json.dumps(self._secrets.get(owner, {}))

    def set_secret(self, owner: str, key: str | None, value: str | None) -> None:
        """Keep a secret; without a value forget it, without a key forget all of the owner."""
        with self._transaction():
            kept = {} if key is None else dict(self._secrets.get(owner, {}))
            if key is not None:
                kept.pop(key, None)
            if key is not None and value is not None:
                kept[key] = value
            self._secrets[owner] = kept

    def credential(self, kind: str, name: str) -> str | None:  # noqa: ARG002  (there is none)
        """Return nothing: no credential is kept here."""
        with self._transaction():
            return None

    def permitted(self, user: str, flag: str) -> bool:  # noqa: ARG002  (nobody is)
        """Say that a user has no flag."""
        with self._transaction():
            return False

    def resource_types(self) -> Sequence[Mapping[str, Any]]:
        """Return the definitions of `SCORE` and `MCORE`."""
        with self._transaction():
            return (
                {"resource_name": "SCORE", "mincore": 1, "maxcore": 1, "minrampercore": 0, "maxrampercore": 2000},
                {"resource_name": "MCORE", "mincore": 2, "maxcore": None, "minrampercore": 0, "maxrampercore": 2000},
            )
