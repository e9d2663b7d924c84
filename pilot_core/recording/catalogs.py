"""A replica catalogue that tells what it is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core.api.catalog import HearsTransfers, NamesDestinations
from pilot_core.recording.wrappers import error_of
from pilot_core.values import encode

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.communicator import FileReport
    from pilot_core.api.job import InputFile, Job, OutputFile
    from pilot_core.api.staging import Replica
    from pilot_core.recording.wrappers import Audience

__all__ = ["WatchedCatalog"]


class WatchedCatalog:
    """A catalogue that tells an audience of its calls. It can do what the one inside can do, and no more."""

    def __init__(self, inner: ReplicaCatalog, audience: Audience) -> None:
        self._inner = inner
        self._audience = audience
        able: object = inner
        if isinstance(able, NamesDestinations):
            self._naming = able
            self.destinations = self._destinations
        if isinstance(able, HearsTransfers):
            self.attempted = able.attempted
            self.settle = able.settle

    def replicas(
        self, files: Sequence[InputFile], *, cancel: CancelToken, deadline: Deadline
    ) -> Mapping[str, Sequence[Replica]]:
        """See `ReplicaCatalog.replicas`."""
        found: Mapping[str, Sequence[Replica]] = self._ask(
            "replicas", files, "", lambda: self._inner.replicas(files, cancel=cancel, deadline=deadline)
        )
        return found

    def register(self, job: Job, files: Sequence[FileReport], *, cancel: CancelToken, deadline: Deadline) -> None:
        """See `ReplicaCatalog.register`."""
        self._ask("register", files, "", lambda: self._inner.register(job, files, cancel=cancel, deadline=deadline))

    def _destinations(
        self, rse: str, files: Sequence[OutputFile], *, cancel: CancelToken, deadline: Deadline
    ) -> Mapping[str, Sequence[Replica]]:
        """See `NamesDestinations.destinations`."""
        found: Mapping[str, Sequence[Replica]] = self._ask(
            "destinations", files, rse, lambda: self._naming.destinations(rse, files, cancel=cancel, deadline=deadline)
        )
        return found

    def _ask(self, method: str, files: Sequence[Any], rse: str, call: Callable[[], Any]) -> Any:
        """Call the catalogue and tell of it."""
        about = {"method": method, "files": " ".join(file.lfn for file in files), "rse": rse}
        try:
            answer = call()
        except Exception as error:
            self._audience.event("catalog-call", **about, error=error_of(error))
            raise
        self._audience.event("catalog-call", **about, answer=encode(answer))
        return answer
