"""`getJob`: which jobs a pilot can take, and how they are handed to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda_legacy.server.answers import NO_JOBS, NO_ROLE, SUCCESS, Text, encode, fields
from pilot_core.api.server import JobFilter, JobRecord, StoreUnavailable

if TYPE_CHECKING:
    from pilot_communicator_panda_legacy.server.calls import Call
    from pilot_core.api.server import JobStore

__all__ = ["NO_ROLE_TEXT", "get_job"]

NO_ROLE_TEXT = "no production/pilot role in VOMS FQANs or non pilot owner"
SENT_SECONDS = 60.0
_TOO_SHORT = 10
"""Seconds that the real server takes off the timeout: nothing is found in what then remains."""
_LABELS: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "panda", "install"),
    "managed": ("managed", "test", "prod_test", "install"),
    "unified": ("managed", "test", "prod_test", "install", "user", "panda"),
}


def get_job(call: Call) -> Text:
    """Hand out one job, or several as a list if a number is given."""
    given, label = call.arguments, call.arguments["prodSourceLabel"]
    with_proxy = given["getProxyKey"] == "True"
    is_pilot = call.is_pilot(members=not with_proxy)
    if not is_pilot and label != "user":
        dialog = NO_ROLE_TEXT if call.accepts_json else None
        return encode(fields(NO_ROLE, dialog=dialog), as_json=call.accepts_json)
    timeout = int(given["timeout"])
    try:
        if call.store.queue_status(given["siteName"]) == "test" and label in _LABELS:
            label = "test"
        wanted = _wanted(call, label, given["prodUserID"] if is_pilot else call.dn)
        jobs = call.store.dispatch(wanted) if wanted is not None and timeout > _TOO_SHORT else ()
        counted = label in (None, "managed")
        sent = call.store.sent_count(given["siteName"], SENT_SECONDS) if counted and jobs else 0
        described = _describe(call.store, jobs, sent, with_proxy=with_proxy and is_pilot)
    except StoreUnavailable:
        described = []
    return _answer(call, described)


def _answer(call: Call, described: list[dict[str, Any]]) -> Text:
    as_json = call.accepts_json
    if not described:
        return encode(fields(NO_JOBS, dialog="no jobs in PanDA" if as_json else None), as_json=as_json)
    if call.arguments["nJobs"] is None:
        return encode(described[0], as_json=as_json)
    return encode({**fields(SUCCESS), "jobs": described if as_json else json.dumps(described)}, as_json=as_json)


def _wanted(call: Call, label: str | None, user: str | None) -> JobFilter | None:
    """Return what to look for; None = nothing can match."""
    given = call.arguments
    task = given["taskID"]
    if task not in (None, "NULL") and _number(task, None) is None:
        return None  # the database cannot compare it
    if "" in (given["resourceType"], user):
        return None
    labels, processing_types = _kinds(call, label)
    return JobFilter(
        queue=given["siteName"],
        labels=labels,
        processing_types=processing_types,
        limit=_number(given["nJobs"], 1) or 0,
        memory_mb=_limit(given["mem"]),
        disk_mb=_limit(given["diskSpace"]),
        remaining_seconds=max(0, _number(given["remaining_time"], 0) or 0),
        resource_type=given["resourceType"] or "",
        task_id=None if task in (None, "NULL") else _number(task, None),
        user=user or "",
        node=str(given["node"] or ""),
        background=given["background"] == "True",
        computing_element=given["computingElement"],
        scheduler_id=given["schedulerID"],
        harvester_id=given["harvester_id"] or "",
        worker_id=_number(given["worker_id"], None),
    )


def _kinds(call: Call, label: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels and the processing types of which either is enough."""
    if label is None:
        return _LABELS["managed"], ()
    if label == "test" and call.arguments["computingElement"] is not None:
        data = call.store.queue_data(call.arguments["siteName"]) or {}
        unified = data.get("type") == "unified" or "grandly_unified" in str(data.get("catchall", ""))
        if unified and call.arguments["jobType"] == "user":
            return (), ("gangarobot",)
        return ("prod_test", "install", "test"), ("gangarobot",)
    return _LABELS.get(label, (label,)), ()


def _number(value: Any, otherwise: int | None) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return otherwise


def _limit(value: Any) -> int:
    """Return a limit; what is no number, or below 0, is none."""
    try:
        return max(0, int(float(value)))
    except (TypeError, ValueError, OverflowError):
        return 0


def _describe(store: JobStore, jobs: Sequence[JobRecord], sent: int, *, with_proxy: bool) -> list[dict[str, Any]]:
    """Return the jobs as they are handed out. One job in debug mode brings the pilots' secrets to all of them."""
    pilot_secrets = store.secrets("") if any(job.debug for job in jobs) else None
    described = []
    for job in jobs:
        told = {**fields(SUCCESS), **job.description, "nSent": sent}
        if with_proxy:
            told |= {"credname": "", "myproxy": ""}
        if job.uses_secrets:
            told["secrets"] = store.secrets(job.user)
        if pilot_secrets:
            told["pilotSecrets"] = pilot_secrets
        described.append(told)
    return described
