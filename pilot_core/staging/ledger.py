"""The attempt ledger: every attempt to move a file of a job, in order, told to whoever listens and kept as a file."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.staging import TransferAttempt

__all__ = ["AttemptFile", "Ledger"]

_JSON = json.JSONEncoder(separators=(",", ":"))
_log = logging.getLogger(__name__)


class Ledger:
    """Keeps attempts, and tells of them one at a time, in their order. Safe in several threads."""

    def __init__(self, *listeners: Callable[[TransferAttempt], None]) -> None:
        self._attempts: list[TransferAttempt] = []
        self._numbers: Counter[str] = Counter()
        self._listeners = listeners
        self._lock = threading.Lock()

    @property
    def attempts(self) -> Sequence[TransferAttempt]:
        """All of them so far."""
        return self._attempts

    def restore(self, attempts: Sequence[TransferAttempt]) -> None:
        """Begin with attempts that an earlier pilot made; nobody is told of them again."""
        with self._lock:
            self._attempts[:0] = attempts
            self._numbers.update(attempt.lfn for attempt in attempts)

    def add(self, attempt: TransferAttempt) -> None:
        """Enter an attempt under the next number of its file, and tell of it."""
        with self._lock:
            self._numbers[attempt.lfn] += 1
            number = self._numbers[attempt.lfn]
            attempt = attempt if attempt.number == number else replace(attempt, number=number)
            self._attempts.append(attempt)
            for listener in self._listeners:
                listener(attempt)


class AttemptFile:
    """The ledger as a file of JSON lines; one that cannot be written is given up with a line in the log."""

    def __init__(self, path: Path, clean: Callable[[str], str]) -> None:
        """Open the file, or go on with it; raises `OSError`. `clean` takes secrets out of texts."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o644)
        self._path = path
        self._clean = clean

    def write(self, attempt: TransferAttempt) -> None:
        """Add a line, as long as that works."""
        if self._descriptor < 0:
            return
        line = self._clean(_JSON.encode(attempt.to_json()))
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            _log.warning("%s ends here: %s", self._path, error.strerror)
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            with suppress(OSError):  # the last lines, on a full disk
                os.close(self._descriptor)
            self._descriptor = -1
