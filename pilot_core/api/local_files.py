"""Files opened safely, and targets that appear whole."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from pilot_core.api.allocation import allocate
from pilot_core.api.extents import Hole, data_spans, plan
from pilot_core.api.local_places import (
    INPUT,
    LOCAL_INPUT,
    LOCAL_OUTPUT,
    OUTPUT,
    Place,
    bad_name,
    handled,
    is_plain,
    path_of,
    translated,
)
from pilot_core.errors import SourceNotFound, TargetExists, TransientError

__all__ = ["INPUT", "LOCAL_INPUT", "LOCAL_OUTPUT", "OUTPUT", "Partial", "Place", "Source", "path_of", "translated"]

log = logging.getLogger(__name__)

BLOCK = 1 << 20
"""Bytes of a block unless another length is asked for."""
WRITTEN = 256 << 10
"""Bytes written at once: Linux makes the page cache of pieces as large as a write, and large ones are often scarce."""
AHEAD = 64 << 20
"""Bytes for which room is taken at once, ahead of what is written."""

_DESCRIPTORS = Path("/proc/self/fd")


class Source:
    """A regular file open for reading that notices when somebody writes to it meanwhile.

    A file of the job (`LOCAL_OUTPUT`) may be a symbolic link within its own directory only: a payload that runs in a
    container could otherwise have the pilot publish files that it cannot read itself.
    """

    def __init__(self, path: Path, place: Place, what: str) -> None:
        self.place = place
        self.what = what
        if not is_plain(str(path)):
            raise bad_name(f"{what!r}: has a control character", place)
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
                with suppress(OSError):  # advice only
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
        now, before = os.fstat(self.descriptor), self._found
        if (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns):
            return TransientError(
                f"{self.what}: only {size} of its {self.size} bytes were read, though the storage says that it has it",
                error_code=self.place.failed,
            )
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
    """A new file under a temporary name beside its final one; gone at the end of the block unless published.

    On a storage (`durable`) it has no name at all until then, wherever the file system can do that: nothing is left of
    it even if the pilot is killed.
    """

    def __init__(self, path: Path, place: Place, what: str, *, durable: bool) -> None:
        self.place = place
        self.what = what
        self.durable = durable
        self._name = path.name
        if not is_plain(str(path)) or self._name in {"", ".."}:
            raise bad_name(f"{what!r}: not the name of a file", place)
        # a name of the length limit leaves no room for more, so only its beginning is used
        start = self._name[:100] if self._name.isascii() else os.fsdecode(os.fsencode(self._name)[:100])
        self._hidden = f".{start}.part-{secrets.token_hex(8)}"
        self._temporary: str | None = None
        self._expected = self._position = self._allocated = 0
        self._gap = False
        with translated(f"{what}: cannot be written", place):
            if durable:
                _make_folders(path.parent)
            self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.descriptor = self._opened()
            except BaseException:
                os.close(self._folder)
                raise

    def _opened(self) -> int:
        """Make the file; returns its descriptor. Raises `OSError`."""
        if self.durable and _DESCRIPTORS.is_dir():
            # NFS, FUSE and others cannot; any real trouble comes again with a name
            with suppress(OSError):
                return os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._hidden, flags, 0o600, dir_fd=self._folder)
        self._temporary = self._hidden
        return descriptor

    def check_absent(self) -> None:
        """Raise `TargetExists` if something has the final name."""
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
                self._gap = False
                left = left[done:]
        except OSError as error:
            raise handled(error, f"{self.what}: cannot be written", self.place) from error

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
                self._put()
            if self.durable:
                _sync_folder(self._folder)

    def _linked(self) -> bool:
        """Give the file its name if nothing has it, in one step; False if the file system knows no hard links."""
        try:
            self._link(self._name)
        except FileExistsError:
            raise self._exists() from None
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
                raise
            self.check_absent()
            return False
        return True

    def _put(self) -> None:
        """Give the file its name, also in the place of another; raises `OSError`."""
        if self._temporary is None:
            try:
                self._link(self._name)
            except FileExistsError:
                self._link(self._hidden)
                self._temporary = self._hidden
        if self._temporary is not None:
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._temporary = None

    def _link(self, name: str) -> None:
        """Give the file a name that nothing has; raises `OSError`."""
        if self._temporary is None:  # open(2): how a file of O_TMPFILE gets a name without a privilege
            os.link(f"{_DESCRIPTORS}/{self.descriptor}", name, dst_dir_fd=self._folder, follow_symlinks=True)
        else:
            os.link(self._temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _exists(self) -> TargetExists:
        return TargetExists(f"{self.what}: is there already", error_code=self.place.failed)

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
