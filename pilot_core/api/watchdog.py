"""The task "watch the payload": limits that end a payload, each with its own interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.executor import PayloadHandle
    from pilot_core.api.job import Job

__all__ = ["Violation", "Watchdog", "Watched"]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a watchdog may look at."""

    job: Job
    handle: PayloadHandle
    job_dir: Path
    started: float
    """Monotonic time of the payload's start."""
    now: float
    """Monotonic time of this check."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A limit that was passed: the payload is ended and the job fails with this code."""

    error_code: int
    message: str
    """Limit and value (and trend, where there is one) in one line, with their unit."""


class Watchdog(Protocol):
    """One limit. One instance may watch several jobs in turn, and in several threads: what it remembers is by job."""

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
