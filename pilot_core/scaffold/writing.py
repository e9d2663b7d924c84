"""Writing a new project: whole, or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.errors import BadInput, HandledError
from pilot_core.places import is_directory

if TYPE_CHECKING:
    from pilot_core.scaffold.templates import File


__all__ = ["write_project"]


def write_project(parent: Path, name: str, files: Sequence[File]) -> Path:
    """Make the directory `name` below `parent` with these files and return it.

    They are written beside it and get their place by one rename. Raises `BadInput` if something of that name is there
    or `parent` is no directory, `HandledError` if it cannot be written; then nothing is left.
    """
    target = parent / name
    if not is_directory(parent):
        raise BadInput(f"{parent}: is not a directory; make it, or give another one by --directory")
    if target.exists() or target.is_symlink():
        raise _exists(target)
    try:
        _write(parent, target, files)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        advice = "make room there" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "give another --directory"
        raise HandledError(f"{target}: cannot be written: {error.strerror}; {advice}") from None
    return target


def _write(parent: Path, target: Path, files: Sequence[File]) -> None:
    """Write everything into a directory beside the target, then give it the name."""
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
    try:
        project = beside / target.name
        project.mkdir()
        for file in files:
            path = project / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)
        # claims the name: a rename alone would replace an empty directory that somebody has just made
        target.mkdir()
        try:
            project.rename(target)
        except OSError:
            target.rmdir()
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _exists(target: Path) -> BadInput:
    return BadInput(f"{target}: exists already; remove it, or give another --directory or --set dist_name=...")
