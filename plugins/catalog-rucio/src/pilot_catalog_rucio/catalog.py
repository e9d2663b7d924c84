"""The catalogue as the pilot sees it: one Rucio server, as seen from one queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pilot_catalog_rucio.lookup import look_up
from pilot_catalog_rucio.register import register
from pilot_catalog_rucio.rest import Rest
from pilot_catalog_rucio.settings import check
from pilot_catalog_rucio.storages import destinations
from pilot_catalog_rucio.traces import TraceSender, trace_of

if TYPE_CHECKING:
    from pilot_catalog_rucio.settings import Settings
    from pilot_core import (
        CancelToken,
        Context,
        Deadline,
        FileReport,
        InputFile,
        Job,
        OutputFile,
        Queue,
        Replica,
        TransferAttempt,
    )

__all__ = ["Rucio"]


class Rucio:
    """The catalogue: `ReplicaCatalog`, `SeenFromQueue`, `NamesDestinations` and `HearsTransfers`. Thread safe."""

    def __init__(self, settings: Settings, context: Context) -> None:
        check(settings)
        self._settings = settings
        self._agent = context.user_agent
        self._rest = Rest(settings, context)
        self._site = settings.site
        self._queue = ""
        self._traces: TraceSender | None = None
        if settings.traces:
            url = settings.traces_url or f"{self._rest.url}/traces/"
            self._traces = TraceSender(self._rest.web, url, context.clock, context.log)

    def seen_from(self, queue: Queue) -> Rucio:
        """Return the catalogue as a queue sees it, with the same connections, token and waiting traces."""
        seen = object.__new__(type(self))
        vars(seen).update(vars(self))
        seen._site = self._settings.site or queue.site or queue.name
        seen._queue = queue.name
        return seen

    def replicas(
        self, files: Sequence[InputFile], *, cancel: CancelToken, deadline: Deadline
    ) -> Mapping[str, Sequence[Replica]]:
        """Return the replicas of each file that Rucio knows, by LFN."""
        return look_up(self._rest.within(cancel, deadline), self._settings, self._site, files)

    def register(self, job: Job, files: Sequence[FileReport], *, cancel: CancelToken, deadline: Deadline) -> None:
        """Enter stored outputs; raises `RequestRefused` for one that contradicts what Rucio knows."""
        register(self._rest.within(cancel, deadline), job, files, attach=self._settings.attach)

    def destinations(
        self, rse: str, files: Sequence[OutputFile], *, cancel: CancelToken, deadline: Deadline
    ) -> Mapping[str, Sequence[Replica]]:
        """Return where to write each file on a storage of Rucio's."""
        return destinations(self._rest.within(cancel, deadline), self._settings, self._site, rse, files)

    def attempted(self, job: Job, attempt: TransferAttempt) -> None:
        """Have the attempt told to Rucio, if traces are wanted."""
        if self._traces is not None:
            site, queue, version = self._site, self._queue, self._agent
            self._traces.add(lambda: trace_of(job, attempt, site=site, queue=queue, version=version))

    def settle(self, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Wait until the traces are told or dropped."""
        if self._traces is not None:
            self._traces.settle(cancel, deadline)
