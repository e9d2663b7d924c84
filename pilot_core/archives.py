"""Outputs that go out in one archive (PanDA's `ZIP_MAP`): which they are, and making it.

An archive is an output of the job whose members are others of its outputs. These are not stored singly; the server is
told size and checksum of each, which are those of the bytes that went into the archive. An archive that the payload
made itself is stored as it is.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pilot_core.api.checksums import Digest
from pilot_core.errors import HandledError, NoSpace, PilotErrorCode

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.job import Job

__all__ = ["Packed", "look_at", "make_archive", "members_of"]

_TAR = re.compile(r"\.(tar|tar\.gz|tgz)(\.\d+)?$", re.IGNORECASE)
"""Names of tar archives, PanDA's numbers of attempts after them; all others are zip archives."""
_GZIPPED = re.compile(r"gz(\.\d+)?$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A file in an archive."""

    lfn: str
    size: int
    checksum: str
    """`name:value`."""


def members_of(job: Job) -> Mapping[str, Sequence[str]]:
    """Return the job's archives that are outputs of it, with the outputs that go into each, in the job's order.

    An output is in one archive only, the first that names it; an archive is in none.
    """
    outputs = [file.lfn for file in job.outputs]
    taken = set(job.archives)
    found: dict[str, Sequence[str]] = {}
    for archive, patterns in job.archives.items():
        if archive in outputs:
            found[archive] = [
                lfn for lfn in outputs if lfn not in taken and any(fnmatchcase(lfn, each) for each in patterns)
            ]
            taken.update(found[archive])
    return found


def make_archive(archive: Path, members: Sequence[Path], *, cancel: CancelToken) -> list[Packed]:
    """Write an archive of files, by its name a tar or a zip archive, not compressed unless the name says gz.

    The same files always give the same archive. Raises `NoSpace`, `Cancelled`, or `HandledError` for a file that
    cannot be read or an archive that cannot be written; nothing is left of it then. An older file of its name is an
    error.
    """
    made = False
    try:
        with _writer(archive) as add:
            made = True
            return [_packed(path, add(path.name), cancel) for path in members]
    except BaseException as error:
        if made:
            archive.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _failure(archive, error) from None
        raise


def look_at(path: Path, *, cancel: CancelToken) -> Packed:
    """Return size and checksum of a file that lies in an archive which the payload made; raises as `make_archive`."""
    return _packed(path, _Nowhere(), cancel)


class _Nowhere:
    """Where the bytes of a file go that is only looked at."""

    def begin(self, size: int) -> Any:  # noqa: ARG002
        return closing(self)

    def close(self) -> None:
        pass

    def write(self, block: memoryview) -> None:
        pass


def _packed(path: Path, place: Any, cancel: CancelToken) -> Packed:
    """Read a file once, into its place in the archive, and return what is to be known of it."""
    from pilot_core.api.local_files import LOCAL_OUTPUT, Source  # noqa: PLC0415  (for jobs with archives only)

    digest = Digest("adler32")
    with Source(path, LOCAL_OUTPUT, f"output {path.name}") as source, place.begin(source.size) as member:
        for block in source.blocks():
            cancel.raise_if_cancelled()
            digest.update(block)
            member.write(block)
        return Packed(lfn=path.name, size=source.size, checksum=str(digest.checksum()))


class _ZipPlace:
    """The place of one file in a zip archive."""

    def __init__(self, archive: Any, name: str) -> None:
        import zipfile  # noqa: PLC0415

        self._archive = archive
        # the oldest time that the format has: the same files make the same archive
        self._info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        self._info.external_attr = 0o100644 << 16

    def begin(self, size: int) -> Any:
        self._info.file_size = size
        return self._archive.open(self._info, "w", force_zip64=size >= 1 << 31)


class _TarPlace:
    """The place of one file in a tar archive."""

    def __init__(self, archive: Any, name: str) -> None:
        import tarfile  # noqa: PLC0415

        self._archive = archive
        self._info = tarfile.TarInfo(name)

    @contextmanager
    def begin(self, size: int) -> Iterator[Any]:
        self._info.size = size
        self._archive.addfile(self._info)
        yield self._archive.fileobj
        if size % 512:
            self._archive.fileobj.write(bytes(512 - size % 512))
        self._archive.offset += (size + 511) // 512 * 512


@contextmanager
def _writer(archive: Path) -> Iterator[Any]:
    """Open a new archive; what is yielded gives a place to each name."""
    if _TAR.search(archive.name):
        import gzip  # noqa: PLC0415
        import tarfile  # noqa: PLC0415

        with archive.open("xb") as raw:
            # its header has neither name nor time: the same files make the same archive
            packed = gzip.GzipFile("", "wb", 3, raw, mtime=0) if _GZIPPED.search(archive.name) else raw
            with packed, tarfile.open(mode="w", fileobj=packed, format=tarfile.GNU_FORMAT) as tar:
                yield lambda name: _TarPlace(tar, name)
        return
    import zipfile  # noqa: PLC0415

    with archive.open("xb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as made:
        yield lambda name: _ZipPlace(made, name)


def _failure(archive: Path, error: OSError) -> HandledError:
    """Return what is told when an archive cannot be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(
            f"no space left for the archive {archive.name} of the job's outputs; let the job ask for more "
            "(maxDiskCount)",
            error_code=PilotErrorCode.NOLOCALSPACE,
        )
    return HandledError(
        f"the archive {archive.name} of the job's outputs cannot be written: {error.strerror or error}",
        error_code=PilotErrorCode.FILEHANDLINGFAILURE,
    )
