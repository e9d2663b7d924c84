"""Paths from `file://` URLs, files opened safely, targets that appear whole, and what each `OSError` amounts to."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote_to_bytes, urlsplit

from pilot_core.api.allocation import allocate
from pilot_core.api.extents import Hole, data_spans, plan
from pilot_core.api.url import shown_url
from pilot_core.errors import (
    AuthError,
    BackendUnavailable,
    HandledError,
    NoSpace,
    PilotErrorCode,
    SourceNotFound,
    TransferError,
    TransientError,
)

__all__ = ["INPUT", "LOCAL_INPUT", "LOCAL_OUTPUT", "OUTPUT", "Partial", "Place", "Source", "path_of", "translated"]

log = logging.getLogger(__name__)

BLOCK = 1 << 20
"""Bytes of a block unless another length is asked for."""
WRITTEN = 256 << 10
"""Bytes written at once: Linux makes the page cache of pieces as large as a write, and large ones are often scarce."""
AHEAD = 64 << 20
"""Bytes for which room is taken at once, ahead of what is written."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EISDIR})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TRANSIENT = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOTCONN,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)


@dataclass(frozen=True)
class Place:
    """One end of a transfer: whether an error there speaks of the storage or of this machine, and its codes."""

    storage: bool
    reading: bool
    failed: PilotErrorCode
    absent: PilotErrorCode
    denied: PilotErrorCode
    full: PilotErrorCode
    late: PilotErrorCode


_IN = (PilotErrorCode.MISSINGINPUTFILE, PilotErrorCode.STAGEINAUTHENTICATIONFAILURE, PilotErrorCode.NOLOCALSPACE)
_OUT = (PilotErrorCode.MISSINGOUTPUTFILE, PilotErrorCode.STAGEOUTAUTHENTICATIONFAILURE, PilotErrorCode.NOREMOTESPACE)
INPUT = Place(True, True, PilotErrorCode.STAGEINFAILED, *_IN, PilotErrorCode.STAGEINTIMEOUT)
"""A file on the storage that is fetched."""
LOCAL_INPUT = Place(False, False, PilotErrorCode.STAGEINFAILED, *_IN, PilotErrorCode.STAGEINTIMEOUT)
"""Its copy here."""
LOCAL_OUTPUT = Place(False, True, PilotErrorCode.STAGEOUTFAILED, *_OUT, PilotErrorCode.STAGEOUTTIMEOUT)
"""A file of the job that is stored."""
OUTPUT = Place(True, False, PilotErrorCode.STAGEOUTFAILED, *_OUT, PilotErrorCode.STAGEOUTTIMEOUT)
"""Its copy on the storage."""


def _handled(error: OSError, what: str, place: Place) -> HandledError:
    """Return the error whose class says what is worth trying next."""
    number = error.errno or 0
    text = f"{what}: {error.strerror or error}"
    if number in _FULL:
        return NoSpace(f"{text}; make room there", error_code=place.full)
    if number in _TRANSIENT:
        return TransientError(text, error_code=place.failed)
    if place.reading and number in _ABSENT:
        return SourceNotFound(text, error_code=place.absent)
    if place.storage and number in _DENIED:
        return AuthError(f"{text}; the pilot's account needs access there", error_code=place.denied)
    if place.storage and number == errno.EROFS:
        return BackendUnavailable(text)
    return TransferError(text, error_code=place.failed)


@contextmanager
def translated(what: str, place: Place) -> Iterator[None]:
    """Turn an `OSError` of the block into the transfer error that fits, beginning with `what`."""
    try:
        yield
    except OSError as error:
        raise _handled(error, what, place) from error


def path_of(url: str, place: Place) -> Path:
    """Return the absolute path that a `file://` URL names.

    Raises `BackendUnavailable` for another machine's file; for a URL that can name no file, what an absent file
    raises when reading and `TransferError` when writing.
    """
    what = repr(shown_url(url))
    try:
        parts = urlsplit(url)
        host = parts.netloc.lower()
    except ValueError:
        raise _bad_name(f"{what}: not a URL", place) from None
    if parts.scheme != "file" or host not in {"", "localhost"}:
        raise BackendUnavailable(f"{what}: the stager `file` serves file:///path and file://localhost/path only")
    # urlsplit drops line breaks without a word, so the text itself is looked at
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if not _plain(url) or not _plain(path):
        raise _bad_name(f"{what}: has a control character", place)
    if "?" in url or "#" in url:
        raise _bad_name(f"{what}: write ? and # in a path as %3F and %23", place)
    if not path.startswith("/") or path.endswith(("/", "/.")) or ".." in path.split("/"):
        raise _bad_name(f"{what}: not the absolute path of a file, without any `..`", place)
    return Path(path)


