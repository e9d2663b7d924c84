"""Asking a replica catalogue on behalf of one job: once for all its files, and never in the way of the job.

A catalogue that does not answer costs its deadline and a warning; the queue's own storages then say where files lie.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pilot_core.api.cancel import Deadline
from pilot_core.api.catalog import NamesDestinations
from pilot_core.api.staging import Replica
from pilot_core.errors import AuthError, Cancelled, HandledError, PilotErrorCode, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import FileReport
    from pilot_core.api.job import InputFile, Job, OutputFile

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
            found = self._ask(
                lambda deadline: self._places(
                    self.made.replicas(files, cancel=cancel, deadline=deadline), [file.lfn for file in files]
                )
            )
        except Cancelled:
            raise
        except HandledError as error:
            self.log.warning("where inputs lie is taken from the queue, because of the catalogue: %s", error)
            return Asked(replicas={}, trouble=str(error))
        return Asked(replicas=found)

    def destinations(self, rse: str, files: Sequence[OutputFile], *, cancel: CancelToken) -> Asked:
        """Ask how files can be written to a storage; raises `Cancelled` only."""
        made = self.made
        if not isinstance(made, NamesDestinations):
            return Asked(replicas={}, trouble=f"the catalogue {self.name} names no places to write to")
        try:
            found = self._ask(
                lambda deadline: self._places(
                    made.destinations(rse, files, cancel=cancel, deadline=deadline), [file.lfn for file in files]
                )
            )
        except Cancelled:
            raise
        except HandledError as error:
            self.log.warning("nothing can be written to %s: %s", rse, error)
            return Asked(replicas={}, trouble=str(error))
        return Asked(replicas=found)

    def register(self, job: Job, files: Sequence[FileReport], *, cancel: CancelToken) -> None:
        """Enter stored outputs; raises `HandledError`, with the code of stage-out."""
        try:
            self._ask(lambda deadline: self.made.register(job, files, cancel=cancel, deadline=deadline))
        except Cancelled:
            raise
        except AuthError as error:
            raise self._not_entered(error, PilotErrorCode.STAGEOUTAUTHENTICATIONFAILURE) from None
        except HandledError as error:
            raise self._not_entered(error, PilotErrorCode.STAGEOUTFAILED) from None
        self.log.info("%d files entered into the catalogue %s", len(files), self.name)

    def _not_entered(self, error: HandledError, code: PilotErrorCode) -> HandledError:
        return HandledError(f"the outputs cannot be entered into the catalogue {self.name}: {error}", error_code=code)

    def _places(self, found: object, lfns: Collection[str]) -> Mapping[str, Sequence[Replica]]:
        """Return the replicas of an answer that were asked for; raises `PluginError` for what is no answer."""
        if not isinstance(found, Mapping):
            raise PluginError(f"catalog.{self.name} broke: it returned {type(found).__name__}, no mapping")
        places = {lfn: tuple(found[lfn]) for lfn in lfns if found.get(lfn)}
        if any(not isinstance(place, Replica) for some in places.values() for place in some):
            raise PluginError(f"catalog.{self.name} broke: it returned something that is no Replica")
        return places

    def _ask(self, question: Callable[[Deadline], T]) -> T:
        """Ask; raises `HandledError` only, of a plugin that breaks too."""
        try:
            return question(Deadline.after(self.clock, PATIENCE))
        except HandledError:
            raise
        except Exception as error:
            self.log.debug("the catalogue %s broke", self.name, exc_info=error)
            raise PluginError(f"catalog.{self.name} broke: {type(error).__name__}: {error}") from error
