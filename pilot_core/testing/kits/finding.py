"""What a clause says of an exception that should not have been: one line, which names the line it comes from."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import pytest

__all__ = ["finding", "place_of"]

INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Directories of Python's own library in which plugins lie."""


def finding(text: str, error: BaseException) -> BaseException:
    """Return what fails a clause because of `error`; raise it `from None`, or pytest shows the text of both."""
    return pytest.fail.Exception(f"{text} [{place_of(error)}]", pytrace=False)


def place_of(error: BaseException) -> str:
    """Return `file:line` where an error was raised, or where Python's own library was called that raised it."""
    library = Path(sysconfig.get_path("stdlib"))
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not _is_pythons(Path(frame.filename), library)] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "nowhere"


def _is_pythons(file: Path, library: Path) -> bool:
    """Say whether a file belongs to Python itself; a frozen module has no file."""
    return not file.is_absolute() or (file.is_relative_to(library) and not INSTALLED & set(file.parts))
