"""What pilot-core promises of every transfer: whole or not at all, verified, stopped in time, errors by their class.

Nothing here knows the storage's protocol: `Copy.run` takes anything that can be read and anything that can be written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pilot_core import (
    AuthError,
    ChecksumMismatch,
    HandledError,
    NoSpace,
    SizeMismatch,
    SourceNotFound,
    TargetExists,
    TransferError,
    TransientError,
)

if TYPE_CHECKING:
    from pilot_core import CancelToken, Deadline

BLOCK = 1 << 20
"""Bytes between two looks at cancellation and deadline."""
DIGITS = {"adler32": 8, "md5": 32}
"""The checksums that can be computed here, and how many hexadecimal digits they have."""

ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO}
DENIED = {errno.EACCES, errno.EPERM}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
LATER = {errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}


class Readable(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end; raises an error of pilot-core."""
        ...


class Writable(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> None:
        """Take all of the bytes; raises an error of pilot-core."""
        ...


# -- moving the bytes --------------------------------------------------------------------------------------------------


class Copy:
    """Moves the bytes of one file, and computes the checksum of the very bytes that it moves."""

    def __init__(
        self, checksum: str, what: str, progress: Callable[[int], None], cancel: CancelToken, deadline: Deadline
    ) -> None:
        """`checksum` is empty, a name, or the `name:value` that the bytes must have; `what` names the file."""
        self._name, self._wanted = checksum_of(checksum, what)
        self._what = what
        self._progress = progress
        self._cancel = cancel
        self._deadline = deadline
        self._adler = 1
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._check()

    @property
    def checksum(self) -> str:
        """`name:value` of what was moved."""
        return f"adler32:{self._adler:08x}" if self._name == "adler32" else f"md5:{self._md5.hexdigest()}"

    def run(self, source: Readable, target: Writable, *, expected: int | None = None) -> int:
        """Move everything and return the number of bytes; raises if they are not those that were expected."""
        moved = 0
        while block := source.read(BLOCK):
            moved += len(block)
            if expected is not None and moved > expected:
                raise SizeMismatch(f"{self._what}: has more than the {expected} bytes that were expected")
            target.write(block)
            if self._name == "adler32":
                self._adler = zlib.adler32(block, self._adler)
            else:
                self._md5.update(block)
            self._progress(moved)
            self._check()
        if expected is not None and moved < expected:
            raise SizeMismatch(f"{self._what}: has {moved} bytes, {expected} were expected")
        if self._wanted and self.checksum != self._wanted:
            raise ChecksumMismatch(f"{self._what}: its checksum is {self.checksum}, {self._wanted} was expected")
        return moved

    def _check(self) -> None:
        """Raise `Cancelled` or `TransferTimeout` if it is time to stop."""
        self._cancel.raise_if_cancelled()
        self._deadline.raise_if_passed(self._what)


def checksum_of(text: str, what: str) -> tuple[str, str]:
    """Return the name of a checksum, and all of it if it has a value; raises `TransferError` for an unknown one."""
    name, colon, value = text.lower().partition(":")
    if not text:
        return "adler32", ""
    if name not in DIGITS or (colon and (len(value) != DIGITS[name] or set(value) - set("0123456789abcdef"))):
        raise TransferError(f"{what}: the checksum {text!r} is not known here; known: {', '.join(DIGITS)}")
    return name, f"{name}:{value}" if colon else ""


# -- files of this machine ---------------------------------------------------------------------------------------------


class Side(Enum):
    """Where a file is: the same error is of another class on the storage than in the job's directory."""

    STORAGE = "storage"
    HERE = "here"


@dataclass(frozen=True)
class OpenFile:
    """An open file that raises pilot-core's errors."""

    descriptor: int
    what: str
    side: Side
    size: int = 0
    """Bytes that it had when it was opened: one that grows is not read for ever."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        with translated(self.what, self.side):
            return os.read(self.descriptor, size)

    def write(self, data: bytes, /) -> None:
        """Write all of the bytes."""
        rest = memoryview(data)
        with translated(self.what, self.side, writing=True):
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]


@contextmanager
def opened(path: Path, what: str, side: Side) -> Iterator[OpenFile]:
    """Open a file for reading; a directory, a pipe or a device is no file."""
    # a file of the job may not lead elsewhere: a payload could have the pilot publish what it cannot read itself
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if side is Side.HERE else 0)
    with translated(what, side):
        descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SourceNotFound(f"{what}: is no file")
        yield OpenFile(descriptor, what, side, found.st_size)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: Path, what: str, side: Side, *, overwrite: bool = True) -> Iterator[OpenFile]:
    """Open a new file that gets its name at the end of the block, safe on disk; after an error nothing is left."""
    with translated(what, side, writing=True):
        if not overwrite and os.path.lexists(path):
            raise TargetExists(f"{what}: is there already")
        descriptor, name = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    part = Path(name)
    try:
        try:
            yield OpenFile(descriptor, what, side)
            with translated(what, side, writing=True):
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with translated(what, side, writing=True):
            if overwrite:
                part.replace(path)
            else:
                path.hardlink_to(part)
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a directory safe on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- errors ------------------------------------------------------------------------------------------------------------


@contextmanager
def translated(what: str, side: Side, *, writing: bool = False) -> Iterator[None]:
    """Turn what the operating system says into the error whose class tells the pilot what to try next."""
    try:
        yield
    except FileExistsError:
        raise TargetExists(f"{what}: is there already") from None
    except OSError as error:
        raise error_of(error, what, side, writing=writing) from error
    except ValueError as error:  # a name with a NUL byte
        raise TransferError(f"{what!r}: {error}") from error


def error_of(error: OSError, what: str, side: Side, *, writing: bool) -> HandledError:
    """Return the error of pilot-core that an error of the operating system amounts to."""
    text = f"{what if what.isprintable() else repr(what)}: {error.strerror}"
    if error.errno in FULL:
        return NoSpace(f"{text}; make room there")
    if error.errno in LATER:
        return TransientError(text)
    if error.errno in ABSENT and not writing:
        return SourceNotFound(text)
    if error.errno in DENIED and side is Side.STORAGE:
        return AuthError(f"{text}; the pilot's account needs access there")
    return TransferError(text)
