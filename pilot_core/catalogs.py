"""Asking a replica catalogue on behalf of one job: once for all its files, and never in the way of the job.

A catalogue that does not answer costs its deadline and a warning; the queue's own storages then say where files lie.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pilot_core.api.cancel import Deadline
from pilot_core.api.catalog import NamesDestinations
from pilot_core.errors import Cancelled, HandledError, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import FileReport
    from pilot_core.api.job import InputFile, Job, OutputFile
    from pilot_core.api.staging import Replica

__all__ = ["PATIENCE", "Asked", "Catalogue"]

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds for one question to a catalogue."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a catalogue said, or why it did not."""

    replicas: Mapping[str, Sequence[Replica]]
    """By LFN."""
    trouble: str = ""
    """Why there is no answer; empty = this is the answer."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """A replica catalogue, as one job asks it."""

    name: str
    made: ReplicaCatalog
    clock: Clock
    log: logging.LoggerAdapter[logging.Logger]

    def replicas(self, files: Sequence[InputFile], *, cancel: CancelToken) -> Asked:
        """Ask where inputs lie, all at once; raises `Cancelled` only."""
        if not files:
            return Asked(replicas={})
        try:
            found = self._ask(lambda deadline: self.made.replicas(files, cancel=cancel, deadline=deadline))
        except Cancelled:
            raise
        except HandledError as error:
            self.log.warning("where inputs lie is taken from the queue, because of the catalogue: %s", error)
            return Asked(replicas={}, trouble=str(error))
        wanted = {file.lfn for file in files}
        return Asked(replicas={lfn: tuple(places) for lfn, places in found.items() if lfn in wanted})

    def destinations(self, rse: str, files: Sequence[OutputFile], *, cancel: CancelToken) -> Asked:
        """Ask how files can be written to a storage; raises `Cancelled` only."""
        made = self.made
        if not isinstance(made, NamesDestinations):
            return Asked(replicas={}, trouble=f"the catalogue {self.name} names no places to write to")
        try:
            return Asked(replicas=self._ask(lambda d: made.destinations(rse, files, cancel=cancel, deadline=d)))
        except Cancelled:
            raise
        except HandledError as error:
            self.log.warning("nothing can be written to %s: %s", rse, error)
            return Asked(replicas={}, trouble=str(error))

    def register(self, job: Job, files: Sequence[FileReport], *, cancel: CancelToken) -> None:
        """Enter stored outputs; raises `HandledError`."""
        self._ask(lambda deadline: self.made.register(job, files, cancel=cancel, deadline=deadline))
        self.log.info("%d files entered into the catalogue %s", len(files), self.name)

    def _ask(self, question: Callable[[Deadline], T]) -> T:
        """Ask; raises `HandledError` only, of a plugin that breaks too."""
        try:
            return question(Deadline.after(self.clock, PATIENCE))
        except HandledError:
            raise
        except Exception as error:
            self.log.debug("the catalogue %s broke", self.name, exc_info=error)
            raise PluginError(f"catalog.{self.name} broke: {type(error).__name__}: {error}") from error
