"""Making a test of a recording: a user's bug report becomes a file that pytest runs."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from pilot_core.errors import BadInput
from pilot_core.recording.manifest import EVENTS, HAR, MANIFEST
from pilot_core.recording.reading import Recording

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["save_test"]

_TEST = '''"""Replays the recording beside it: the pilot has to do what it did then."""

from __future__ import annotations

from pathlib import Path

from pilot_core.testing.recordings import assert_replays


def test_{name}() -> None:
    assert_replays(Path(__file__).parent / "{folder}"{options})
'''


def save_test(recording: Path, file: Path, *, strict: bool, real: bool) -> Path:
    """Write a test of a recording, with a copy of the recording beside it; returns the copy's path.

    Raises `BadInput` for a recording that is damaged, and for files that are there already; nothing is written then.
    """
    Recording.read(recording)
    if not re.fullmatch(r"test_[A-Za-z0-9_]+\.py", file.name):
        raise BadInput(f"--save-test {file}: pytest finds a file that is named test_*.py; name it so")
    name = file.stem.removeprefix("test_")
    copy = file.with_name(f"recording_{name}")
    for path in (file, copy):
        if path.exists():
            raise BadInput(f"--save-test: {path} is there already; remove it, or name another file")
    options = "" if strict else ", strict=False"
    options += ", real=True" if real else ""
    try:
        copy.mkdir()
        for part in (MANIFEST, HAR, EVENTS):
            shutil.copyfile(recording / part, copy / part)
        file.write_text(_TEST.format(name=name, folder=copy.name, options=options), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(copy, ignore_errors=True)
        file.unlink(missing_ok=True)
        raise BadInput(f"--save-test {file}: cannot be written ({error.strerror}); name another place") from None
    return copy
