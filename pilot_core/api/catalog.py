"""The task "find and register replicas"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.communicator import FileReport
    from pilot_core.api.job import InputFile, Job
    from pilot_core.api.staging import Replica

__all__ = ["ReplicaCatalog"]


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
