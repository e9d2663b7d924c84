"""What the hooks do. All that a payload wrote is untrusted: it may be missing, huge, binary, or no file at all."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pilot_core import Diagnosis

if TYPE_CHECKING:
    from pilot_core import FinishedPayload, PayloadCommand

TAIL = 4096
"""Bytes of an output that are searched, from its end."""
REPORT = "jobReport.json"
LARGEST_REPORT = 500_000
"""Bytes; it goes to the server with the job's last update."""
OUT_OF_MEMORY = 1223
"""`BADALLOC` of PanDA's pilot error codes."""


def politely(command: PayloadCommand) -> PayloadCommand:
    """Return a command with a lower priority; the rest of it stays as it is."""
    return replace(command, argv=("nice", *command.argv))


def diagnosed(payload: FinishedPayload) -> Diagnosis | None:
    """Return why a payload failed, None if its standard error does not tell."""
    if b"bad_alloc" not in end_of(payload.stderr, TAIL):
        return None
    return Diagnosis(error_code=OUT_OF_MEMORY, message="the payload could not get memory (bad_alloc)")


def report_of(payload: FinishedPayload) -> Mapping[str, Any] | None:
    """Return the payload's own report, None if it wrote none that can be sent."""
    text = end_of(payload.job_dir / REPORT, LARGEST_REPORT + 1)
    if not text or len(text) > LARGEST_REPORT:
        return None
    try:
        report = json.loads(text, parse_constant=no_number)
    except (ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) else None


def end_of(path: Path, size: int) -> bytes:
    """Return the last bytes of a file; none if it is no plain file, or a link to one elsewhere."""
    try:
        # without O_NONBLOCK a pipe would keep the pilot waiting for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return b""
        return os.pread(descriptor, size, max(0, found.st_size - size))
    finally:
        os.close(descriptor)


def no_number(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(name)
