"""Space on the disk of the work directory, promised to jobs before they fill it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pilot_core.errors import NoSpace

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Hold", "Space", "free_space", "in_words"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def free_space(folder: Path) -> int:
    """Return the bytes that may be written below a folder, as its file system says; raises `OSError`.

    Some in user space say that they have no blocks at all: those are taken to have room for everything.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize


def in_words(size: float) -> str:
    """Return a number of bytes for people, in decimal units as disks have them."""
    for unit in _UNITS:
        if size < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"


class Hold:
    """Space that is promised; what was written in the meantime is no longer free anyway."""

    def __init__(self, size: int) -> None:
        self.left = size

    def used(self, size: int) -> None:
        """Say that so many bytes of it were written."""
        self.left = max(0, self.left - size)


class Space:
    """What is free for all jobs of a pilot together. Safe in several threads."""

    def __init__(self, reserve: int = 0, free: Callable[[Path], int] = free_space) -> None:
        """`reserve` = bytes that stay free; `free` says how many there are."""
        self._reserve = reserve
        self._free = free
        self._holds: list[Hold] = []
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, folder: Path, size: int, what: str) -> Iterator[Hold]:
        """Promise `size` bytes below a folder while the block runs.

        Raises `NoSpace` (NOLOCALSPACE) if that many are not free, of which other jobs were promised none; `OSError` if
        the file system says nothing.
        """
        hold = Hold(size)
        with self._lock:
            promised = sum(other.left for other in self._holds)
            free = self._free(folder) if size else 0
            if size and free - promised - self._reserve < size:
                raise NoSpace(self._refusal(folder, size, what, free, promised))
            self._holds.append(hold)
        try:
            yield hold
        finally:
            with self._lock:
                self._holds.remove(hold)

    def _refusal(self, folder: Path, size: int, what: str, free: int, promised: int) -> str:
        """Return what there is and what is missing, in numbers."""
        taken = [f"{in_words(promised)} are promised to other jobs"] if promised else []
        taken += [f"{in_words(self._reserve)} stay free"] if self._reserve else []
        text = f"no room for {what}: {in_words(size)} ({size} bytes) are needed, and {folder} has {in_words(free)} free"
        of_which = f", of which {' and '.join(taken)}" if taken else ""
        return f"{text}{of_which}; make room there, or give the pilot a larger disk"
