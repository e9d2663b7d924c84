"""What lies in a job's directory: how much, and whether it has changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["DiskUse"]


class DiskUse(NamedTuple):
    """What a directory and everything below it take, links not followed."""

    size: int = 0
    """Bytes on disk: holes of sparse files do not count, and a file with several names counts once."""
    files: int = 0
    """Plain files, by names."""
    newest: float = 0.0
    """Wall time of the last change of a plain file, by its file system's clock; 0 if there is none."""

    @classmethod
    def of(cls, folder: str | os.PathLike[str]) -> DiskUse:
        """Look at a directory; what cannot be looked at is passed over, one that is not there is empty.

        A payload may have made it: links are not followed, nothing is opened but directories. About 3 microseconds for
        each name.
        """
        size, files, newest = 0, 0, 0.0
        linked: set[tuple[int, int]] = set()
        todo = [os.fsencode(folder)]
        while todo:
            try:
                entries = os.scandir(todo.pop())
            except OSError:
                continue
            with entries:
                for entry in _each(entries):
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # removed just now
                    if stat.S_ISDIR(status.st_mode):
                        todo.append(entry.path)
                    elif stat.S_ISREG(status.st_mode):
                        files += 1
                        newest = max(newest, status.st_mtime)
                        if status.st_nlink > 1:
                            name = (status.st_dev, status.st_ino)
                            if name in linked:
                                continue
                            linked.add(name)
                        size += status.st_blocks * 512
        return cls(size, files, newest)


def _each(entries: Iterable[os.DirEntry[bytes]]) -> list[os.DirEntry[bytes]]:
    """Return the entries of a directory as far as they can be read."""
    found = []
    try:
        for entry in entries:
            found.append(entry)
    except OSError:
        pass
    return found
