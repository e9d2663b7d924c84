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
    """Program and arguments, handed over as they are: no shell reads them."""
    count: int = 1
    """How many pilots; 0 = none."""
    cores: int = 1
    memory_mb: int = 0
    """0 = the batch system's own choice."""
    wall_seconds: int = 0
    """0 = the batch system's own choice."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the pilots, beside those that the batch system sets itself; the launcher's own are not passed on.
    The values may be secret: they are not logged."""


@dataclass(frozen=True, kw_only=True)
class LaunchedPilot:
    """A started pilot, as the batch system knows it."""

    id: str
    """Names it to `status` and `stop`, of any launcher with the same settings, in a later process too."""
    state: str
    """`queued`, `running`, `done` (it ended with exit code 0), `failed` (in any other way) or `unknown`."""


class Launcher(Protocol):
    """One batch system. Methods may be called from several threads at once.

    All raise `ExecutorError` if the batch system does not work or refuses, `CommunicationError` if it does not answer
    in time (`TransferTimeout` is understood, too), `AuthError`, `Cancelled`.
    """

    def launch(self, request: LaunchRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[LaunchedPilot]:
        """Start pilots and return all of them, without waiting for their end; after an error none was started.

        They live on without the launcher, its process and its terminal: their standard input is empty, and they hold
        none of its descriptors.
        """
        ...

    def status(self, ids: Sequence[str], *, cancel: CancelToken, deadline: Deadline) -> Sequence[LaunchedPilot]:
        """Return what became of pilots, one entry for each id, in that order; an id that means nothing is `unknown`."""
        ...

    def stop(self, ids: Sequence[str], *, cancel: CancelToken, deadline: Deadline) -> None:
        """End pilots with all that they started, SIGTERM first, so that they can tell their server; may return earlier.

        An id that has ended or means nothing is passed over.
        """
        ...
