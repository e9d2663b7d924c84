"""Recording what a pilot does: its traffic as HAR, its events as JSON lines, and what is needed to run it again."""

from __future__ import annotations

from pilot_core.recording.assembly import RecordedAssembly
from pilot_core.recording.recorder import Recorder

__all__ = ["RecordedAssembly", "Recorder"]
