"""The task "find and register replicas"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.communicator import FileReport
    from pilot_core.api.job import InputFile, Job, OutputFile
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import Replica, TransferAttempt

__all__ = ["HearsTransfers", "NamesDestinations", "ReplicaCatalog", "SeenFromQueue"]


class ReplicaCatalog(Protocol):
    """Knows where files lie (Rucio). Methods may be called from several threads at once.

    A file is known by scope and LFN. Both methods raise `CommunicationError` if the catalogue does not answer in time
    (`TransferTimeout` is understood, too), `RequestRefused` if asking again cannot help, `AuthError`, `Cancelled`.
    """

    def replicas(
        self, files: Sequence[InputFile], *, cancel: CancelToken, deadline: Deadline
    ) -> Mapping[str, Sequence[Replica]]:
        """Return the replicas of each file, by LFN, in the catalogue's order of preference.

        `Replica.order` never goes down along that order. A file that the catalogue does not know has no entry, or an
        empty one: that is no error. Nothing is returned that was not asked for. A job has no two inputs of one LFN.
        """
        ...

    def register(self, job: Job, files: Sequence[FileReport], *, cancel: CancelToken, deadline: Deadline) -> None:
        """Make stored outputs known, each under the scope that the job's output of that LFN has (`Job.files_out`).

        Size, checksum and GUID are those of the report. What is known just so already stays as it is: registering
        again, after an answer that was lost, is no error and makes no second entry. Raises `RequestRefused` for a file
        that is known with another size or checksum, which is kept, and for one that is no output of the job.
        """
        ...


@runtime_checkable
class SeenFromQueue(Protocol):
    """What a catalogue may do besides: answer as is best at one place. What is near is known only there."""

    def seen_from(self, queue: Queue) -> ReplicaCatalog:
        """Return the catalogue as a queue sees it; quick, asks nobody. It has all that this one has, this method too.

        Replicas at the queue's site (`Queue.site`) come first and have the domain `lan`, the others `wan`.
        """
        ...


@runtime_checkable
class NamesDestinations(Protocol):
    """What a catalogue may do besides: say where a file goes on a storage that no queue file describes."""

    def destinations(
        self, rse: str, files: Sequence[OutputFile], *, cancel: CancelToken, deadline: Deadline
    ) -> Mapping[str, Sequence[Replica]]:
        """Return the places to write each file to, by LFN, the one to try first first.

        A file may have several: one for each protocol with which the storage can be written. None has none: that, and
        a storage that is not known or takes no files, is `RequestRefused`. Raises as `ReplicaCatalog` besides.
        """
        ...


@runtime_checkable
class HearsTransfers(Protocol):
    """What a catalogue may do besides: tell others how transfers went (Rucio's traces). No job waits for that."""

    def attempted(self, job: Job, attempt: TransferAttempt) -> None:
        """Hear of an attempt to move a file of a job; returns at once and raises nothing. Any thread may call it."""
        ...

    def settle(self, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Wait until what was heard is told or given up, until the deadline at the longest; raises nothing."""
        ...
