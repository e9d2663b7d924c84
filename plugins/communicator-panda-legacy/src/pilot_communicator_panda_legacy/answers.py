"""What the answers of the form API mean.

Facts: observed on panda-server 0.8.1. Answers are JSON objects where the request's Accept allows it, else urlencoded;
some errors are bare text. `StatusCode` is 0, 20 (no job), 30 (failed), 60 (no role, and also no credential at all), or
10 (the database takes too long).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pilot_communicator_panda.answers import commands, secrets
from pilot_communicator_panda.retry import AttemptFailed

from pilot_core import AuthError, HandledError, JobStatus, RequestRefused, ServerAnswer

if TYPE_CHECKING:
    from pilot_communicator_panda.http import Reply

__all__ = ["NO_JOBS", "job_entries", "job_statuses", "parse_answer", "refusal", "update_answer"]

NO_JOBS = 20
_URLENCODED = re.compile(r"[A-Za-z][A-Za-z0-9_]*=[^\s<>]*")
_NO_CREDENTIAL = ("failed to retrieve DN", "SSL secure connection is required", "role")


def parse_answer(reply: Reply, where: str, excerpt: Callable[[str], str]) -> dict[str, Any]:
    """Return an answer's values; a bare text comes as `{"errorDialog": text}`.

    Raises `AttemptFailed` for what no PanDA server says.
    """
    text = reply.body.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise AttemptFailed(f"{where} answers with something that is not JSON: {excerpt(text)}") from None
        return dict(value)
    if not text or text.startswith(("<", "[")):
        what = "nothing" if not text else "an HTML page" if text.startswith("<") else "a list"
        raise AttemptFailed(f"{where} answers with {what}: is it a PanDA server before 1.0?")
    if _URLENCODED.fullmatch(text):
        return {name: _decoded(value) for name, value in parse_qsl(text, keep_blank_values=True)}
    return {"errorDialog": text}


def _decoded(value: str) -> str | None:
    """Return a urlencoded value; the server writes Python's None as text."""
    return None if value == "None" else value


def status_code(answer: Mapping[str, Any]) -> int | None:
    """Return the StatusCode; None without one."""
    value = answer.get("StatusCode")
    try:
        return int(value) if isinstance(value, (int, str)) else None
    except ValueError:
        return None


def refusal(answer: Mapping[str, Any], what: str, where: str, excerpt: Callable[[str], str]) -> HandledError | None:
    """Return the error that an answer stands for; None for StatusCode 0 and 20."""
    code = status_code(answer)
    if code in {0, NO_JOBS}:
        return None
    dialog = answer.get("errorDialog")
    text = excerpt(dialog) if isinstance(dialog, str) else ""
    told = f"{text or 'no reason given'}{'' if code is None else f' (StatusCode {code})'}"
    if code in {60, 70} or (code is None and any(phrase in text for phrase in _NO_CREDENTIAL)):
        hint = "it wants a certificate or token over https, with the role production or pilot"
        return AuthError(f"{where} refuses {what}: {told}; {hint}")
    if code is None and text.startswith("Invalid "):
        return RequestRefused(f"{where} refuses {what}: {told}")
    if code in {None, 10, 30}:
        return AttemptFailed(f"{where} could not do {what}: {told}")
    return RequestRefused(f"{where} refuses {what}: {told}")


def job_entries(answer: Mapping[str, Any]) -> list[Any]:
    """Return the job dictionaries of a `getJob` answer: one, flat, or with nJobs a list, in JSON or as its text."""
    if status_code(answer) == NO_JOBS:
        return []
    if "jobs" not in answer:
        return [answer]
    jobs = answer["jobs"]
    if isinstance(jobs, str):
        try:
            jobs = json.loads(jobs)
        except (ValueError, RecursionError):
            jobs = None
    if not isinstance(jobs, list):
        raise AttemptFailed("the answer to getJob has no list of jobs")
    return jobs


def update_answer(answer: Mapping[str, Any]) -> ServerAnswer:
    """Return the answer to an accepted `updateJob`.

    Without a command the server has not taken the update: that is how it answers to a state that it does not know.
    """
    if "command" not in answer:
        raise RequestRefused("the server did not take the update: it does not know this state of a job")
    return ServerAnswer(commands=commands(answer["command"]), pilot_secrets=secrets(answer.get("pilotSecrets")))


def job_statuses(answer: Mapping[str, Any], job_ids: Sequence[int]) -> list[JobStatus]:
    """Return the entries of `getStatus`, which come in the order of the question, joined by `+`."""
    if not {"status", "attemptNr"} <= answer.keys():  # the second one is missing where the answer was cut short
        raise AttemptFailed("the answer to getStatus is not whole")
    states, attempts = (str(answer[name]).split("+") for name in ("status", "attemptNr"))
    if len(states) != len(job_ids) or len(attempts) != len(job_ids):
        raise AttemptFailed("the answer to getStatus does not fit the question")
    found = []
    for job_id, state, attempt in zip(job_ids, states, attempts, strict=True):
        known = state not in {"notfound", "unknown"} and re.fullmatch(r"[0-9]{1,9}", attempt)
        status = "not found" if state == "notfound" else state
        found.append(JobStatus(job_id=job_id, status=status, attempt=int(attempt) if known else None))
    return found
