"""Replaying a recording: a real pilot, offline, against the answers that were recorded."""

from __future__ import annotations

from pilot_core.replay.running import ReplayResult, replay
from pilot_core.replay.script import Divergence

__all__ = ["Divergence", "ReplayResult", "replay"]
