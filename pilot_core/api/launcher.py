"""The task "start pilots elsewhere": batch systems and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = ["LaunchRequest", "LaunchedPilot", "Launcher"]


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """Pilots to start."""

    argv: tuple[str, ...]
    count: int = 1
    cores: int = 1
    memory_mb: int = 0
    wall_seconds: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LaunchedPilot:
    """A started pilot, as the batch system knows it."""

    id: str
    state: str
    """queued, running, done, failed or unknown."""


class Launcher(Protocol):
    """One batch system."""

    def launch(self, request: LaunchRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[LaunchedPilot]:
        """Start pilots."""
        ...

    def status(self, ids: Sequence[str], *, cancel: CancelToken, deadline: Deadline) -> Sequence[LaunchedPilot]:
        """Ask about started pilots."""
        ...

    def stop(self, ids: Sequence[str], *, cancel: CancelToken, deadline: Deadline) -> None:
        """End started pilots."""
        ...
