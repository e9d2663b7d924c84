"""The states of a job, which may follow which, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core.api.events import JobState

__all__ = ["NEXT_STATES", "SERVER_STATES", "JobOutcome"]

NEXT_STATES: Mapping[JobState, frozenset[JobState]] = {
    JobState.ACQUIRED: frozenset({JobState.STAGE_IN, JobState.START, JobState.STAGE_OUT}),
    JobState.STAGE_IN: frozenset({JobState.START, JobState.STAGE_OUT}),
    JobState.START: frozenset({JobState.RUNNING, JobState.STAGE_OUT}),
    JobState.RUNNING: frozenset({JobState.STAGE_OUT}),
    JobState.STAGE_OUT: frozenset({JobState.REPORT}),
    JobState.REPORT: frozenset({JobState.DONE}),
    JobState.DONE: frozenset(),
}
"""Which state may follow which. A job that fails goes to `stage-out` all the same: its log has to come out.

`start` follows `acquired` where inputs are there already, from an earlier run."""

SERVER_STATES = {JobState.RUNNING: "running", JobState.STAGE_OUT: "running", JobState.REPORT: "running"}
"""What the server is told before the final report; everything earlier is `starting`."""


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """What became of a job."""

    job_id: int
    state: str
    """finished or failed."""
    reported: bool
    """Whether the server acknowledged the final report."""
    error: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in each task."""
    job_dir: Path | None = None
    """The job's directory, if it was kept."""
