"""What a work directory's journal tells people: its jobs, and the story of one."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilot_core.errors import BadInput, ConfigError
from pilot_core.journal.database import FILE, Database
from pilot_core.journal.owners import PilotProcess
from pilot_core.journal.records import JobRecord, Step
from pilot_core.past import Past

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.clock import Clock

__all__ = ["Ask", "History", "Span", "Story", "read_history"]

WHO: Mapping[str, str] = {
    "stage-in": "the site's storage, or who manages the job's input data",
    "payload": "the job's user, or the authors of its program",
    "stage-out": "the site's storage; the payload's authors if an output is missing",
    "log": "the site's storage",
    "server": "the server's operators",
    "pilot": "the site, which runs the pilot",
}
"""Who should act on a failure, by the task where it was."""
STATES: Mapping[str, str] = {
    "start": "the payload is prepared",
    "running": "the payload runs",
    "report": "the final report is made",
    "done": "the job's directory is removed",
}
"""What the beginning of a state is called."""
LONG_STATES = ("stage-in", "start", "running", "stage-out", "report")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A time that the server was asked for a job and none is known to have come."""

    at: float
    queue: str
    server: str
    outcome: str
    """Empty if the pilot died before there was one."""

    @property
    def lost(self) -> bool:
        """Whether a job may have been given all the same."""
        return not self.outcome or self.outcome.startswith("no answer")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**vars(self), "lost": self.lost}


@dataclass(frozen=True, kw_only=True)
class Span:
    """Something that took time."""

    lane: str
    """phase or transfer."""
    name: str
    begin: float
    """Wall time."""
    seconds: float
    outcome: str = "ok"
    details: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Story:
    """One job from its beginning to its end, as far as that has come."""

    record: JobRecord
    now: float
    spans: tuple[Span, ...] = field(default=())
    past: Past

    @classmethod
    def of(cls, record: JobRecord, now: float) -> Story:
        """Read a record."""
        past = Past.of(record.steps, secret=record.secret)
        return cls(record=record, now=now, past=past, spans=(*_phases(record, now), *_transfers(past)))

    @property
    def state(self) -> str:
        """What is to be said of the job in a word or two."""
        record = self.record
        if record.state == "closed":
            return record.result or "closed"
        if record.state == "spooled":
            return f"{record.result}, report waits"
        if record.state == "kept":
            return "outputs wait"
        return record.phase

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """What went wrong, the cause first, with who should act."""
        if self.past.report is not None:
            metadata = self.past.report.update.metadata
            found: Any = metadata.get("pilot", {}).get("failures", [])
        else:
            found = [vars(failure) for failure in self.past.failures]
        return [{**each, "who": WHO.get(each["task"], WHO["pilot"])} for each in found]

    @property
    def end(self) -> float:
        """Wall time of its end, or now."""
        return self.record.ended or self.now

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        record = self.record
        return {
            "schema": 1,
            "job_id": record.job_id,
            "attempt": record.attempt,
            "queue": record.queue,
            "server": record.server,
            "state": self.state,
            "taken": record.taken,
            "ended": record.ended,
            "failures": list(self.failures),
            "spans": [span.to_json() for span in self.spans],
            "steps": [
                {"at": each.at, "step": each.step, "pilot": each.pilot, "text": said(each)} for each in record.steps
            ],
        }


@dataclass(frozen=True, kw_only=True)
class History:
    """Everything that a work directory's journal has, the oldest first."""

    jobs: tuple[Story, ...]
    asks: tuple[Ask, ...]

    def story(self, job_id: int) -> Story:
        """Return the last story of a job; raises `BadInput` if there is none."""
        for story in reversed(self.jobs):
            if story.record.job_id == job_id:
                return story
        known = ", ".join(str(story.record.job_id) for story in self.jobs[-5:]) or "none"
        raise BadInput(f"job {job_id} is not in this journal; the last ones there: {known}")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        jobs = []
        for story in self.jobs:
            cause = next(iter(story.failures), None)
            values = {
                name: value for name, value in story.to_json().items() if name not in {"spans", "steps", "schema"}
            }
            jobs.append({**values, "cause": cause})
        return {"schema": 1, "jobs": jobs, "asks": [ask.to_json() for ask in self.asks]}


