"""The truth about a job: what went wrong where, and the final report that tells the server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import Deadline
from pilot_core.api.communicator import JobUpdate
from pilot_core.errors import PilotErrorCode

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Communicator, FileReport, ServerAnswer
    from pilot_core.api.executor import PayloadResult
    from pilot_core.api.job import Job
    from pilot_core.api.staging import TransferAttempt

__all__ = ["Facts", "Failure", "FinalReport", "Verdict", "payload_failure"]

MOST_ATTEMPTS = 200
"""Lines of the attempt ledger that go into the report; failed attempts first."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One thing that went wrong, in the task where it did."""

    task: str
    """stage-in, payload, stage-out, log, server or pilot."""
    code: int
    """PanDA pilot error code."""
    message: str


@dataclass
class Verdict:
    """Everything that went wrong with a job, each in its place: nothing overwrites anything.

    The first failure is the cause that the server is told; the rest follows in the text.
    """

    payload: PayloadResult | None = None
    failures: list[Failure] = field(default_factory=list)
    payload_error_code: int | None = None
    payload_error: str = ""

    def fail(self, task: str, code: int, message: str) -> None:
        """Add a failure."""
        self.failures.append(Failure(task=task, code=int(code), message=message))

    @property
    def cause(self) -> Failure | None:
        """The first failure, or None."""
        return self.failures[0] if self.failures else None

    @property
    def state(self) -> str:
        """What the job's final state is: finished or failed."""
        return "failed" if self.failures else "finished"

    def text(self) -> str:
        """Return every failure in one line, the cause first."""
        return "; ".join(f"{failure.task}: {failure.message}" for failure in self.failures)


def payload_failure(result: PayloadResult) -> Failure | None:
    """Say in PanDA's terms how a payload failed; None if it did not."""
    if result.ok:
        return None
    if result.error:
        return Failure(task="payload", code=PilotErrorCode.PAYLOADEXECUTIONEXCEPTION, message=result.error)
    if result.signal is not None:
        try:
            name = signal.Signals(result.signal).name
        except ValueError:
            name = "a signal"
        code = PilotErrorCode.PAYLOADEXECUTIONFAILURE
        if result.signal == signal.SIGSEGV:
            code = PilotErrorCode.PAYLOADSIGSEGV
        return Failure(task="payload", code=code, message=f"the payload was ended by {name} ({result.signal})")
    return Failure(
        task="payload",
        code=PilotErrorCode.PAYLOADEXECUTIONFAILURE,
        message=f"the payload exited with {result.exit_code}",
    )


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything known about a job at its end: what the final report is made of."""

    job: Job
    verdict: Verdict
    phases: Mapping[str, float]
    """Seconds by task."""
    files: Sequence[FileReport]
    """What was stored."""
    attempts: Sequence[TransferAttempt]
    metadata: Mapping[str, Any]
    """What plugins collected."""
    shell: bool
    """Whether the payload went through a shell."""

    def final_update(self, update: JobUpdate, now: float, clean: Callable[[str], str]) -> JobUpdate:
        """Return `update` with the job's end in it; `clean` takes secrets out of texts, `now` is wall time.

        A failed job reports its log only: that is all the server takes of it.
        """
        verdict, result, cause = self.verdict, self.verdict.payload, self.verdict.cause
        log = self.job.log.lfn if self.job.log else ""
        seconds = [self.phases.get(name, 0.0) for name in ("get-job", "stage-in", "payload", "stage-out")]
        text = clean(verdict.text())
        if result is not None:
            update = replace(
                update,
                start_time=result.started,
                cpu_seconds=round(result.user_seconds + result.system_seconds),
                cpu_unit="s",
                max_rss_kb=result.max_rss_kb,
                payload_exit_code=result.exit_code if result.signal is None else 128 + result.signal,
                payload_error_code=verdict.payload_error_code or result.exit_code or 0,
                payload_error=clean(verdict.payload_error),
            )
        return replace(
            update,
            state=verdict.state,
            end_time=now,
            timing=(*(round(value) for value in seconds), 0, 0),
            input_files=len(self.job.inputs),
            pilot_error_code=cause.code if cause else 0,
            pilot_error=text,
            files=tuple(file for file in self.files if cause is None or file.lfn == log),
            metadata={**self.metadata, "pilot": self._own_metadata()},
            metrics={"actualCoreCount": str(self.job.core_count)},
            log_extract=text,
        )

    def _own_metadata(self) -> dict[str, Any]:
        """Return the pilot's own part of the job's metadata."""
        ledger = sorted(self.attempts, key=lambda attempt: attempt.outcome == "ok")
        return {
            "phases": {name: round(seconds, 6) for name, seconds in self.phases.items()},
            "attempts": [attempt.to_json() for attempt in ledger[:MOST_ATTEMPTS]],
            "attempts_left_out": max(0, len(ledger) - MOST_ATTEMPTS),
            "failures": [asdict(failure) for failure in self.verdict.failures],
            "payload": asdict(self.verdict.payload) if self.verdict.payload else None,
            "shell": self.shell,
        }


@dataclass(frozen=True, kw_only=True)
class FinalReport:
    """The last word on a job: a value that can be stored, and sent by this pilot or by another one later."""

    update: JobUpdate
    made: float
    """Wall time, seconds since 1970."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"version": 1, "made": self.made, "update": self.update.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FinalReport:
        """Make the report from what `to_json` returned; raises `ValueError` for another version."""
        if value.get("version") != 1:
            raise ValueError(f"a final report of version {value.get('version')!r}; this pilot knows version 1")
        return cls(update=JobUpdate.from_json(value["update"]), made=value["made"])

    def send(self, communicator: Communicator, clock: Clock, *, budget: float, cancel: CancelToken) -> ServerAnswer:
        """Send it until the server acknowledges it, at most for `budget` seconds.

        `tobekilled` or `alreadydone` in the answer to a final report is an acknowledgement. Raises
        `CommunicationError`, `AuthError` or `Cancelled`; the report should then be kept (`store`).
        """
        return communicator.update(self.update, cancel=cancel, deadline=Deadline.after(clock, budget))

    def store(self, folder: Path) -> Path:
        """Keep the report as a file in `folder`, durably; returns its path. Raises `OSError`."""
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{self.update.job_id}-{self.update.attempt or 0}.json"
        part = folder / f".{path.name}.{os.getpid()}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self.to_json(), file)
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
        return path
