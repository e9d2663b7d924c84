"""The stager `file`: copies files of this machine, or of a storage mounted here, that `file://` URLs name.

One pass computes the checksum of the very bytes that are written. A file appears at its destination whole, by a
rename, or not at all; whatever goes wrong, the partial file is removed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_core import (
    ChecksumMismatch,
    FileStat,
    NoSettings,
    PilotErrorCode,
    Provider,
    SizeMismatch,
    SourceNotFound,
    TransferError,
    TransferResult,
    TransferTimeout,
    hookimpl,
    shown_url,
)
from pilot_core.builtin.file_access import (
    INPUT,
    LOCAL_INPUT,
    LOCAL_OUTPUT,
    OUTPUT,
    Partial,
    Source,
    path_of,
    translated,
)
from pilot_core.checksums import Checksum, Digest, parse

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, FetchRequest, StageIn, StageOut, StoreRequest

__all__ = ["FileStager"]

BLOCK = 1 << 20
"""Bytes moved between two looks at cancellation and deadline."""
SYNC_EVERY = 64 << 20
"""Bytes after which a stored file is flushed: one long flush at its end could not be cancelled."""

_IN_CODES = {"adler32": PilotErrorCode.GETADMISMATCH, "md5": PilotErrorCode.GETMD5MISMATCH}
_OUT_CODES = {"adler32": PilotErrorCode.PUTADMISMATCH, "md5": PilotErrorCode.PUTMD5MISMATCH}


@dataclass(kw_only=True)
class _Copy:
    """One pass over a file: read, checksum, write."""

    source: Source
    target: Partial
    digest: Digest
    progress: Callable[[int], None]
    cancel: CancelToken
    deadline: Deadline

    def run(self) -> int:
        """Copy the file and return the number of bytes; raises transfer errors and `Cancelled`."""
        expected = self.source.size
        # one byte more than expected shows that the file grew, and ends the reading of one that grows for ever
        buffer = memoryview(bytearray(min(BLOCK, expected + 1)))
        done = 0
        while done <= expected:
            self._check()
            with translated(f"{self.source.what}: cannot be read", self.source.place):
                count = os.readv(self.source.descriptor, (buffer,))
            if not count:
                break
            self.digest.update(buffer[:count])
            with translated(f"{self.target.what}: cannot be written", self.target.place):
                self._write(buffer[:count], done)
            done += count
            self.progress(done)
        self._check()
        self.source.check_unchanged(done)
        return done

    def _write(self, block: memoryview, offset: int) -> None:
        """Write a whole block, and flush now and then what has to be on disk in the end."""
        left = block
        while left:
            left = left[os.write(self.target.descriptor, left) :]
        if self.target.durable and offset // SYNC_EVERY != (offset + len(block)) // SYNC_EVERY:
            os.fsync(self.target.descriptor)

    def _check(self) -> None:
        """Raise if the copy should stop."""
        self.cancel.raise_if_cancelled()
        if self.deadline.passed:
            place = self.source.place
            raise TransferTimeout(
                f"{self.source.what}: not copied within the time allowed for it", error_code=place.late
            )


class FileStager:
    """Serves `file:///path` and `file://localhost/path` in both directions; keeps nothing, safe in any thread."""

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Copy a file in; see `StageIn.fetch`.

        Nothing is flushed to disk: after a crash of the machine inputs are fetched again. A link that has the
        destination's name is replaced, not followed. The new file's mode is 0644.
        """
        url, what = request.url, shown_url(request.url)
        wanted = _wanted(request.checksum, what)
        with Source(path_of(url, INPUT), INPUT, what) as source:
            if request.size is not None and source.size != request.size:
                raise SizeMismatch(f"{what}: {source.size} bytes, but the catalogue says {request.size}")
            here = request.destination
            with Partial(here, LOCAL_INPUT, str(here), durable=False) as target:
                digest = Digest(wanted.name if wanted else "adler32")
                copy = _Copy(
                    source=source,
                    target=target,
                    digest=digest,
                    progress=request.progress,
                    cancel=cancel,
                    deadline=deadline,
                )
                size = copy.run()
                _verify(digest, wanted, what, _IN_CODES)
                target.publish(replace=True)
        return TransferResult(size=size, checksum=str(digest.checksum()), url=url)

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Copy a file out; see `StageOut.store`.

        Missing directories are made. On return the file and its name are flushed to disk. A source that is a
        symbolic link must stay within its own directory. The new file's mode is 0644.
        """
        url, what = request.url, str(request.source)
        name, colon, _ = request.checksum.partition(":")
        wanted = _wanted(request.checksum if colon else "", what)
        digest = _digest(wanted.name if wanted else name, what)
        path = path_of(url, OUTPUT)
        with (
            Source(request.source, LOCAL_OUTPUT, what) as source,
            Partial(path, OUTPUT, shown_url(url), durable=True) as target,
        ):
            if not request.overwrite:
                target.check_absent()
            copy = _Copy(
                source=source,
                target=target,
                digest=digest,
                progress=request.progress,
                cancel=cancel,
                deadline=deadline,
            )
            size = copy.run()
            _verify(digest, wanted, what, _OUT_CODES)
            target.publish(replace=request.overwrite)
        return TransferResult(size=size, checksum=str(digest.checksum()), url=url)

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        """Return the file's size; a file system knows no checksum."""
        cancel.raise_if_cancelled()
        what = shown_url(url)
        deadline.raise_if_passed(what)
        with translated(f"{what}: cannot be looked at", INPUT):
            found = path_of(url, INPUT).stat()
        if not stat.S_ISREG(found.st_mode):
            raise SourceNotFound(f"{what}: not a regular file")
        return FileStat(size=found.st_size)

    def remove(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Delete the file, or the link that has its name."""
        cancel.raise_if_cancelled()
        what = shown_url(url)
        deadline.raise_if_passed(what)
        path = path_of(url, INPUT)
        with translated(f"{what}: cannot be removed", INPUT):
            if stat.S_ISDIR(path.lstat().st_mode):
                raise TransferError(f"{what}: a directory; only files are removed")
            path.unlink()


def _wanted(text: str, what: str) -> Checksum | None:
    """Read the checksum that a file has to have; raises `TransferError` for one that is not known here."""
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise TransferError(f"{what}: {error}", error_code=PilotErrorCode.CHKSUMNOTSUP) from None


def _digest(name: str, what: str) -> Digest:
    """Begin a checksum; raises `TransferError` for one that is not known here."""
    try:
        return Digest(name.strip().lower() or "adler32")
    except ValueError as error:
        raise TransferError(f"{what}: {error}", error_code=PilotErrorCode.CHKSUMNOTSUP) from None


def _verify(digest: Digest, wanted: Checksum | None, what: str, codes: dict[str, PilotErrorCode]) -> None:
    """Raise `ChecksumMismatch` unless the bytes that were copied are the wanted ones."""
    found = digest.checksum()
    if wanted is not None and found != wanted:
        raise ChecksumMismatch(
            f"{what}: its checksum is {found}, but {wanted} was expected", error_code=codes.get(found.name)
        )


def _make(settings: NoSettings, context: Context) -> FileStager:  # noqa: ARG001  (every factory's signature)
    return FileStager()


_CAPABILITIES = frozenset({"checksum:adler32", "checksum:md5"})


@hookimpl
def pilot_stagein() -> list[Provider[StageIn]]:
    """Offer the stager for reading."""
    return [Provider(name="file", factory=_make, schemes=frozenset({"file"}), capabilities=_CAPABILITIES)]


@hookimpl
def pilot_stageout() -> list[Provider[StageOut]]:
    """Offer the stager for writing."""
    return [Provider(name="file", factory=_make, schemes=frozenset({"file"}), capabilities=_CAPABILITIES)]
