"""The communicator: the calls of the protocol, and what is repeated when a call fails.

An update is told again and again until the server acknowledges it: hearing it twice does the server no harm. A request
for jobs is repeated only if it surely did not reach the server: a second one would take a second job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pilot_core import CommunicationError, HandledError, JobStatus, ServerAnswer

from pilot_communicator_jsonrpc.http import Http, Trouble
from pilot_communicator_jsonrpc.rpc import LARGEST_BATCH, Rpc
from pilot_communicator_jsonrpc.translate import acquired

if TYPE_CHECKING:
    from pilot_core import (
        Acquired,
        CancelToken,
        Context,
        Deadline,
        JobRequest,
        JobUpdate,
        WorkerNode,
        WorkerStatus,
    )

    from pilot_communicator_jsonrpc.settings import Settings

__all__ = ["Jsonrpc"]

T = TypeVar("T")


class Jsonrpc:
    """The communicator. Each call has a connection of its own, so any number of threads may use it."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._settings = settings
        self._clock = context.clock
        self._log = context.log
        self._rpc = Rpc(Http(context))

    def is_alive(self, *, cancel: CancelToken, deadline: Deadline) -> bool:
        """Say whether the server answers; asked once."""
        try:
            self._rpc.call("server.alive", {}, cancel=cancel, deadline=deadline)
        except Trouble as trouble:
            self._log.info("the server does not answer: %s", trouble)
            return False
        return True

    def acquire(self, request: JobRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[Acquired]:
        """Get jobs; an empty answer means that the server has none."""
        told = self._call("job.acquire", said(request), cancel, deadline, repeat=False)
        jobs = told.get("jobs")
        if not isinstance(jobs, list):
            raise CommunicationError("job.acquire: the server's answer has no list of jobs")
        return [acquired(job) for job in jobs]

    def update(self, update: JobUpdate, *, cancel: CancelToken, deadline: Deadline) -> ServerAnswer:
        """Tell a job's state until the server has acknowledged it."""
        told = self._call("job.update", said(update), cancel, deadline, repeat=True)
        commands, secrets = told.get("commands") or [], told.get("pilot_secrets") or {}
        if not isinstance(commands, list) or not isinstance(secrets, dict):
            raise CommunicationError("job.update: the server's answer cannot be read")
        return ServerAnswer(commands=tuple(map(str, commands)), pilot_secrets=secrets)

    def job_status(self, job_ids: Sequence[int], *, cancel: CancelToken, deadline: Deadline) -> Sequence[JobStatus]:
        """Ask what the server believes of some jobs: one call a job, as many in one request as the server takes."""
        every = [{"job_id": job_id} for job_id in job_ids]
        rows: list[Any] = []
        for start in range(0, len(every), LARGEST_BATCH):
            once = partial(
                self._rpc.batch, "job.status", every[start : start + LARGEST_BATCH], cancel=cancel, deadline=deadline
            )
            rows += self._repeated("job.status", once, cancel, deadline)
        try:
            return [JobStatus(job_id=row["job_id"], status=row["status"], attempt=row["attempt"]) for row in rows]
        except (KeyError, TypeError) as error:
            raise CommunicationError(f"job.status: the server's answer cannot be read: {error!r}") from None

    def worker_status(self, status: WorkerStatus, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Tell that this pilot has started or finished."""
        self._call("worker.status", said(status), cancel, deadline, repeat=True)

    def worker_node(self, node: WorkerNode, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Describe the machine."""
        self._call("worker.node", said(node), cancel, deadline, repeat=True)

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def _call(
        self, method: str, params: Mapping[str, Any], cancel: CancelToken, deadline: Deadline, *, repeat: bool
    ) -> Mapping[str, Any]:
        """Return the result of a call, which is an object with every method but those that are asked in batches."""

        def once() -> Mapping[str, Any]:
            told = self._rpc.call(method, params, cancel=cancel, deadline=deadline)
            if not isinstance(told, dict):
                raise Trouble("the result is no object")
            return told

        return self._repeated(method, once, cancel, deadline, repeat=repeat)

    def _repeated(
        self, name: str, once: Callable[[], T], cancel: CancelToken, deadline: Deadline, *, repeat: bool = True
    ) -> T:
        """Return what comes of a call in the end; raises as `pilot_core.Communicator` says.

        `repeat` is for what does no harm when it is carried out twice.
        """
        pause = self._settings.first_pause
        last: HandledError | None = None
        while True:
            cancel.raise_if_cancelled()
            if deadline.passed:
                raise CommunicationError(f"{name}: the time allowed for it is used up{f': {last}' if last else ''}")
            try:
                return once()
            except Trouble as trouble:
                if not (repeat or trouble.unsent):
                    raise CommunicationError(f"{name}: {trouble}; it is not repeated, for it may be done") from None
                last = trouble
            wait = max(pause, last.retry_after)
            if wait >= deadline.remaining():
                raise CommunicationError(f"{name}: {last}; there is no time left to try again")
            self._log.warning("%s: %s; again in %.1f s", name, last, wait)
            self._clock.wait(cancel, until=self._clock.monotonic() + wait)
            pause = min(2 * pause, self._settings.longest_pause)


def said(thing: JobRequest | JobUpdate | WorkerStatus | WorkerNode) -> dict[str, Any]:
    """Return what something says: fields that are None or empty say nothing."""
    return {name: value for name, value in asdict(thing).items() if value not in (None, "", (), {})}
