"""Looking at paths that users name: what cannot be looked at is not there, as far as anybody can tell.

`Path.is_dir()` and its like raise for some paths (a name of 300 characters, a directory that may not be entered) and
return False for others; which ones depends on the version of Python.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_directory", "is_there"]


def is_directory(path: Path) -> bool:
    """Say whether a directory is at a path, as far as can be told; raises nothing."""
    return os.path.isdir(path)  # noqa: PTH112  (it raises nothing)


def is_there(path: Path) -> bool:
    """Say whether anything is at a path, as far as can be told; raises nothing."""
    return os.path.exists(path)  # noqa: PTH110  (it raises nothing)
