"""What a recording says of itself: its format, who made it, and the settings and the queue to run it again with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EVENTS", "FORMAT", "HAR", "MANIFEST", "VERSION", "Manifest", "UsedPlugin"]

FORMAT = "pilot-core recording"
VERSION = 1
"""Layout of a recording's files; another one is refused."""
MANIFEST, HAR, EVENTS = "manifest.json", "traffic.har", "events.jsonl"
"""The files of a recording."""


@dataclass(frozen=True, kw_only=True)
class UsedPlugin:
    """A plugin that took part."""

    distribution: str = ""
    version: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its settings, those that are secret without their values."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The file `manifest.json`. Plain values only."""

    format: str = FORMAT
    version: int = VERSION
    plugin_api: int
    pilot_core: str
    """Version of the core."""
    python: str = ""
    started: float
    """Wall time, seconds since 1970."""
    host: str = ""
    """The name of the machine, where a message may have it."""
    work_dir: str = ""
    """The pilot's work directory, where a message may have it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The pilot's own settings, without secrets."""
    plugins: Mapping[str, UsedPlugin] = field(default_factory=dict)
    """By entry point: `communicator.panda`."""
    queue: Mapping[str, Any] = field(default_factory=dict)
    """The queue as its source gave it; empty = it did not come that far."""
    exit_code: int | None = None
    """What the pilot ended with; None = it is still running, or was killed."""

    def write(self, folder: Path, value: Mapping[str, Any]) -> None:
        """Put `value`, which is this manifest as plain data, into its file, whole or not at all; raises `OSError`."""
        path, part = folder / MANIFEST, folder / f".{MANIFEST}.part"
        data = json.dumps(value, indent=1).encode() + b"\n"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
