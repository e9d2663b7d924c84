"""What event and shaping hooks are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.executor import PayloadResult
    from pilot_core.api.job import Job
    from pilot_core.api.queue import Queue

__all__ = ["Diagnosis", "FinishedPayload", "JobState", "Outcome", "PayloadCommand", "TaskInfo"]


class JobState(str, Enum):
    """The states of one job in this pilot, in their usual order."""

    ACQUIRED = "acquired"
    STAGE_IN = "stage-in"
    START = "start"
    RUNNING = "running"
    STAGE_OUT = "stage-out"
    REPORT = "report"
    DONE = "done"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """A pilot task that begins for a job."""

    name: str
    """stage-in, payload, stage-out, log or report."""
    job: Job
    queue: Queue
    job_dir: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended."""

    ok: bool
    seconds: float
    error_code: int = 0
    error: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PayloadCommand:
    """What is about to be executed; `pilot_wrap_command` may return a changed copy."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """An experiment's own reading of a failed payload; the first plugin's answer counts."""

    error_code: int
    """PanDA pilot error code."""
    message: str
    payload_error_code: int | None = None
    payload_error: str = ""


@dataclass(frozen=True, kw_only=True)
class FinishedPayload:
    """What `pilot_diagnose_failure` and `pilot_collect_metadata` may look at."""

    job: Job
    queue: Queue
    job_dir: Path
    result: PayloadResult
    stdout: Path
    stderr: Path
