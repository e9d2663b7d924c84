"""Taking a job's directory away, whatever its payload left in it."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path

__all__ = ["remove_tree"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_REASONS = 3
"""Reasons that are named of those that were met."""


def remove_tree(top: Path) -> str:
    """Remove a directory with everything in it; return why something is left of it, or an empty text. Raises nothing.

    Links are removed, not followed. Directories without rights are given them first; and however deep the tree is, it
    takes neither recursion nor a long path nor many descriptors, for each directory is moved up before it is emptied.
    (`shutil.rmtree` ends in RecursionError from some 1000 levels on before Python 3.13, with `ignore_errors` too.)
    """
    reasons: list[str] = []
    try:
        _allow(str(top), None)
        here = os.open(top, _FOLDER)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{top}: {error.strerror}"
    try:
        todo = _empty(here, here, reasons)
        while todo:
            name = todo.pop()
            try:
                below = os.open(name, _FOLDER, dir_fd=here)
                try:
                    todo += _empty(below, here, reasons)
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=here)
            except OSError as error:
                reasons.append(f"{name}: {error.strerror}")
    finally:
        os.close(here)
    try:
        top.rmdir()
    except OSError as error:
        reasons.append(f"{top}: {error.strerror}")
    return "; ".join(reasons[:MOST_REASONS])


def _empty(folder: int, top: int, reasons: list[str]) -> list[str]:
    """Remove what lies in a directory; move the directories in it up to `top`, and return their names there."""
    moved = []
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        reasons.append(f"a directory cannot be read: {error.strerror}")
        return []
    for entry in found:
        try:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            _allow(entry.name, folder)
            name = f".{uuid.uuid4().hex}"
            os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
            moved.append(name)
        except OSError as error:
            reasons.append(f"{entry.name}: {error.strerror}")
    return moved


def _allow(name: str, folder: int | None) -> None:
    """Give this user every right to a directory, if it is his."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(PermissionError):
            os.chmod(name, 0o700, dir_fd=folder)
