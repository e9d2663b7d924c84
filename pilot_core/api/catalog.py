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
    """Knows where files lie (Rucio)."""

    def replicas(
        self, files: Sequence[InputFile], *, cancel: CancelToken, deadline: Deadline
    ) -> Mapping[str, Sequence[Replica]]:
        """Return the replicas of each file, by LFN, in the catalogue's order of preference."""
        ...

    def register(self, job: Job, files: Sequence[FileReport], *, cancel: CancelToken, deadline: Deadline) -> None:
        """Make stored outputs known."""
        ...
