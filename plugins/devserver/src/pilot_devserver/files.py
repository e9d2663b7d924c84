"""Writing files so that nobody ever reads half of one, and secrets so that nobody else reads them at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["write_file", "write_secret"]


def write_file(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all; it has `mode` from the start."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_secret(path: Path, content: bytes | str) -> None:
    """Write a file that only its owner may read."""
    write_file(path, content, mode=0o600)
