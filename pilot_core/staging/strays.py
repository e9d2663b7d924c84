"""Partial files that nobody will finish: of a pilot that was killed, or of a backend that was left behind."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["sweep"]

_PARTIAL = re.compile(r"\..{1,100}\.part-[0-9a-f]{16}", re.DOTALL)
"""The names of `pilot_core.api.local_files.Partial`."""


def sweep(folder: Path) -> list[str]:
    """Remove partial files from a job's folder, and return their names; nothing else is touched.

    Raises `OSError` if the folder cannot be read; one that is not there has none.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        found = [entry for entry in entries if _PARTIAL.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)]
        for entry in found:
            with suppress(FileNotFoundError):
                Path(entry.path).unlink()
        return [entry.name for entry in found]
    return []
