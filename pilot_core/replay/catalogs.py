"""A replica catalogue that answers as is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core.api.staging import Replica
from pilot_core.errors import RequestRefused
from pilot_core.replay.played import Results, recorded_error
from pilot_core.values import decode

if TYPE_CHECKING:
    from pilot_core.api.communicator import FileReport
    from pilot_core.api.job import InputFile, Job, OutputFile
    from pilot_core.recording.reading import Recording

__all__ = ["PlayedCatalog"]


class PlayedCatalog:
    """The catalogue that took part, and what it said."""

    def __init__(self, recording: Recording) -> None:
        self._results = Results(recording, "catalog-call", key=("method", "files", "rse"))

    def replicas(self, files: Sequence[InputFile], **_: Any) -> Mapping[str, Sequence[Replica]]:
        """See `ReplicaCatalog.replicas`."""
        return self._places("replicas", files, "")

    def register(self, job: Job, files: Sequence[FileReport], **_: Any) -> None:  # noqa: ARG002
        """See `ReplicaCatalog.register`."""
        self._play("register", files, "")

    def destinations(self, rse: str, files: Sequence[OutputFile], **_: Any) -> Mapping[str, Sequence[Replica]]:
        """See `NamesDestinations.destinations`."""
        return self._places("destinations", files, rse)

    def _places(self, method: str, files: Sequence[Any], rse: str) -> Mapping[str, Sequence[Replica]]:
        """Return the replicas of an answer; raises `RequestRefused` for one that is no answer."""
        answer = self._play(method, files, rse)
        try:
            return {lfn: [decode(Replica, one) for one in found] for lfn, found in answer.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise RequestRefused(
                f"the recorded answer of the catalogue to {method} cannot be played: {error}"
            ) from None

    def _play(self, method: str, files: Sequence[Any], rse: str) -> Any:
        """Return what the catalogue answered, or raise what it raised."""
        names = " ".join(file.lfn for file in files)
        found = self._results.next(method, names, rse)
        if found is None:
            raise RequestRefused(f"the recording has no {method} of {names} by a catalogue")
        if "error" in found:
            raise recorded_error(found["error"])
        return found.get("answer")
