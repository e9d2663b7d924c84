"""A job's description out of a file: the dictionary itself, or the server's answer that it came in.

Layouts of the answers: observed on panda-server 1.0.4 (`acquire_jobs`) and 0.8.1 (`getJob`, with and without `nJobs`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.translate import translate
from pilot_communicator_panda.values import BadField, Fields
from pilot_core import JobDescriptionError

if TYPE_CHECKING:
    from pilot_core.api.job import BadJob, Job

__all__ = ["read_description"]


def read_description(value: Any, log: logging.Logger, *, decode: bool = True) -> Job | BadJob:
    """Translate a description as a server gives it, wrapped in its answer or not; `decode` as in `translate`.

    Raises `JobDescriptionError` for what is no description of exactly one job with a PandaID.
    """
    entries = _entries(value)
    if len(entries) != 1:
        raise JobDescriptionError(f"has {len(entries) or 'no'} jobs; one was expected, so keep one of them only")
    (entry,) = entries
    if not isinstance(entry, Mapping):
        raise JobDescriptionError(f"a job is an object with a PandaID, not {type(entry).__name__}")
    try:
        usable = (Fields(entry).integer("PandaID") or 0) >= 1
    except BadField as error:
        raise JobDescriptionError(str(error)) from None
    job = translate(entry, log, decode=decode) if usable else None
    if job is None:
        raise JobDescriptionError("PandaID: is missing, and without it no job can be run")
    return job


def _entries(value: Any) -> list[Any]:
    """Take a server's answer apart; raises `JobDescriptionError` for one that says there is no job."""
    if isinstance(value, list):
        return value
    if not isinstance(value, Mapping):
        raise JobDescriptionError(f"a job is an object with a PandaID, not {type(value).__name__}")
    if value.get("success") is False:
        raise JobDescriptionError(f"is an answer without a job: {str(value.get('message') or 'no reason given')[:200]}")
    inner = value.get("data")
    if "PandaID" not in value and isinstance(inner, (Mapping, list)):
        return _entries(inner)
    jobs = value.get("jobs")
    if "PandaID" in value or jobs is None:
        return [value]
    if isinstance(jobs, str):  # as the form API sends it
        try:
            jobs = json.loads(jobs)
        except (ValueError, RecursionError):
            jobs = None
    if not isinstance(jobs, list):
        raise JobDescriptionError("jobs: is not a list of jobs")
    return jobs
