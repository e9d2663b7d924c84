"""What an earlier pilot did of a job, as its journal tells it: from there the next one goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilot_core.api.communicator import FileReport
from pilot_core.api.events import JobState
from pilot_core.api.executor import PayloadHandle, PayloadResult
from pilot_core.reporting import Failure, FinalReport, Verdict

if TYPE_CHECKING:
    from pilot_core.journal.records import Step

__all__ = ["NEW", "Past"]


@dataclass(frozen=True, kw_only=True)
class Past:
    """How far a job has come."""

    begun: bool = False
    """Whether there is a past at all."""
    state: JobState = JobState.ACQUIRED
    failures: tuple[Failure, ...] = ()
    """What had gone wrong, the cause first."""
    payload_error: tuple[int | None, str] = (None, "")
    """An experiment's own reading of the payload's failure: code and text."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in each task."""
    secret: bool = False
    """Whether the job had secrets, which nobody has any more."""
    payload_begun: bool = False
    """Whether the payload was about to be started: it may run, or have run."""
    handle: PayloadHandle | None = None
    """By which it is found again, if it surely was started."""
    started: float | None = None
    """Wall time of that."""
    result: PayloadResult | None = None
    """How it ended, if that was seen."""
    limit: Failure | None = None
    """The limit that it passed and was ended for."""
    called_off: Failure | None = None
    """Why the whole job was to end before its time."""
    stored: tuple[FileReport, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """LFNs of what is stored, and not where it belongs."""
    archives: tuple[str, ...] = ()
    """LFNs of archives that the pilot made, or began to make."""
    kept: float | None = None
    """Since when outputs of it are kept that no storage took: wall time."""
    report: FinalReport | None = None
    """The final report, if it was ready."""
    acknowledged: bool = False
    """Whether the server has it."""

    @property
    def resumes_at(self) -> JobState:
        """The state to go on in: what had not come to the payload begins anew.

        What was about to be reported is looked at once more, since a report tells more than the journal has.
        """
        if not (self.payload_begun or self.failures):
            return JobState.ACQUIRED
        return JobState.STAGE_OUT if self.state is JobState.REPORT else self.state

    def verdict(self) -> Verdict:
        """Return what is to be said of the job so far."""
        code, text = self.payload_error
        return Verdict(payload=self.result, failures=list(self.failures), payload_error_code=code, payload_error=text)

    @classmethod
    def of(cls, steps: Iterable[Step], *, secret: bool = False) -> Past:
        """Read a job's steps, in their order; one that makes no sense counts as not taken."""
        values: dict[str, Any] = {"begun": True, "secret": secret}
        for step in steps:
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                values.update(_read(step, values))
        return cls(**values)


NEW = Past()
"""That of a job that was just taken."""


def _read(step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step changes."""
    if step.step.startswith("payload-"):
        return _of_payload(step)
    if step.step in {"archive", "stored", "withdrawing"}:
        return _of_outputs(step, values)
    details = step.details
    found: dict[str, Any] = {}
    match step.step:
        case "acquired":
            found = {"failures": _failures(details), "phases": {"get-job": float(details.get("seconds", 0.0))}}
        case "state":
            found = {"state": JobState(details["new"]), "phases": dict(details["phases"])}
            found["failures"] = _failures(details)
            found["payload_error"] = tuple(details.get("payload_error", (None, "")))
        case "called-off":
            failure = Failure(task="pilot", code=int(details["code"]), message=str(details["reason"]))
            found = {"called_off": values.get("called_off") or failure}
        case "outputs-kept":
            found = {"kept": values.get("kept") or step.at}
        case "report-ready":
            found = {"report": FinalReport.from_json(details["report"])}
        case "report-acknowledged":
            found = {"acknowledged": True}
        case _:
            pass
    return found


def _of_payload(step: Step) -> dict[str, Any]:
    """Return what a step of the payload changes."""
    details = step.details
    match step.step.removeprefix("payload-"):
        case "starting":
            return {"payload_begun": True, "handle": None, "started": step.at}
        case "started":
            return {"handle": PayloadHandle.from_json(details["handle"]), "started": step.at}
        case "ending":
            return {"limit": Failure(**details["limit"])} if details.get("limit") else {}
        case "ended":
            return {"result": PayloadResult(**details["result"])}
    return {}


def _of_outputs(step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step of the outputs changes."""
    details = step.details
    stored: tuple[FileReport, ...] = values.get("stored", ())
    elsewhere: tuple[str, ...] = values.get("elsewhere", ())
    match step.step:
        case "archive":
            return {"archives": (*values.get("archives", ()), str(details["lfn"]))}
        case "stored":
            report = FileReport(**details["report"])
            elsewhere += (report.lfn,) if details.get("elsewhere") else ()
            return {"stored": (*(each for each in stored if each.lfn != report.lfn), report), "elsewhere": elsewhere}
        case "withdrawing":
            kept = details.get("keep")
            return {
                "stored": tuple(each for each in stored if each.lfn == kept),
                "elsewhere": tuple(each for each in elsewhere if each == kept),
            }
    return {}


def _failures(details: Mapping[str, Any]) -> tuple[Failure, ...]:
    """Return the failures that a step tells."""
    return tuple(Failure(**each) for each in details.get("failures", ()))
