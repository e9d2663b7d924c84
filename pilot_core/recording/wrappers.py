"""What stands around a pilot's parts and tells an audience of everything that passes: calls, results, events.

The recorder is such an audience; a replay is another, which compares.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pilot_core.api.executor import OnThisMachine
from pilot_core.errors import HandledError
from pilot_core.plugins import Hooks
from pilot_core.staging import Backends
from pilot_core.values import encode

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.communicator import (
        Acquired,
        Communicator,
        JobRequest,
        JobStatus,
        JobUpdate,
        ServerAnswer,
        WorkerNode,
        WorkerStatus,
    )
    from pilot_core.api.events import Diagnosis, FinishedPayload, JobState, Outcome, PayloadCommand, TaskInfo
    from pilot_core.api.executor import Executor, Payload, PayloadHandle, PayloadResult, PayloadSpec
    from pilot_core.api.job import Job, OutputFile
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import (
        FetchRequest,
        FileStat,
        StagingProgress,
        StoreRequest,
        TransferAttempt,
        TransferResult,
    )
    from pilot_core.plugins import Loaded
    from pilot_core.recording.recorder import Recorder
    from pilot_core.selection import Candidate

__all__ = ["Audience", "WatchedBackends", "WatchedCommunicator", "WatchedExecutor", "WatchedHooks", "error_of"]

T = TypeVar("T")


class Audience(Protocol):
    """Hears of events."""

    def event(self, what: str, **details: Any) -> None:
        """Take notice of an event; `details` are plain JSON values."""
        ...


def error_of(error: BaseException) -> dict[str, Any]:
    """Return an exception as plain data: what is needed to raise its like again."""
    found: dict[str, Any] = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, HandledError):
        found["code"] = int(error.error_code)
    if getattr(error, "retry_after", None) is not None:
        found["retry_after"] = error.retry_after  # type: ignore[attr-defined]
    return found


class WatchedCommunicator:
    """A communicator whose calls are recorded, with the secrets in their answers learnt before."""

    def __init__(self, inner: Communicator, recorder: Recorder) -> None:
        self._inner = inner
        self._recorder = recorder

    def is_alive(self, *, cancel: CancelToken, deadline: Deadline) -> bool:
        """See `Communicator.is_alive`."""
        return self._call("is_alive", None, lambda: self._inner.is_alive(cancel=cancel, deadline=deadline))

    def acquire(self, request: JobRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[Acquired]:
        """See `Communicator.acquire`."""
        return self._call(
            "acquire", request, lambda: self._inner.acquire(request, cancel=cancel, deadline=deadline), _job_secrets
        )

    def update(self, update: JobUpdate, *, cancel: CancelToken, deadline: Deadline) -> ServerAnswer:
        """See `Communicator.update`."""
        return self._call(
            "update",
            update,
            lambda: self._inner.update(update, cancel=cancel, deadline=deadline),
            lambda answer: list(answer.pilot_secrets.values()),
        )

    def job_status(self, job_ids: Sequence[int], *, cancel: CancelToken, deadline: Deadline) -> Sequence[JobStatus]:
        """See `Communicator.job_status`."""
        return self._call(
            "job_status", list(job_ids), lambda: self._inner.job_status(job_ids, cancel=cancel, deadline=deadline)
        )

    def worker_status(self, status: WorkerStatus, *, cancel: CancelToken, deadline: Deadline) -> None:
        """See `Communicator.worker_status`."""
        self._call("worker_status", status, lambda: self._inner.worker_status(status, cancel=cancel, deadline=deadline))

    def worker_node(self, node: WorkerNode, *, cancel: CancelToken, deadline: Deadline) -> None:
        """See `Communicator.worker_node`."""
        self._call("worker_node", node, lambda: self._inner.worker_node(node, cancel=cancel, deadline=deadline))

    def close(self) -> None:
        """Close the communicator."""
        self._inner.close()

    def _call(
        self, method: str, request: Any, call: Callable[[], T], secrets: Callable[[T], Sequence[str]] | None = None
    ) -> T:
        """Make a call and tell of it."""
        number = self._recorder.begin_call(method, request)
        try:
            answer = call()
        except BaseException as error:
            self._recorder.end_call(number, error=error_of(error))
            raise
        if secrets:
            self._recorder.learn(secrets(answer))
        self._recorder.end_call(number, answer=encode(answer))
        return answer


def _job_secrets(jobs: Sequence[Acquired]) -> list[str]:
    """Return the secrets that came with jobs."""
    return [
        text
        for job in jobs
        for name in ("secrets", "pilot_secrets")
        for text in getattr(job, name, {}).values()  # a job that makes no sense has none
    ]


class WatchedExecutor:
    """An executor that tells what it is given and what comes of it."""

    def __init__(self, inner: Executor, audience: Audience, clean: Callable[[str], str]) -> None:
        self._inner = inner
        self._audience = audience
        self._clean = clean
        self._jobs: dict[str, int] = {}

    def start(self, spec: PayloadSpec, *, cancel: CancelToken, deadline: Deadline) -> PayloadHandle:
        """See `Executor.start`."""
        self._audience.event(
            "payload-start",
            job=spec.job_id,
            argv=[self._clean(word) for word in spec.argv],
            cwd=str(spec.cwd),
            environment=sorted(spec.environment),
        )
        try:
            handle = self._inner.start(spec, cancel=cancel, deadline=deadline)
        except HandledError as error:
            self._audience.event("payload-error", job=spec.job_id, error=error_of(error))
            raise
        self._jobs[repr(handle.to_json())] = spec.job_id
        return handle

    def attach(self, handle: PayloadHandle, *, cancel: CancelToken, deadline: Deadline) -> Payload:
        """See `Executor.attach`."""
        payload = self._inner.attach(handle, cancel=cancel, deadline=deadline)
        return _WatchedPayload(payload, self._audience, self._jobs.pop(repr(handle.to_json()), 0))

    def close(self) -> None:
        """Close the executor."""
        self._inner.close()


class _WatchedPayload:
    """A payload whose end is told of."""

    def __init__(self, inner: Payload, audience: Audience, job: int) -> None:
        self._inner = inner
        self._audience = audience
        self._job = job
        if isinstance(inner, OnThisMachine):
            self.process = inner.process

    def fileno(self) -> int:
        return self._inner.fileno()

    def end(self, reason: str) -> None:
        self._audience.event("payload-called-off", job=self._job, reason=reason)
        self._inner.end(reason)

    def result(self) -> PayloadResult:
        try:
            result = self._inner.result()
        except HandledError as error:
            self._audience.event("payload-error", job=self._job, error=error_of(error))
            raise
        self._audience.event("payload-end", job=self._job, result=encode(result))
        return result

    def close(self) -> None:
        self._inner.close()


class WatchedBackends(Backends):
    """Stagers that tell what they are asked and what they answer."""

    def __init__(self, inner: Backends, audience: Audience) -> None:
        # no call of super().__init__: everything goes to `inner`
        self._inner = inner
        self._audience = audience
        self._told: set[tuple[str, str]] = set()

    def load(self) -> None:
        """See `Backends.load`."""
        self._inner.load()

    def stagers(self, hook: str, urls: Sequence[str]) -> list[Loaded[Any]]:
        """See `Backends.stagers`."""
        found = self._inner.stagers(hook, urls)
        for loaded in found:
            if (hook, loaded.name) not in self._told:
                self._told.add((hook, loaded.name))
                self._audience.event(
                    "stager",
                    hook=hook,
                    name=loaded.name,
                    schemes=sorted(loaded.schemes),
                    priority=loaded.priority,
                    capabilities=sorted(loaded.capabilities),
                    distribution=loaded.distribution,
                    version=loaded.version,
                )
        return found

    def recorded(self, hook: str, candidate: Candidate[Loaded[Any]]) -> float | None:
        """See `Backends.recorded`."""
        return self._inner.recorded(hook, candidate)

    def instance(self, hook: str, name: str) -> Any:
        """See `Backends.instance`; a stager that cannot be made is told of too."""
        try:
            return _WatchedStager(self._inner.instance(hook, name), name, self._audience)
        except HandledError as error:
            self._audience.event("stager-error", hook=hook, name=name, error=error_of(error))
            raise


class _WatchedStager:
    """A stager that tells what it is asked and what it answers."""

    def __init__(self, inner: Any, name: str, audience: Audience) -> None:
        self._inner = inner
        self._name = name
        self._audience = audience

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        result: TransferResult = self._ask(
            "fetch", request.url, lambda: self._inner.fetch(request, cancel=cancel, deadline=deadline)
        )
        return result

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        result: TransferResult = self._ask(
            "store", request.url, lambda: self._inner.store(request, cancel=cancel, deadline=deadline)
        )
        return result

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        result: FileStat = self._ask("stat", url, lambda: self._inner.stat(url, cancel=cancel, deadline=deadline))
        return result

    def remove(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> None:
        self._ask("remove", url, lambda: self._inner.remove(url, cancel=cancel, deadline=deadline))

    def _ask(self, method: str, url: str, call: Callable[[], Any]) -> Any:
        """Call the stager and tell of it."""
        about = {"stager": self._name, "method": method, "url": url}
        try:
            answer = call()
        except (Exception, SystemExit) as error:
            self._audience.event("stager-call", **about, error=error_of(error))
            raise
        self._audience.event("stager-call", **about, answer=encode(answer))
        return answer


class WatchedHooks(Hooks):
    """Hooks whose events, and answers about a payload, are told of."""

    def __init__(self, inner: Hooks, audience: Audience) -> None:
        # no call of super().__init__: everything goes to `inner`
        self._inner = inner
        self._audience = audience

    def prepare_environment(self, job: Job, queue: Queue, environment: Mapping[str, str]) -> dict[str, str]:
        """See `Hooks.prepare_environment`; what is in an environment is nobody's business."""
        with self._errors("prepare_environment", job):
            return self._inner.prepare_environment(job, queue, environment)

    def wrap_command(self, job: Job, queue: Queue, command: PayloadCommand) -> PayloadCommand:
        """See `Hooks.wrap_command`."""
        with self._errors("wrap_command", job):
            answer = self._inner.wrap_command(job, queue, command)
        about = {"hook": "wrap_command", "job": job.id}
        self._audience.event("command", **about, before=list(command.argv), after=list(answer.argv))
        return answer

    def diagnose_failure(self, payload: FinishedPayload) -> Diagnosis | None:
        """See `Hooks.diagnose_failure`."""
        with self._errors("diagnose_failure", payload.job):
            answer = self._inner.diagnose_failure(payload)
        self._audience.event("diagnosis", hook="diagnose_failure", job=payload.job.id, answer=encode(answer))
        return answer

    def collect_metadata(self, payload: FinishedPayload) -> dict[str, Any]:
        """See `Hooks.collect_metadata`."""
        with self._errors("collect_metadata", payload.job):
            answer = self._inner.collect_metadata(payload)
        self._audience.event("metadata", hook="collect_metadata", job=payload.job.id, answer=encode(answer))
        return answer

    def job_state_changed(self, job: Job, old: JobState, new: JobState) -> None:
        """See `Hooks.job_state_changed`."""
        self._audience.event("state", job=job.id, old=str(old), new=str(new))
        self._inner.job_state_changed(job, old, new)

    def task_started(self, task: TaskInfo) -> None:
        """See `Hooks.task_started`."""
        self._audience.event("task-started", job=task.job.id, task=task.name)
        self._inner.task_started(task)

    def task_finished(self, task: TaskInfo, outcome: Outcome) -> None:
        """See `Hooks.task_finished`; of the payload's task the outputs are told first."""
        if task.name == "payload":
            found = [_output(file, task.job_dir / "payload") for file in task.job.outputs]
            self._audience.event("outputs", job=task.job.id, files=found)
        self._audience.event("task-finished", job=task.job.id, task=task.name, outcome=encode(outcome))
        self._inner.task_finished(task, outcome)

    def transfer_attempted(self, attempt: TransferAttempt) -> None:
        """See `Hooks.transfer_attempted`."""
        self._audience.event("transfer", attempt=attempt.to_json())
        self._inner.transfer_attempted(attempt)

    def hears_progress(self) -> bool:
        """See `Hooks.hears_progress`."""
        return self._inner.hears_progress()

    def transfer_progress(self, progress: StagingProgress) -> None:
        """See `Hooks.transfer_progress`; how fast a transfer was is in no recording."""
        self._inner.transfer_progress(progress)

    def heartbeat(self, update: JobUpdate, answer: ServerAnswer | None) -> None:
        """See `Hooks.heartbeat`; the communicator's calls say it already."""
        self._inner.heartbeat(update, answer)

    @contextmanager
    def _errors(self, hook: str, job: Job) -> Iterator[None]:
        """Tell of an error that a plugin raises."""
        try:
            yield
        except Exception as error:
            self._audience.event("hook-error", hook=hook, job=job.id, error=error_of(error))
            raise


def _output(file: OutputFile, folder: Path) -> dict[str, Any]:
    """Return what is in the place of an output: the kind of file, and its size in bytes."""
    try:
        found = (folder / file.lfn).lstat()
    except (OSError, ValueError):
        return {"lfn": file.lfn, "kind": "nothing"}
    kind = "file" if stat.S_ISREG(found.st_mode) else "link" if stat.S_ISLNK(found.st_mode) else "other"
    return {"lfn": file.lfn, "kind": kind, "size": found.st_size}
