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
    """Limit, value and trend in one line."""


class Watchdog(Protocol):
    """One limit."""

    @property
    def interval(self) -> float:
        """Seconds between checks."""
        ...

    def check(self, watched: Watched) -> Violation | None:
        """Look once; quick, raises nothing."""
        ...
