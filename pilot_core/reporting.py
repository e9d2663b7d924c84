"""The truth about a job: what went wrong where, and the final report that tells the server."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import Deadline
from pilot_core.api.communicator import JobUpdate
from pilot_core.api.staging import REMOTE_IO
from pilot_core.api.url import without_password
from pilot_core.errors import CommunicationError, HandledError, PilotErrorCode

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Communicator, FileReport, ServerAnswer
    from pilot_core.api.executor import PayloadResult
    from pilot_core.api.job import Job
    from pilot_core.api.staging import Replica, TransferAttempt

__all__ = ["Facts", "Failure", "FinalReport", "Verdict", "payload_failure"]

MOST_ATTEMPTS = 200
"""Lines of the attempt ledger that go into the report; failed attempts first."""
LONGEST_ERROR = 500
"""Characters of an attempt's error that go into the report; the log archive has the whole ledger."""
LONGEST_EXTRACT = 3000
"""Characters of the log that a report brings along: PanDA's server keeps 4000."""
DEEPEST_METADATA = 30
"""Levels of what plugins collected that go into the report."""


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

    def to_json(self, clean: Callable[[str], str]) -> dict[str, Any]:
        """Return what went wrong as plain JSON data; `clean` takes secrets out of texts."""
        failures = [asdict(replace(each, message=clean(each.message))) for each in self.failures]
        found: dict[str, Any] = {"failures": failures}
        if self.payload_error_code is not None or self.payload_error:
            found["payload_error"] = [self.payload_error_code, clean(self.payload_error)]
        return found

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
        message = f"the payload was ended by {name} ({result.signal})"
    else:
        code = PilotErrorCode.PAYLOADEXECUTIONFAILURE
        message = f"the payload exited with {result.exit_code}{_shells_signal(result.exit_code or 0)}"
    killed = result.extra.get("oom_kills")
    if killed:
        message += f"; the kernel meanwhile killed {killed} process{'es' * (killed > 1)} here for lack of memory"
        if signal.SIGKILL in {result.signal, (result.exit_code or 0) - 128}:
            code = PilotErrorCode.PAYLOADOUTOFMEMORY
    return Failure(task="payload", code=code, message=message)