def read_history(work_dir: Path, clock: Clock) -> History:
    """Read a work directory's journal; raises `ConfigError` if there is none that can be read."""
    try:
        database = Database.look(work_dir)
        if database is None:
            raise ConfigError(f"{work_dir}: has no journal ({FILE}); name the pilot's work directory by --work-dir")
        with closing(database):
            return _read(database, clock.wall())
    except OSError as error:
        hint = "" if error.errno == errno.EINVAL else "; look at its permissions"
        raise ConfigError(f"{work_dir / FILE}: cannot be read: {error.strerror}{hint}") from None


def _read(database: Database, now: float) -> History:
    me = PilotProcess.this()
    steps: dict[int, list[Step]] = {}
    for row in database.query("SELECT * FROM steps ORDER BY id"):
        steps.setdefault(row["job"], []).append(Step.of(row))
    jobs = [
        JobRecord.of(row, tuple(steps.get(row["id"], ()))) for row in database.query("SELECT * FROM jobs ORDER BY id")
    ]
    asks = []
    for row in database.query(
        "SELECT asks.*, host, boot, pids, pid, start_time, pilots.ended AS left FROM asks"
        " JOIN pilots ON pilots.id=pilot ORDER BY asks.id"
    ):
        names = ("host", "boot", "pids", "pid", "start_time")
        gone = row["left"] is not None or me.has_ended(PilotProcess(**{name: row[name] for name in names}))
        ask = Ask(at=row["at"], queue=row["queue"], server=row["server"], outcome=row["outcome"])
        if ask.lost and (ask.outcome or gone):
            asks.append(ask)
    return History(jobs=tuple(Story.of(record, now) for record in jobs), asks=tuple(asks))


def _phases(record: JobRecord, now: float) -> list[Span]:
    """Return the job's states as spans."""
    found: list[Span] = []
    changes = [(step.at, str(step.details.get("new"))) for step in record.steps if step.step == "state"]
    ends = [*(at for at, _ in changes[1:]), record.ended or now]
    for (begin, name), end in zip(changes, ends, strict=True):
        if name in LONG_STATES:
            found.append(Span(lane="phase", name=name, begin=begin, seconds=max(0.0, end - begin)))
    return found


def _transfers(past: Past) -> list[Span]:
    """Return the attempts to move files that the final report has."""
    if past.report is None:
        return []
    found: Any = past.report.update.metadata.get("pilot", {}).get("attempts", [])
    return [
        Span(
            lane="transfer",
            name=f"{each['activity']} {each['lfn']} #{each['number']}",
            begin=each["started"],
            seconds=each["seconds"],
            outcome=each["outcome"],
            details=each["error"] or f"{each['bytes']} bytes, {each['url']}",
        )
        for each in sorted(found, key=lambda each: each["started"])
    ]


def said(step: Step) -> str:
    """Return what a step says, in a line."""
    details = step.details
    texts: Mapping[str, Callable[[], str]] = {
        "acquired": lambda: "given by the server",
        "taken-over": lambda: f"taken over from pilot process {details['from']}, which had died",
        "state": lambda: STATES.get(details["new"], f"{details['new']} begins"),
        "payload-starting": lambda: "the payload is started",
        "payload-started": lambda: "the payload was started",
        "payload-ending": lambda: f"the payload is ended: {details['reason']}",
        "payload-ended": lambda: _ended(details["result"]),
        "called-off": lambda: f"called off: {details['reason']} (code {details['code']})",
        "commanded": lambda: f"the server commands: {', '.join(details['commands'])}",
        "archive": lambda: f"archive {details['lfn']} is made",
        "stored": lambda: f"{details['lfn']} is stored ({details['size']} bytes)",
        "withdrawing": lambda: "the outputs are removed again",
        "report-ready": lambda: f"the final report is ready: {details['report']['update']['state']}",
        "report-acknowledged": lambda: "the server has the final report",
        "spooled": lambda: "the final report could not be delivered, and is kept",
        "outputs-kept": lambda: f"the outputs could not be stored, and are kept: {details.get('reason', '')}",
        "closed": lambda: "done",
    }
    try:
        return texts[step.step]()
    except (KeyError, TypeError):
        return step.step


def _ended(result: Mapping[str, Any]) -> str:
    how = f"exit code {result['exit_code']}" if result["signal"] is None else f"signal {result['signal']}"
    return f"the payload ended: {result['error'] or how}"
