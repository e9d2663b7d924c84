"""The stager `file`: copies files of this machine, or of a storage mounted here, that `file://` URLs name.

One pass computes the checksum of the very bytes that are written. A file appears at its destination whole, by a
rename, or not at all; whatever goes wrong, the partial file is removed.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core import (
    BackendUnavailable,
    ConfigError,
    FileStat,
    Hole,
    Incoming,
    Outgoing,
    Provider,
    SourceNotFound,
    TransferError,
    TransferResult,
    hookimpl,
    setting,
    shown_url,
)
from pilot_core.api.local_files import INPUT, OUTPUT, Partial, Source, path_of, translated

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, FetchRequest, StageIn, StageOut, StoreRequest

__all__ = ["FileStager", "FileStagerSettings"]

SYNC_EVERY = 64 << 20
"""Bytes after which a stored file is flushed: one long flush at its end could not be cancelled."""


@dataclass(frozen=True)
class FileStagerSettings:
    """Settings of `stager.file`."""

    mount_points: tuple[str, ...] = setting(
        (),
        help="directories that must be mounted file systems: where one is not, nothing below it is read or written",
        metavar="DIR",
    )


class FileStager:
    """Serves `file:///path` and `file://localhost/path` in both directions; keeps nothing, safe in any thread."""

    def __init__(self, settings: FileStagerSettings | None = None) -> None:
        """Raise `ConfigError` for a mount point that is not an absolute path."""
        names = settings.mount_points if settings else ()
        for name in names:
            if not Path(name).is_absolute() or not name.isprintable():
                raise ConfigError(f"stager.file.mount_points: {name!r} is not an absolute path")
        self._mount_points = tuple(Path(os.path.normpath(name)) for name in names)

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Copy a file in; see `StageIn.fetch`.

        Nothing is flushed to disk: after a crash of the machine inputs are fetched again. A link that has the
        destination's name is replaced, not followed. The new file's mode is 0644.
        """
        what = shown_url(request.url)
        with self._opened(request, what) as source:
            incoming = Incoming(request, cancel=cancel, deadline=deadline)
            incoming.expect(source.size)
            with incoming:
                for piece in source.pieces():
                    if isinstance(piece, Hole):
                        incoming.hole(piece.length)
                    else:
                        incoming.write(piece)
                return incoming.publish(url=request.url)

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Copy a file out; see `StageOut.store`.

        Missing directories are made. On return the file and its name are flushed to disk. A source that is a
        symbolic link must stay within its own directory. The new file's mode is 0644.
        """
        path = path_of(request.url, OUTPUT)
        unsafe = 0
        self._check_mounted(path)
        _check_root(request.root)
        with (
            Outgoing(request, cancel=cancel, deadline=deadline) as outgoing,
            Partial(path, OUTPUT, shown_url(request.url), durable=True) as target,
        ):
            if not request.overwrite:
                target.check_absent()
            target.expect(outgoing.size)
            for piece in outgoing.pieces():
                if isinstance(piece, Hole):
                    target.skip(piece.length)
                    continue
                target.write(piece)
                unsafe += len(piece)
                if unsafe >= SYNC_EVERY:
                    target.flush()
                    unsafe = 0
            checksum = outgoing.finish()
            target.publish(replace=request.overwrite)
        return TransferResult(size=outgoing.sent, checksum=str(checksum), url=request.url)

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

    def _opened(self, request: FetchRequest, what: str) -> Source:
        """Open what is fetched; where a whole storage is missing, its file is not said to be lost."""
        path = path_of(request.url, INPUT)
        self._check_mounted(path)
        try:
            return Source(path, INPUT, what)
        except SourceNotFound:
            _check_root(request.root)
            raise

    def _check_mounted(self, path: Path) -> None:
        """Raise `BackendUnavailable` if a path lies below a mount point that has nothing mounted on it."""
        for place in self._mount_points:
            if path.is_relative_to(place) and not os.path.ismount(place):
                raise BackendUnavailable(f"{path}: nothing is mounted on {place} (stager.file.mount_points); mount it")


def _check_root(root: str) -> None:
    """Raise `BackendUnavailable` if a storage's own folder is not there: it would be filled on this machine's disk."""
    if not root:
        return
    try:
        there = stat.S_ISDIR(path_of(root, INPUT).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except OSError:
        return  # the transfer itself says it better
    if not there:
        raise BackendUnavailable(
            f"{shown_url(root)}: the storage's folder is not there; mount it, or make the folder if it is new"
        )


def _make(settings: FileStagerSettings, context: Context) -> FileStager:  # noqa: ARG001  (every factory's signature)
    return FileStager(settings)


_PROVIDER: Provider[Any] = Provider(
    name="file",
    factory=_make,
    settings=FileStagerSettings,
    schemes=frozenset({"file"}),
    capabilities=frozenset({"checksum:adler32", "checksum:md5"}),
)


@hookimpl
def pilot_stagein() -> list[Provider[StageIn]]:
    """Offer the stager for reading."""
    return [_PROVIDER]


@hookimpl
def pilot_stageout() -> list[Provider[StageOut]]:
    """Offer the stager for writing."""
    return [_PROVIDER]