def _shells_signal(code: int) -> str:
    """Return what an exit code may say of a program that a shell ran: 128 + n for one that signal n ended."""
    try:
        return f", by which shells tell of {signal.Signals(code - 128).name}"
    except ValueError:
        return ""


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
    elsewhere: Sequence[str] = ()
    """LFNs of outputs that are not on the storage where they belong."""
    remote: Mapping[str, Replica] = field(default_factory=dict)
    """Inputs that the payload read where they lie, by LFN."""

    def final_update(self, update: JobUpdate, now: float, clean: Callable[[str], str]) -> JobUpdate:
        """Return `update` with the job's end in it; `clean` takes secrets out of texts, `now` is wall time.

        A failed job reports its log only: that is all the server takes of it. What plugins collected is made plain JSON
        data, whatever they put into it, so that the report can be stored and sent.
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
            # a failed job without a code would look like a lost one
            pilot_error_code=(cause.code or int(PilotErrorCode.GENERALERROR)) if cause else 0,
            pilot_error=text,
            files=tuple(file for file in self.files if cause is None or file.lfn == log),
            metadata=_plain({**self.metadata, "pilot": self._own_metadata(clean)}, clean),
            metrics=self._metrics(),
            log_extract=self._log_extract(text, clean),
        )

    def _log_extract(self, text: str, clean: Callable[[str], str]) -> str:
        """Return what the server keeps of the log: failed attempts, too, of a failed job, whose metadata it drops."""
        lines = [text]
        room = LONGEST_EXTRACT - len(text)
        for each in self._ordered() if self.verdict.failures else ():
            if each.outcome in {"ok", REMOTE_IO}:
                continue
            how = f"{each.backend} {each.backend_version} at {each.rse or 'no RSE'}"
            line = f"{each.activity} {each.lfn}, attempt {each.number} by {how}: {each.outcome}: {each.error}"
            line = clean(" ".join(line.split()))[:LONGEST_ERROR]
            room -= len(line) + 1
            if room < 0:
                lines.append("...")
                break
            lines.append(line)
        return "\n".join(lines)

    def _ordered(self) -> list[TransferAttempt]:
        """Return the attempts, failed ones first, in the order of the job's files.

        Files are moved side by side, so when each was says nothing; the report does not depend on it.
        """
        lfns = [*(file.lfn for file in self.job.inputs), *(file.lfn for file in self.job.files_out)]
        places = {lfn: number for number, lfn in enumerate(lfns)}
        return sorted(
            self.attempts, key=lambda each: (each.outcome == "ok", places.get(each.lfn, len(places)), each.number)
        )

    def _metrics(self) -> dict[str, str]:
        """Return the job's metrics, with Pilot 3's names."""
        metrics = {"actualCoreCount": str(self.job.core_count)}
        if self.elsewhere:
            metrics["altTransferred"] = ",".join(self.elsewhere)
        return metrics

    def _own_metadata(self, clean: Callable[[str], str]) -> dict[str, Any]:
        """Return the pilot's own part of the job's metadata."""
        ledger = self._ordered()
        more: dict[str, Any] = {}
        if self.elsewhere:
            more["alternative_stageout"] = list(self.elsewhere)
        if self.remote:
            more["remote_io"] = {lfn: without_password(replica.url) for lfn, replica in self.remote.items()}
        return {
            **more,
            "phases": {name: round(seconds, 6) for name, seconds in self.phases.items()},
            # a text is cleaned before it is cut: half a secret is not found any more
            "attempts": [
                {**each.to_json(), "error": clean(each.error)[:LONGEST_ERROR]} for each in ledger[:MOST_ATTEMPTS]
            ],
            "attempts_left_out": max(0, len(ledger) - MOST_ATTEMPTS),
            "failures": [asdict(failure) for failure in self.verdict.failures],
            "payload": asdict(self.verdict.payload) if self.verdict.payload else None,
            "shell": self.shell,
        }


def _plain(value: Any, clean: Callable[[str], str], levels: int = DEEPEST_METADATA) -> Any:
    """Return a value as plain JSON data, cleaned: numbers that JSON does not have as None, other objects as text."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) and not levels:
        return "..."
    if isinstance(value, Mapping):
        return {_text(key, clean): _plain(inner, clean, levels - 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner, clean, levels - 1) for inner in value]
    return _text(value, clean)


def _text(value: Any, clean: Callable[[str], str]) -> str:
    """Return a plugin's object as text, cleaned."""
    try:
        return clean(str(value))
    except Exception:  # noqa: BLE001  (its own `__str__` is a plugin's code)
        return f"({type(value).__name__})"


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
    def from_json(cls, value: Any) -> FinalReport:
        """Make the report from what `to_json` returned; raises `ValueError` for anything else."""
        version = value.get("version") if isinstance(value, Mapping) else None
        if version != 1:
            raise ValueError(f"a final report of version {version!r}; this pilot knows version 1")
        try:
            return cls(update=JobUpdate.from_json(value["update"]), made=float(value["made"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"a final report that is not whole: {type(error).__name__}: {error}") from None

    def send(self, communicator: Communicator, clock: Clock, *, budget: float, cancel: CancelToken) -> ServerAnswer:
        """Send it until the server acknowledges it, at most for `budget` seconds.

        `tobekilled` or `alreadydone` in the answer to a final report is an acknowledgement. Raises `HandledError`,
        whatever goes wrong; the report should then be kept (`store`).
        """
        try:
            return communicator.update(self.update, cancel=cancel, deadline=Deadline.after(clock, budget))
        except HandledError:
            raise
        except Exception as error:  # a bug of the communicator must not lose the report
            raise CommunicationError(f"the communicator broke: {type(error).__name__}: {error}") from error

    def store(self, folder: Path) -> Path:
        """Keep the report as a file in `folder`, durably; returns its path. Raises `OSError`; nothing is left then."""
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{self.update.job_id}-{self.update.attempt or 0}.json"
        part = folder / f".{path.name}.{os.getpid()}.part"
        data = json.dumps(self.to_json()).encode()
        part.unlink(missing_ok=True)  # of a process that had the same number, and died
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _sync(folder)
        return path


def _sync(folder: Path) -> None:
    """Have a directory's names on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
