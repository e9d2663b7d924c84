"""The task "watch the payload": limits that end a payload, each with its own interval."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from pilot_core.api.queue import Queue

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.disk_use import DiskUse
    from pilot_core.api.executor import PayloadHandle
    from pilot_core.api.job import Job
    from pilot_core.api.processes import ProcessTree

__all__ = ["Violation", "Watchdog", "Watched"]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a watchdog may look at, at one moment: whatever several of them measure is measured once."""

    job: Job
    handle: PayloadHandle
    job_dir: Path
    """The payload's directory, with its `payload.stdout` and `payload.stderr`."""
    started: float
    """Monotonic time of the payload's start."""
    now: float
    """Monotonic time of this check."""
    queue: Queue = field(default_factory=lambda: Queue(name=""))
    """The queue, for limits that it sets."""
    wall: float = 0.0
    """Wall time of this check, seconds since 1970; 0 = not known."""
    pilot_started: float | None = None
    """Monotonic time of the pilot's start, with which the batch slot's time began; None = not known."""
    process: tuple[int, int] | None = None
    """Pid and start time (clock ticks after the boot) of the process of this machine below which all the payload's
    live; None where they run elsewhere, or the executor does not say."""

    @cached_property
    def processes(self) -> ProcessTree:
        """The payload's processes; an empty tree where they run elsewhere, or have ended."""
        from pilot_core.api.processes import ProcessTree  # noqa: PLC0415  (whoever asks pays)

        return ProcessTree.of(*self.process) if self.process else ProcessTree(None)

    @cached_property
    def disk_use(self) -> DiskUse:
        """What lies in the payload's directory."""
        from pilot_core.api.disk_use import DiskUse  # noqa: PLC0415  (likewise)

        return DiskUse.of(self.job_dir)


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A limit that was passed: the payload is ended and the job fails with this code."""

    error_code: int
    message: str
    """Limit and value (and trend, where there is one) in one line, with their unit."""


class Watchdog(Protocol):
    """One limit. One instance may watch several jobs in turn, and in several threads: what it remembers is by job.

    The pilot checks in a thread of the job's own, the first time one interval after the payload's start. One that
    raises, or whose interval makes no sense, is told in the log and not asked again for that job.
    """

    @property
    def interval(self) -> float:
        """Seconds between checks: above 0, finite, always the same."""
        ...

    def check(self, watched: Watched) -> Violation | None:
        """Look once, and return a violation for as long as the limit is passed; quick, raises nothing.

        It only looks: it changes no file, and neither ends nor signals the payload. Time is that of `watched`. What the
        payload made is untrusted: its directory may hold pipes, loops of links and odd names, and may be gone, as the
        payload itself may; what is not there has passed no limit.
        """
        ...
