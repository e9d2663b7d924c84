"""The job's log: one compressed tar archive of what the pilot and the payload wrote about the job.

A payload may leave anything in its directory, on purpose or not. Whatever that is, the archive is made, holds nothing
from outside of the directory, and stays within limits; what it does not hold is named in it.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pilot_core.errors import HandledError, NoSpace, PilotErrorCode

if TYPE_CHECKING:
    import tarfile

    from pilot_core.api.cancel import CancelToken

__all__ = ["make_log_archive"]

LARGEST_MEMBER = 100 * 1024 * 1024
"""Bytes; of a larger file its last part is kept, in a member whose name ends in `.tail`."""
LARGEST_TOTAL = 1024 * 1024 * 1024
"""Bytes of all members together, before compression; files beyond that are named only."""
MOST_MEMBERS = 10_000
"""Files in the archive, and names read of one directory; what is beyond that is left out."""
LEFT_OUT = "left-out.txt"
"""The member that names what is not in the archive, with reasons."""
MOST_NAMES = 1_000
"""Lines in that member."""


def make_log_archive(
    archive: Path,
    *,
    folder: str,
    pilot_files: Sequence[Path],
    job_dir: Path,
    leave_out: Collection[str],
    cancel: CancelToken | None = None,
) -> None:
    """Write `archive` (tar, gzip): the pilot's files, and what lies in `job_dir` but the names in `leave_out`.

    Members lie in `folder`; one of `job_dir` that has a pilot's file's name gets `.payload` after it. Links are kept
    as links and never followed; sockets, pipes and devices are left out; what cannot be read, or is beyond the limits,
    is named in a member `left-out.txt`. Raises `NoSpace`, or `HandledError` (LOGFILECREATIONFAILURE), if the archive
    cannot be written, or `Cancelled`; nothing is left of it then. An older file of that name is an error.
    """
    import tarfile  # noqa: PLC0415  (needed once a job, at its end)

    try:
        # GNU's format takes names of any bytes and of any length, and every tar reads it without a word
        tar = tarfile.open(archive, "x:gz", compresslevel=3, format=tarfile.GNU_FORMAT)  # noqa: SIM115  (closed below)
    except OSError as error:
        raise _failure(archive, error) from None
    taken = {path.name for path in pilot_files} | {LEFT_OUT}
    try:
        with tar:
            writer = _Writer(tar, folder)
            for path in pilot_files:
                writer.add(path, path.name)
            for path, name in _walk(job_dir, leave_out, writer):
                if cancel is not None:
                    cancel.raise_if_cancelled()
                first, slash, rest = name.partition("/")
                writer.add(path, f"{first}.payload{slash}{rest}" if first in taken else name)
            writer.add_left_out()
    except BaseException as error:
        archive.unlink(missing_ok=True)
        if isinstance(error, (OSError, tarfile.TarError)):
            raise _failure(archive, error) from None
        raise


def _failure(archive: Path, error: Exception) -> HandledError:
    """Return what is told when an archive cannot be written."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(f"no space left for the log archive {archive}; free some in the work directory")
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return HandledError(
        f"the log archive {archive} cannot be written: {why}", error_code=PilotErrorCode.LOGFILECREATIONFAILURE
    )


class _Writer:
    """Adds members within the limits, and notes what is not added."""

    def __init__(self, tar: tarfile.TarFile, folder: str) -> None:
        self._tar = tar
        self._folder = folder
        self._members = 0
        self._bytes = 0
        self._notes: list[str] = []
        self._more_notes = 0

    def note(self, name: str, why: str) -> None:
        """Note that something is not in the archive, or not whole."""
        if len(self._notes) < MOST_NAMES:
            self._notes.append(f"{_shown(name)}: {why}")
        else:
            self._more_notes += 1

    def add(self, path: Path, name: str) -> None:
        """Add a file or link; raises `OSError` only if the archive cannot be written."""
        try:
            member, file = _open(path, f"{self._folder}/{name}")
        except OSError as error:
            self.note(name, error.strerror or str(error))
            return
        with file:
            if member is None:
                return
            if self._members >= MOST_MEMBERS or self._bytes + member.size > LARGEST_TOTAL:
                self.note(name, f"the archive has {self._members} files of {self._bytes} bytes, which is enough")
                return
            self._members += 1
            self._bytes += member.size
            source = _Exactly(file)
            self._tar.addfile(member, source)
            if source.short:
                self.note(name, "could not be read to its end; zeros stand for the rest")

    def add_left_out(self) -> None:
        """Add the member that names what is missing, if anything is."""
        import tarfile  # noqa: PLC0415

        if not self._notes:
            return
        more = [f"and {self._more_notes} more"] if self._more_notes else []
        text = "".join(f"{line}\n" for line in (*self._notes, *more)).encode()
        member = tarfile.TarInfo(f"{self._folder}/{LEFT_OUT}")
        member.size = len(text)
        self._tar.addfile(member, io.BytesIO(text))


class _Exactly(io.RawIOBase):
    """A file that is read to exactly the length that was asked for, whatever became of it meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.short = False
        """Whether it ended early, or failed."""

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes; zeros where there are no more."""
        data = b""
        while len(data) < size and not self.short:
            try:
                more = self._file.read(size - len(data))
            except OSError:
                more = b""
            data += more
            self.short = not more
        return data.ljust(size, b"\0")


def _walk(top: Path, leave_out: Collection[str], writer: _Writer) -> Iterator[tuple[Path, str]]:
    """Yield what lies below `top` and is no directory, with relative names; what begins with `payload.` first.

    However deep the tree is: it takes no recursion, and a path that has become too long is a note.
    """
    todo = [""]
    while todo:
        relative = todo.pop()
        try:
            with os.scandir(f"{top}/{relative}") as entries:
                found = sorted(islice(entries, MOST_MEMBERS), key=_first_payloads)
                if next(entries, None) is not None:
                    writer.note(relative or ".", f"has more than {MOST_MEMBERS} names, and not all are here")
        except OSError as error:
            writer.note(relative or ".", error.strerror or str(error))
            continue
        below = []
        for entry in found:
            name = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir(follow_symlinks=False):
                below.append(name)
            elif name not in leave_out:
                yield Path(entry.path), name
        todo += reversed(below)


def _first_payloads(entry: os.DirEntry[str]) -> tuple[bool, str]:
    return (not entry.name.startswith("payload."), entry.name)


def _open(path: Path, name: str) -> tuple[tarfile.TarInfo | None, BinaryIO]:
    """Return the member for a file or link with what is to be read; None for anything else. Raises `OSError`.

    Of a file that is being written only what was there when it was opened counts.
    """
    import tarfile  # noqa: PLC0415

    found = path.lstat()
    member = tarfile.TarInfo(name)
    # so that whoever unpacks it can read and remove it, and no program in it gets rights
    member.mtime, member.mode = int(found.st_mtime), stat.S_IMODE(found.st_mode) & 0o777 | 0o600
    if stat.S_ISLNK(found.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        return member, io.BytesIO()
    if not stat.S_ISREG(found.st_mode):
        return None, io.BytesIO()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    now = os.fstat(descriptor)
    if not stat.S_ISREG(now.st_mode):
        file.close()
        return None, io.BytesIO()
    member.size = now.st_size
    if member.size > LARGEST_MEMBER:
        file.seek(member.size - LARGEST_MEMBER)
        member.name += ".tail"
        member.size = LARGEST_MEMBER
    return member, file


def _shown(name: str) -> str:
    """Return a name on one line, whatever it is made of."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)