def _plain(text: str) -> bool:
    """Say whether the text is free of control characters."""
    return not _CONTROL.search(text)


def _bad_name(text: str, place: Place) -> HandledError:
    """Return the error for a name that no file can have."""
    if place.reading:
        return SourceNotFound(text, error_code=place.absent)
    return TransferError(text, error_code=PilotErrorCode.BADOUTPUTFILENAME if place.storage else place.failed)


class Source:
    """A regular file open for reading that notices when somebody writes to it meanwhile.

    A file of the job (`LOCAL_OUTPUT`) may be a symbolic link within its own directory only: a payload that runs in a
    container could otherwise have the pilot publish files that it cannot read itself.
    """

    def __init__(self, path: Path, place: Place, what: str) -> None:
        self.place = place
        self.what = what
        if not _plain(str(path)):
            raise _bad_name(f"{what!r}: has a control character", place)
        with translated(f"{what}: cannot be read", place):
            # not waiting for the other end of a FIFO, nor becoming a session's terminal
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            if not place.storage:
                path = self._inside(path)
                flags |= os.O_NOFOLLOW
            self.descriptor = os.open(path, flags)
        self._found = os.fstat(self.descriptor)
        if not stat.S_ISREG(self._found.st_mode):
            os.close(self.descriptor)
            raise SourceNotFound(f"{what}: not a regular file", error_code=place.absent)

    @property
    def size(self) -> int:
        """Size in bytes when it was opened."""
        return self._found.st_size

    def blocks(self, length: int = BLOCK) -> Iterator[memoryview]:
        """Yield the file from its first byte, in blocks that are valid until the next is asked for.

        Raises `TransientError` for a file that somebody writes to meanwhile; one that grows for ever ends, too.
        """
        for piece in self._walk(length, [(0, self.size)]):
            if isinstance(piece, memoryview):
                yield piece

    def pieces(self, length: int = BLOCK) -> Iterator[memoryview | Hole]:
        """Yield the file as `blocks` does, but its holes as such: they are not read."""
        # a file that has room for all its bytes on disk has no holes
        sparse = self._found.st_blocks * 512 < self.size
        return self._walk(length, data_spans(self.descriptor, self.size) if sparse else [(0, self.size)])

    def _walk(self, length: int, data: Iterable[tuple[int, int]]) -> Iterator[memoryview | Hole]:
        """Yield the parts that have data in blocks, and the holes between them.

        Blocks are read rather than mapped: a mapped file that somebody cuts ends the whole pilot by SIGBUS. The
        kernel's own copies (copy_file_range, FICLONE) show nobody the bytes, so there is no checksum of them.
        """
        size = self.size
        # one byte more than expected shows that the file grew
        buffer = memoryview(bytearray(min(length, size + 1)))
        done, short = 0, False
        with translated(f"{self.what}: cannot be read", self.place):
            if size > length:
                os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            for span in plan(size, data):
                if not span.data:
                    done, short = span.end, False
                    yield Hole(span.end - span.start)
                    continue
                while done < span.end:
                    room = buffer[: span.end - done + (span.end == size)]
                    count = os.preadv(self.descriptor, (room,), done)
                    done, short = done + count, count < len(room)
                    if not count or done > size:
                        raise self._changed(done)
                    yield room[:count]
            if not short:
                done += os.preadv(self.descriptor, (buffer[:1],), size)
        self.check_unchanged(done)

    def check_unchanged(self, size: int) -> None:
        """Raise `TransientError` unless the `size` bytes that were read are still the whole file."""
        with translated(f"{self.what}: cannot be read", self.place):
            now = os.fstat(self.descriptor)
        before = self._found
        if size != before.st_size or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise self._changed(size)

    def _changed(self, size: int) -> TransientError:
        """Return the error for a file of which `size` bytes were read while somebody wrote to it."""
        now = os.fstat(self.descriptor)
        return TransientError(
            f"{self.what}: changed while it was read ({self.size} bytes before, {now.st_size} now, {size} read)",
            error_code=self.place.failed,
        )

    def _inside(self, path: Path) -> Path:
        """Return where the path really leads; raises `SourceNotFound` if that is out of the file's own directory."""
        # not Path.resolve: before Python 3.13 a loop of links makes it raise RuntimeError
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(os.path.realpath(path.parent)):
            raise SourceNotFound(
                f"{self.what}: a symbolic link that leads out of its directory", error_code=self.place.absent
            )
        return real

    def __enter__(self) -> Source:  # noqa: PYI034  (typing.Self needs Python 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


