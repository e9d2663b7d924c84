"""Where a job's files lie, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilot_core.api.staging import Replica
from pilot_core.errors import JobDescriptionError, PilotErrorCode, TransferError

if TYPE_CHECKING:
    from pilot_core.api.job import InputFile, OutputFile
    from pilot_core.api.queue import Queue

__all__ = ["Routes"]


class Routes:
    """Knows the replicas of a queue's inputs, and the places for its outputs."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def sources(self, file: InputFile) -> list[Replica]:
        """Return where an input may be read, in order; raises `TransferError` if there is no such place."""
        queue = self._queue
        places = [file.rse] if file.rse in queue.storages else list(queue.read)
        replicas = self._replicas(places, file.scope, file.lfn)
        if not replicas:
            raise TransferError(
                f"input {file.lfn}: queue {queue.name} has no storage to read it from"
                + (f"; add [queues.{queue.name}.storages.{file.rse}]" if file.rse else " (queue's `read` is empty)"),
                error_code=PilotErrorCode.NOSTORAGEPROTOCOL,
            )
        return replicas

    def destinations(self, file: OutputFile, activity: str) -> list[Replica]:
        """Return where an output or the log (`activity`: write or log) may be stored, in order; raises likewise."""
        queue = self._queue
        places = [file.rse] if file.rse in queue.storages else []
        if not places or activity == "log":
            places += (queue.log or queue.write) if activity == "log" else queue.write
        replicas = self._replicas(places, file.scope, file.lfn)
        if not replicas:
            raise TransferError(
                f"output {file.lfn}: queue {queue.name} has no storage to write it to"
                + (f"; add [queues.{queue.name}.storages.{file.rse}]" if file.rse else " (queue's `write` is empty)"),
                error_code=PilotErrorCode.NOSTORAGEPROTOCOL,
            )
        return replicas

    def _replicas(self, places: Sequence[str], scope: str, lfn: str) -> list[Replica]:
        """Return where a file lies, or goes, on the named storages, in their order.

        Raises `JobDescriptionError` for a scope that would lead out of a storage, or that is needed and not there.
        """
        storages = [self._queue.storages[rse] for rse in dict.fromkeys(places) if rse in self._queue.storages]
        if not scope and any(storage.layout == "rucio" for storage in storages):
            raise JobDescriptionError(f"file {lfn}: has no scope, which the storage's layout (rucio) needs")
        if scope in {".", ".."} or "/" in scope or not scope.isprintable():
            raise JobDescriptionError(f"file {lfn}: scope {scope[:80]!r} is not the name of a Rucio scope")
        return [
            Replica(url=url, rse=storage.rse, order=order, root=storage.root_of(url))
            for order, storage in enumerate(storages)
            for url in [storage.url_of(scope, lfn)]
        ]
