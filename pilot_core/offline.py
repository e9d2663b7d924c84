"""A server that is not there: it keeps what it is told of a job, and acknowledges it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilot_core.api.communicator import JobStatus, ServerAnswer

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.communicator import Acquired, JobRequest, JobUpdate, WorkerNode, WorkerStatus

__all__ = ["OfflineCommunicator"]


class OfflineCommunicator:
    """A communicator without a server, for jobs from files. Has no job to give; every update is taken and kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._updates: list[JobUpdate] = []

    @property
    def updates(self) -> tuple[JobUpdate, ...]:
        """Every update so far, in the order in which they came."""
        with self._lock:
            return tuple(self._updates)

    @property
    def final(self) -> JobUpdate:
        """The final report of the last job; raises `LookupError` if there was none."""
        for update in reversed(self.updates):
            if update.final:
                return update
        raise LookupError("no final report was made")

    def is_alive(self, *, cancel: CancelToken, deadline: Deadline) -> bool:  # noqa: ARG002
        """Say that there is no server."""
        return False

    def acquire(self, request: JobRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[Acquired]:  # noqa: ARG002
        """Return no job."""
        return ()

    def update(self, update: JobUpdate, *, cancel: CancelToken, deadline: Deadline) -> ServerAnswer:  # noqa: ARG002
        """Keep an update, at once and whatever is called off; the answer has no command."""
        with self._lock:
            self._updates.append(update)
        return ServerAnswer()

    def job_status(
        self,
        job_ids: Sequence[int],
        *,
        cancel: CancelToken,  # noqa: ARG002
        deadline: Deadline,  # noqa: ARG002
    ) -> Sequence[JobStatus]:
        """Return the last state that was told of each job."""
        last = {update.job_id: update for update in self.updates}
        return [
            JobStatus(job_id=job_id, status=last[job_id].state, attempt=last[job_id].attempt)
            if job_id in last
            else JobStatus(job_id=job_id, status="not found", attempt=None)
            for job_id in job_ids
        ]

    def worker_status(self, status: WorkerStatus, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Do nothing."""

    def worker_node(self, node: WorkerNode, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
