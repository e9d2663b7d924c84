"""Extension `{{ cookiecutter.name }}` for pilot-core: what an experiment adds to its jobs, without another pilot.

The hooks are here, what they do is in `shaping.py`. Take out those that you do not need; every hook that there is, with
an example, is in `pilot_core/hookspecs.py`. An implementation names only the arguments that it wants.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot_core import hookimpl

if TYPE_CHECKING:
    from pilot_core import Diagnosis, FinishedPayload, Job, Outcome, PayloadCommand, TaskInfo

log = logging.getLogger(__name__)


# -- shaping hooks: what they return is used; None leaves it as it is --------------------------------------------------


@hookimpl
def pilot_prepare_environment(job: Job, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the payload's whole environment, with what its programs want to know."""
    # YOUR CODE
    return {**environment, "{{ cookiecutter.name.upper().replace('-', '_') }}_JOB": f"{job.task_id or 0}.{job.id}"}


@hookimpl
def pilot_wrap_command(job: Job, command: PayloadCommand) -> PayloadCommand | None:
    """Return the command to execute: jobs with many cores make room for the others of the machine."""
    # YOUR CODE
    from {{ cookiecutter.__module }}.shaping import politely

    return politely(command) if job.core_count > 1 else None


@hookimpl
def pilot_diagnose_failure(payload: FinishedPayload) -> Diagnosis | None:
    """Say why a payload failed, where its own words tell."""
    # YOUR CODE
    from {{ cookiecutter.__module }}.shaping import diagnosed

    return diagnosed(payload)


@hookimpl
def pilot_collect_metadata(payload: FinishedPayload) -> Mapping[str, Any] | None:
    """Return what the payload reports of itself, for the server."""
    # YOUR CODE
    from {{ cookiecutter.__module }}.shaping import report_of

    return report_of(payload)


# -- event hooks: they only listen; the job waits, so they are quick ---------------------------------------------------


@hookimpl
def pilot_task_finished(task: TaskInfo, outcome: Outcome) -> None:
    """Hear how a task of a job ended."""
    # YOUR CODE: for example tell a monitor of yours
    log.info("job %d: %s took %.3f s", task.job.id, task.name, outcome.seconds)
