"""What the journal holds, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.job import Job
from pilot_core.values import decode, encode

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = ["Identity", "JobRecord", "Step", "Taken", "described", "told_apart"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """By what the server knows the pilot that took a job: the same in every update of that job, whoever sends it."""

    node: str = ""
    pilot_id: str = ""
    batch_id: str = ""
    scheduler_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A job that the server just gave."""

    job: Job
    job_dir: Path
    """Where it will work; not made yet."""
    failures: tuple[Mapping[str, Any], ...] = ()
    """Why it cannot be run: `task`, `code` and `message` of each reason."""
    seconds: float = 0.0
    """How long asking for it took."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was recorded of a job."""

    at: float
    """Wall time, seconds since 1970."""
    step: str
    details: Mapping[str, Any] = field(default_factory=dict)
    pilot: int = 0
    """Which pilot recorded it."""

    @classmethod
    def of(cls, row: sqlite3.Row) -> Step:
        """Make it from its row."""
        return cls(at=row["at"], step=row["step"], details=json.loads(row["details"]), pilot=row["pilot"])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"at": self.at, "step": self.step, **self.details}


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One job of this work directory, with its steps."""

    key: int
    job_id: int
    attempt: int | None
    server: str
    queue: str
    state: str
    """open, kept (its outputs are), spooled (its report is) or closed."""
    phase: str
    """The last of its `JobState`."""
    owner: int
    job_dir: Path
    description: str
    """The job as JSON, without secrets."""
    secret: bool
    """Whether it had secrets, which nobody has any more."""
    identity: Identity
    taken: float
    ended: float | None
    result: str
    """finished or failed, once that is known."""
    kept: float | None
    """Since when outputs of it are kept, wall time."""
    steps: tuple[Step, ...] = ()

    @classmethod
    def of(cls, row: sqlite3.Row, steps: tuple[Step, ...]) -> JobRecord:
        """Make it from its row."""
        values = {name: row[name] for name in row.keys()}  # noqa: SIM118  (a row is no mapping)
        return cls(
            key=values.pop("id"),
            job_id=values.pop("panda_id"),
            job_dir=Path(values.pop("job_dir")),
            secret=bool(values.pop("secret")),
            identity=Identity(**json.loads(values.pop("identity"))),
            steps=steps,
            **values,
        )

    def job(self) -> Job:
        """Return the job; raises `ValueError` if it was recorded by a pilot with another idea of jobs."""
        return decode(Job, json.loads(self.description))


def described(job: Job, clean: Callable[[str], str]) -> str:
    """Return a job as JSON, without its secrets."""
    values = {name: value for name, value in encode(job).items() if name not in {"secrets", "pilot_secrets"}}
    return clean(json.dumps(values, separators=(",", ":"), sort_keys=True))


def told_apart(description: str) -> tuple[object, ...]:
    """Return what tells jobs apart that have the same number, as those of a server that was set up anew may have.

    What a server changes when it sends a job again (how often it sent it, priority, tokens) does not count.
    """
    values = json.loads(description)
    return tuple(values.get(name) for name in ("name", "task_id", "transformation", "parameters", "log", "outputs"))
