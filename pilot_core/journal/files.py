"""A journal as a file of JSON lines, and a journal that no failure stops.

The file is for a job that is run out of a file and has no pilot's journal, and what goes into every job's log archive.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from pilot_core.journal.points import DURABLE

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.clock import Clock

__all__ = ["FileJournal", "Journal", "SteadyJournal"]


class Journal(Protocol):
    """Where one job's steps are recorded."""

    @property
    def whole(self) -> bool:
        """Whether a step that could not be recorded leaves nothing behind; a later pilot reads such a journal."""
        ...

    def record(self, step: str, **details: Any) -> None:
        """Record one step with its details (plain JSON values). Raises `OSError` if it cannot be kept."""
        ...

    def export(self, file: Path) -> None:
        """Have the steps so far in a file of JSON lines; raises `OSError`."""
        ...

    def close(self) -> None:
        """Close the journal; nothing can be recorded after that."""
        ...


class FileJournal:
    """A journal as one file of JSON lines: `{"at": wall time, "step": name, ...}`.

    The steps in `DURABLE` are flushed to disk with fdatasync before `record` returns, the rest are handed to the
    kernel, so that they survive the pilot's end but perhaps not the machine's.
    """

    whole = False
    """Half a line may be left."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._clock = clock
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def record(self, step: str, **details: Any) -> None:
        """Append one line; see the class about which steps are durable on return."""
        line = json.dumps({"at": round(self._clock.wall(), 6), "step": step, **details}, separators=(",", ":"))
        data = line.encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]
        if step in DURABLE:
            os.fdatasync(self._descriptor)

    def export(self, file: Path) -> None:
        """Do nothing: it is such a file."""

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SteadyJournal:
    """A journal that a full disk cannot stop: the first failure is told once, and the job goes on.

    What is recorded later is tried again where a failure leaves nothing behind (`whole`), and lost otherwise.
    """

    def __init__(self, failed: Callable[[OSError], None]) -> None:
        self._journal: Journal | None = None
        self._failed = failed
        self._told = False

    def begin(self, journal: Journal) -> None:
        """Record into `journal` from now on; what came before is lost."""
        self._journal = journal

    def record(self, step: str, **details: Any) -> bool:
        """Record one step, if that is possible; False where a later pilot would need it, and will not have it."""
        journal = self._journal
        if journal is None:
            return True
        try:
            journal.record(step, **details)
        except OSError as error:
            if not journal.whole:
                self.close()
            if not self._told:
                self._told = True
                self._failed(error)
            return not journal.whole
        return True

    def export(self, file: Path) -> None:
        """Have the steps so far in a file, as well as that can be done."""
        if self._journal is not None:
            with suppress(OSError):  # the log has the same, for people
                self._journal.export(file)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
