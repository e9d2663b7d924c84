"""The shaping and event hooks, one typed method each: what the core calls instead of the plugin manager."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pilot_core.api.events import Diagnosis, PayloadCommand
from pilot_core.errors import Cancelled, HandledError, PluginError
from pilot_core.plugins.record import one_line

if TYPE_CHECKING:
    from pilot_core.api.communicator import JobUpdate, ServerAnswer
    from pilot_core.api.events import FinishedPayload, JobState, Outcome, TaskInfo
    from pilot_core.api.job import Job
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import StagingProgress, TransferAttempt
    from pilot_core.plugins.host import Listener
    from pilot_core.plugins.registry import Registry

__all__ = ["Hooks"]

logger = logging.getLogger(__name__)


class Hooks:
    """Calls the imported plugins one by one, in the order of their names. Safe to call from several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    # -- shaping: each plugin sees what the one before it made; an error is a `PluginError` with the plugin's name -----

    def prepare_environment(self, job: Job, queue: Queue, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the payload's environment as the plugins want it."""
        hook, current = "pilot_prepare_environment", dict(environment)
        for listener in self._registry.listeners(hook):
            given = {"job": job, "queue": queue, "environment": MappingProxyType(current)}
            answer = _ask(listener, hook, given, _environment_fault)
            current = current if answer is None else dict(answer)
        return current

    def wrap_command(self, job: Job, queue: Queue, command: PayloadCommand) -> PayloadCommand:
        """Return the command to execute as the plugins want it."""
        hook, current = "pilot_wrap_command", command
        for listener in self._registry.listeners(hook):
            environment = MappingProxyType(dict(current.environment))
            given = {"job": job, "queue": queue, "command": replace(current, environment=environment)}
            answer = _ask(listener, hook, given, _command_fault)
            if answer is not None:
                current = replace(answer, environment=dict(answer.environment))
        return current

    def diagnose_failure(self, payload: FinishedPayload) -> Diagnosis | None:
        """Return the first plugin's reading of a failed payload, or None."""
        hook = "pilot_diagnose_failure"
        answers = (_ask(each, hook, {"payload": payload}, _diagnosis_fault) for each in self._registry.listeners(hook))
        return next((answer for answer in answers if answer is not None), None)

    def collect_metadata(self, payload: FinishedPayload) -> dict[str, Any]:
        """Return the plugins' entries for the job's metadata; later plugins win where keys are equal."""
        hook, merged = "pilot_collect_metadata", dict[str, Any]()
        for listener in self._registry.listeners(hook):
            merged.update(_ask(listener, hook, {"payload": payload}, _metadata_fault) or {})
        return merged

    # -- events: an error is logged with the plugin's name and never leaves here --------------------------------------

    def job_state_changed(self, job: Job, old: JobState, new: JobState) -> None:
        """Tell that a job went from one state to the next."""
        self._tell("pilot_job_state_changed", job=job, old=old, new=new)

    def task_started(self, task: TaskInfo) -> None:
        """Tell that a task of a job begins."""
        self._tell("pilot_task_started", task=task)

    def task_finished(self, task: TaskInfo, outcome: Outcome) -> None:
        """Tell how a task of a job ended."""
        self._tell("pilot_task_finished", task=task, outcome=outcome)

    def transfer_attempted(self, attempt: TransferAttempt) -> None:
        """Tell of an attempt to move a file."""
        self._tell("pilot_transfer_attempted", attempt=attempt)

    def hears_progress(self) -> bool:
        """Say whether some plugin wants to know how far transfers are."""
        return bool(self._registry.listeners("pilot_transfer_progress"))

    def transfer_progress(self, progress: StagingProgress) -> None:
        """Tell how far a job's transfers are."""
        self._tell("pilot_transfer_progress", progress=progress)

    def heartbeat(self, update: JobUpdate, answer: ServerAnswer | None) -> None:
        """Tell of an update that was sent; `answer` is None if the server did not acknowledge it."""
        self._tell("pilot_heartbeat", update=update, answer=answer)

    def _tell(self, hook: str, **given: Any) -> None:
        for listener in self._registry.listeners(hook):
            try:
                listener.call(given)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a listener that calls sys.exit must not end the pilot
                text = _said(error)
                logger.exception("plugin %s failed in %s: %s", listener.label, hook, text)


def _ask(listener: Listener, hook: str, given: Mapping[str, Any], fault: Callable[[Any], str]) -> Any:
    """Return one plugin's answer, None or without a fault; raises `PluginError`, or `Cancelled` if it was cancelled."""
    try:
        answer = listener.call(given)
    except (KeyboardInterrupt, Cancelled):
        raise
    except BaseException as error:
        code = error.error_code if isinstance(error, HandledError) else None
        raise PluginError(f"plugin {listener.label} failed in {hook}: {_said(error)}", error_code=code) from error
    wrong = "" if answer is None else fault(answer)
    if wrong:
        raise PluginError(f"plugin {listener.label} failed in {hook}: {wrong}")
    return answer


def _said(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    try:
        return one_line(f"{type(error).__name__}: {error}".rstrip(": "))
    except Exception:  # noqa: BLE001  (an exception's own __str__ may raise anything)
        return type(error).__name__


def _environment_fault(value: object) -> str:
    """Return why a value cannot be a process's environment; empty if it can."""
    if not isinstance(value, Mapping):
        return f"it returned a {type(value).__name__}, not a mapping of texts"
    for key, text in value.items():
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            return f"{key!r} cannot be the name of an environment variable"
        if not isinstance(text, str) or "\0" in text:
            return f"the value of {key} must be a text without NUL, not a {type(text).__name__}"
    return ""


def _command_fault(value: object) -> str:
    if not isinstance(value, PayloadCommand):
        return f"it returned a {type(value).__name__}, not a PayloadCommand"
    argv: object = value.argv
    if not isinstance(argv, tuple) or not argv or not all(isinstance(part, str) and "\0" not in part for part in argv):
        return "argv must be a tuple of one or more texts without NUL"
    return _environment_fault(value.environment)


def _diagnosis_fault(value: object) -> str:
    if not isinstance(value, Diagnosis):
        return f"it returned a {type(value).__name__}, not a Diagnosis"
    code: object = value.error_code
    message: object = value.message
    if not isinstance(code, int) or not isinstance(message, str):
        return "a Diagnosis has a whole number as error_code and a text as message"
    return ""


def _metadata_fault(value: object) -> str:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return f"it returned a {type(value).__name__}, not a mapping with texts as keys"
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"what it returned is not JSON: {one_line(str(error))}"
    return ""
