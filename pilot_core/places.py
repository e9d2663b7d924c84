"""Looking at paths that users name: what cannot be looked at is not there, as far as anybody can tell.

`Path.is_dir()` and its like raise for some paths (a name of 300 characters, a directory that may not be entered) and
return False for others; which ones depends on the version of Python.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilot_core.errors import HandledError

__all__ = ["is_directory", "is_there", "scratch_directory"]


def is_directory(path: Path) -> bool:
    """Say whether a directory is at a path, as far as can be told; raises nothing."""
    return os.path.isdir(path)  # noqa: PTH112  (it raises nothing)


def is_there(path: Path) -> bool:
    """Say whether anything is at a path, as far as can be told; raises nothing."""
    return os.path.exists(path)  # noqa: PTH110  (it raises nothing)


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """Make a directory that is removed at the end; raises `HandledError` where there is no place for one."""
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise HandledError(
            f"no directory for temporary files can be made ({error.strerror}); make room, or set TMPDIR"
        ) from None
    with made as name:
        yield Path(name)