class Partial:
    """A new file under a temporary name beside its final one; gone at the end of the block unless published."""

    def __init__(self, path: Path, place: Place, what: str, *, durable: bool) -> None:
        self.place = place
        self.what = what
        self.durable = durable
        self._name = path.name
        if not _plain(str(path)) or self._name in {"", ".."}:
            raise _bad_name(f"{what!r}: not the name of a file", place)
        # a name of the length limit leaves no room for more, so only its beginning is used
        start = os.fsdecode(os.fsencode(self._name)[:100])
        self._temporary: str | None = f".{start}.part-{secrets.token_hex(8)}"
        self._expected = self._position = self._allocated = 0
        self._gap = False
        with translated(f"{what}: cannot be written", place):
            if durable:
                _make_folders(path.parent)
            self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self.descriptor = os.open(self._temporary, flags, 0o600, dir_fd=self._folder)
            except BaseException:
                os.close(self._folder)
                raise

    def check_absent(self) -> None:
        """Raise `TransferError` if something has the final name."""
        with translated(f"{self.what}: cannot be looked at", self.place), suppress(FileNotFoundError):
            os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            raise self._exists()

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Write a whole block after what is there; raises transfer errors."""
        left = memoryview(block)
        try:
            while left:
                part = left[:WRITTEN]
                if self._allocated < self._position + len(part) <= self._expected:
                    self._allocate(len(part))
                done = os.write(self.descriptor, part)
                self._position += done
                left = left[done:]
        except OSError as error:
            raise _handled(error, f"{self.what}: cannot be written", self.place) from error
        self._gap = False

    def expect(self, size: int) -> None:
        """Take room for a file of `size` bytes while it is written: it is known earlier that the disk is full."""
        self._expected = size if size > BLOCK else 0

    def _allocate(self, count: int) -> None:
        """Take room for the next `count` bytes, and more; raises `OSError`."""
        start = max(self._allocated, self._position)
        end = min(self._expected, max(start + AHEAD, self._position + count))
        if allocate(self.descriptor, start, end - start):
            self._allocated = end
        else:
            self._expected = 0

    def skip(self, count: int) -> None:
        """Leave a hole of `count` zero bytes after what is there; raises transfer errors."""
        with translated(f"{self.what}: cannot be written", self.place):
            if self._allocated > self._position:
                os.ftruncate(self.descriptor, self._position)
            os.lseek(self.descriptor, count, os.SEEK_CUR)
        self._position += count
        self._expected = self._allocated = 0  # room that is taken ahead would fill the next hole
        self._gap = True

    def flush(self) -> None:
        """Make what was written safe on disk; raises transfer errors."""
        with translated(f"{self.what}: cannot be written", self.place):
            os.fsync(self.descriptor)

    def empty(self) -> None:
        """Take back what was written."""
        with translated(f"{self.what}: cannot be written", self.place):
            os.ftruncate(self.descriptor, 0)
            os.lseek(self.descriptor, 0, os.SEEK_SET)
        self._position = self._allocated = 0
        self._gap = False

    def publish(self, *, replace: bool) -> None:
        """Give the complete file its mode (0644) and its name; whatever had the name is not followed."""
        assert self._temporary is not None  # noqa: S101  (called once)
        with translated(f"{self.what}: cannot be written", self.place):
            try:
                os.fchmod(self.descriptor, 0o644)
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}:
                    raise
                log.debug("%s: its file system has no modes: %s", self.what, error)  # FUSE mounts, CIFS
            if self._gap or self._allocated > self._position:
                os.ftruncate(self.descriptor, self._position)
            if self.durable:
                os.fsync(self.descriptor)
            if replace or not self._linked():
                os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                self._temporary = None
            if self.durable:
                _sync_folder(self._folder)

    def _linked(self) -> bool:
        """Give the file its name if nothing has it, in one step; False if the file system knows no hard links."""
        assert self._temporary is not None  # noqa: S101  (called by publish only)
        try:
            os.link(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileExistsError:
            raise self._exists() from None
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
                raise
            self.check_absent()
            return False
        return True

    def _exists(self) -> TransferError:
        return TransferError(f"{self.what}: is there already", error_code=self.place.failed)

    def __enter__(self) -> Partial:  # noqa: PYI034
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            with suppress(FileNotFoundError):
                if self._temporary is not None:
                    os.unlink(self._temporary, dir_fd=self._folder)
        except OSError as trouble:
            log.warning("%s: the partial file %s stays: %s", self.what, self._temporary, trouble.strerror)
        finally:
            os.close(self.descriptor)
            os.close(self._folder)


def _make_folders(folder: Path) -> None:
    """Make the missing directories of a path, each safe on disk; existing ones stay as they are."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync_folder(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(descriptor: int) -> None:
    """Make a directory's new names safe on disk, where its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:
            raise
