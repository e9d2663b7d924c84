"""What a pilot gives to each of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.catalog import HearsTransfers
from pilot_core.commands import Commands
from pilot_core.payload import fetch_transformation
from pilot_core.staging import Limits
from pilot_core.watching import Watch

if TYPE_CHECKING:
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Communicator
    from pilot_core.api.executor import Executor
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import StagingProgress
    from pilot_core.logs import Redactor
    from pilot_core.plugins import Hooks
    from pilot_core.staging import Backends, InTurn, Space
    from pilot_core.watching import NamedWatchdog

__all__ = ["Services"]

SETTLE_SECONDS = 5.0
"""How long a pilot's end waits for what a catalogue tells others of transfers."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """What a job needs of the pilot that runs it."""

    queue: Queue
    communicator: Communicator
    executor: Executor
    backends: Backends
    hooks: Hooks
    clock: Clock
    redactor: Redactor
    work_dir: Path
    own_environment: Mapping[str, str]
    ca_file: Path | None = None
    node: str = ""
    pilot_id: str = ""
    batch_id: str = ""
    scheduler_id: str = ""
    report_budget: float = 1800.0
    """Seconds for which the final report is tried."""
    last_budget: float = 10.0
    """Seconds for which it is tried once the pilot was told to end."""
    watchdogs: tuple[NamedWatchdog, ...] = ()
    """The limits to which payloads are held."""
    watch: Callable[..., Watch] = Watch
    """What has them look, with that class's arguments."""
    started: float | None = None
    """Monotonic time of the pilot's start."""
    show: Callable[[Commands], str] = Commands.text
    """What gathers the text that a server asked to see."""
    keep_outputs: float = 0.0
    """Seconds for which outputs that no storage takes are kept for a later pilot."""
    keep: bool = False
    """Keep the job's directory."""
    limits: Limits = field(default_factory=Limits)
    """What bounds a job's transfers."""
    catalog: ReplicaCatalog | None = None
    """The replica catalogue that the queue names, as it is seen from there."""
    space: Space | None = None
    """What is free in the work directory, for all jobs together; None = nobody looks."""
    progress: Callable[[StagingProgress], None] | None = None
    """Hears how far a job's transfers are: a terminal's bars. Plugins hear of it by their hook."""
    in_turn: InTurn | None = None
    """Files are moved one after the other, in this order: in a replay."""
    fetch: Callable[..., str] = fetch_transformation
    """What brings the program of a job, with that function's arguments."""

    def close(self) -> None:
        """Let go of the executor, and of what a catalogue has still to tell others, for a moment at the longest."""
        catalog: object = self.catalog
        if isinstance(catalog, HearsTransfers):
            catalog.settle(cancel=CancelToken(), deadline=Deadline.after(self.clock, SETTLE_SECONDS))
        self.executor.close()
