"""The communicator of a replay: the real one against the played server, or one that is played itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pilot_core.api.communicator import JobStatus, ServerAnswer
from pilot_core.api.job import BadJob, Job
from pilot_core.errors import RequestRefused
from pilot_core.replay.played import recorded_error
from pilot_core.values import decode, encode

if TYPE_CHECKING:
    from pilot_core.api.cancel import Deadline
    from pilot_core.api.communicator import (
        Acquired,
        Communicator,
        JobRequest,
        JobUpdate,
        WorkerNode,
        WorkerStatus,
    )
    from pilot_core.replay.clock import ReplayClock
    from pilot_core.replay.cues import Cues
    from pilot_core.replay.script import Script

__all__ = ["ReplayedCommunicator"]

T = TypeVar("T")
_OUR_SIDE = frozenset({"AuthError", "ConfigError"})
"""Errors of credentials and configuration, neither of which a replay has."""


class ReplayedCommunicator:
    """Says which call of the recording each call is, and has it done.

    `inner` is the real communicator; None = it speaks no HTTP that could be played to it, so that its neutral requests
    are compared and its neutral answers returned.
    """

    def __init__(self, inner: Communicator | None, script: Script, cues: Cues, clock: ReplayClock) -> None:
        self._inner = inner
        self._script = script
        self._cues = cues
        self._clock = clock

    def is_alive(self, **limits: Any) -> bool:
        """See `Communicator.is_alive`."""
        return self._call("is_alive", None, limits, lambda inner, limits: inner.is_alive(**limits), bool)

    def acquire(self, request: JobRequest, **limits: Any) -> Sequence[Acquired]:
        """See `Communicator.acquire`."""
        return self._call("acquire", request, limits, lambda inner, limits: inner.acquire(request, **limits), _jobs)

    def update(self, update: JobUpdate, **limits: Any) -> ServerAnswer:
        """See `Communicator.update`."""
        return self._call(
            "update",
            update,
            limits,
            lambda inner, limits: inner.update(update, **limits),
            lambda value: decode(ServerAnswer, value),
        )

    def job_status(self, job_ids: Sequence[int], **limits: Any) -> Sequence[JobStatus]:
        """See `Communicator.job_status`."""
        return self._call(
            "job_status",
            list(job_ids),
            limits,
            lambda inner, limits: inner.job_status(job_ids, **limits),
            lambda value: [decode(JobStatus, entry) for entry in value],
        )

    def worker_status(self, status: WorkerStatus, **limits: Any) -> None:
        """See `Communicator.worker_status`."""
        self._call(
            "worker_status", status, limits, lambda inner, limits: inner.worker_status(status, **limits), _nothing
        )

    def worker_node(self, node: WorkerNode, **limits: Any) -> None:
        """See `Communicator.worker_node`."""
        self._call("worker_node", node, limits, lambda inner, limits: inner.worker_node(node, **limits), _nothing)

    def close(self) -> None:
        """Close the communicator."""
        if self._inner is not None:
            self._inner.close()

    def _call(
        self,
        method: str,
        request: Any,
        limits: Mapping[str, Any],
        call: Callable[[Communicator, Mapping[str, Any]], T],
        made: Callable[[Any], T],
    ) -> T:
        """Make a call, or play it."""
        plain = encode(request)
        recorded = self._cues.begin(method, plain)
        answer = self._cues.answer_of(recorded) if recorded else None
        if recorded:
            # the deadline was made just before, when it was earlier here than it was then
            before = self._clock.monotonic()
            self._clock.reach(float(recorded["at"]))
            deadline: Deadline = limits["deadline"]
            limits = {**limits, "deadline": replace(deadline, at=deadline.at + self._clock.monotonic() - before)}
        if self._inner is not None:
            if recorded and answer:
                self._raise_own(recorded, answer)
            return call(self._inner, limits)
        if recorded is None:
            self._script.differs("after the last call", method, "(nothing)", plain, "request")
            raise RequestRefused(f"the recording has no such call of {method}")
        self._script.differs(f"event {recorded['n']}", method, recorded["request"], plain, "request")
        if answer is None:
            self._cues.end_here()
            raise AssertionError("a recording that is whole has an answer to every call")
        self._clock.reach(float(answer["at"]))
        if "error" in answer:
            raise recorded_error(answer["error"])
        return made(answer["answer"])

    def _raise_own(self, recorded: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Raise a recorded error that came from this side, and that no played server could bring about."""
        number = int(recorded["call"])
        upcoming = self._script.next_of(number)
        if answer.get("error", {}).get("type") in _OUR_SIDE and not (upcoming and upcoming.status):
            self._script.skip(number)
            self._clock.reach(float(answer["at"]))
            raise recorded_error(answer["error"])


def _jobs(value: Any) -> list[Acquired]:
    """Return acquired jobs; those that make no sense have a reason."""
    return [decode(BadJob, entry) if "reason" in entry else decode(Job, entry) for entry in value]


def _nothing(_: Any) -> None:
    """Return nothing."""
