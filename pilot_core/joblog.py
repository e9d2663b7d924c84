"""The job's log: one compressed tar archive of what the pilot and the payload wrote about the job."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pilot_core.errors import HandledError, NoSpace, PilotErrorCode

__all__ = ["make_log_archive"]

LARGEST_MEMBER = 100 * 1024 * 1024
"""Bytes; of a larger file its last part is kept, with a member that says so."""


def make_log_archive(
    archive: Path, *, folder: str, pilot_files: Sequence[Path], job_dir: Path, leave_out: Collection[str]
) -> None:
    """Write `archive` (tar, gzip): the pilot's files, and what lies in `job_dir` but the names in `leave_out`.

    Members lie in `folder`. Links are kept as links and never followed; sockets, pipes and devices are left out; a
    file that cannot be read is named in a member `left-out.txt`. Raises `NoSpace` or `HandledError`
    (LOGFILECREATIONFAILURE) if the archive cannot be written.
    """
    import io  # noqa: PLC0415
    import tarfile  # noqa: PLC0415  (needed once a job, at its end)

    missing: list[str] = []
    try:
        with tarfile.open(archive, "x:gz", compresslevel=3) as tar:
            for path, name in [*((p, p.name) for p in pilot_files), *_walk(job_dir, leave_out)]:
                try:
                    _add(tar, path, f"{folder}/{name}")
                except PermissionError as error:
                    missing.append(f"{name}: {error.strerror}")
                except FileNotFoundError:
                    missing.append(f"{name}: vanished")
            if missing:
                text = "\n".join(missing).encode(errors="backslashreplace") + b"\n"
                member = tarfile.TarInfo(f"{folder}/left-out.txt")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
    except (OSError, tarfile.TarError) as error:
        archive.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in {28, 122}:  # ENOSPC, EDQUOT
            raise NoSpace(f"no space left for the log archive {archive}; free some in the work directory") from None
        raise HandledError(
            f"the log archive {archive} cannot be written: {error}", error_code=PilotErrorCode.LOGFILECREATIONFAILURE
        ) from None


def _walk(top: Path, leave_out: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Yield files and links below `top`, sorted, with their relative names."""
    for folder, folders, files in os.walk(top, followlinks=False):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links)
        for name in sorted([*files, *links]):
            path = Path(folder) / name
            relative = str(path.relative_to(top))
            if relative not in leave_out:
                yield path, relative


def _add(tar: object, path: Path, name: str) -> None:
    """Add one member; of a file only what was there when it was opened."""
    import tarfile  # noqa: PLC0415

    assert isinstance(tar, tarfile.TarFile)  # noqa: S101  (for the type checker; the class is imported late)
    found = path.lstat()
    member = tarfile.TarInfo(name)
    member.mtime, member.mode = int(found.st_mtime), stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        tar.addfile(member)
    elif stat.S_ISREG(found.st_mode):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > LARGEST_MEMBER:
                file.seek(size - LARGEST_MEMBER)
                member.name += ".tail"
                size = LARGEST_MEMBER
            member.size = size
            tar.addfile(member, file)
