"""The points of the journal: every write to it by a name, so that each can be looked at, and struck, by itself.

A test kills the pilot at a point: just before the write, just after it, or just after its effect, which is just before
the write that follows, whichever that is, or the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["DURABLE", "MOMENTS", "POINTS", "Hook", "point_of"]

Hook = Callable[[str, str], None]
"""Hears of a point and a moment of it."""

MOMENTS = ("before", "after", "effect")
"""What there is of each point, in this order."""

POINTS: Mapping[str, str] = {
    "pilot-started": "this pilot may own jobs",
    "asking": "the server is about to be asked for a job, and its answer may be lost",
    "asked": "there was no answer with a job",
    "acquired": "the server gave a job, and it is this pilot's",
    "taken-over": "a job of a pilot that died is this pilot's",
    "state-stage-in": "the inputs are about to be brought",
    "state-start": "the payload is about to be prepared",
    "payload-starting": "the payload is about to be started",
    "payload-started": "the payload was started, and can be found again",
    "state-running": "the payload runs, which the server is about to be told",
    "payload-ending": "the payload is about to be ended",
    "payload-ended": "the payload and all of its processes have ended",
    "called-off": "the job is about to be ended before its time",
    "state-stage-out": "the outputs, or the log alone, are about to be stored",
    "commanded": "the server commands something, which is about to be done",
    "archive": "outputs are about to be put into an archive",
    "stored": "a file is on its storage",
    "withdrawing": "what was stored of the outputs is about to be removed again",
    "state-report": "everything is stored, and the report about to be made",
    "report-ready": "the final report is about to be sent",
    "report-acknowledged": "the server has the final report",
    "spooled": "the final report could not be delivered, and is kept",
    "outputs-kept": "outputs could not be stored, and are kept",
    "state-done": "the job's directory is about to be removed",
    "closed": "nothing of the job is left to do",
    "pilot-ended": "this pilot owns nothing any more",
}
"""Every point, in the order of a job, with what it says."""

DURABLE = frozenset(
    {
        "acquired",
        "taken-over",
        "payload-starting",
        "payload-started",
        "payload-ended",
        "stored",
        "report-ready",
        "report-acknowledged",
        "spooled",
        "outputs-kept",
    }
)
"""The points that are on disk before their effect; the others may be lost with the machine, not with the pilot."""


def point_of(step: str, details: Mapping[str, Any]) -> str:
    """Return the point of a job's step: a change of state has one for each state."""
    return f"state-{details['new']}" if step == "state" else step
