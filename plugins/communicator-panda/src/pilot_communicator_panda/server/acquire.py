"""`pilot/acquire_jobs`: which jobs a pilot can take, and how they are handed to it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.server.call import Envelope, answer
from pilot_core.api.server import JobFilter, JobRecord, StoreUnavailable

if TYPE_CHECKING:
    from pilot_communicator_panda.server.call import Call
    from pilot_core.api.server import JobStore

__all__ = ["acquire_jobs"]

NO_JOBS = "No jobs in PanDA"
NO_ROLE = "no production/pilot role in VOMS FQANs or non pilot owner"
SENT_SECONDS = 60.0
"""`nSent` counts the jobs that were handed out in this time."""
_TOO_SHORT, _TOO_LONG = 10, 10**13
"""Timeouts in seconds with which the real server never finds a job: it takes 10 s off, and calculates with dates."""

_LABELS: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "panda", "install"),
    "managed": ("managed", "test", "prod_test", "install"),
    "unified": ("managed", "test", "prod_test", "install", "user", "panda"),
}
_TEST_LABELS = ("prod_test", "install", "test")
_TEST_PROCESSING = ("gangarobot",)


def acquire_jobs(call: Call) -> Envelope:
    """Hand out jobs."""
    given = call.arguments
    label: str | None = given["prod_source_label"]
    if not call.production and label != "user":
        return answer(False, NO_ROLE)
    try:
        _parse_architecture(given["target_architecture"])
    except ValueError as error:
        return answer(False, str(error))
    try:
        if call.store.queue_status(given["site_name"]) == "test" and label in ("user", "managed", "unified"):
            label = "test"
        wanted = _wanted(call, label)
        jobs = call.store.dispatch(wanted) if wanted is not None else ()
        if not jobs:
            return answer(False, NO_JOBS)
        counted = label in (None, "managed")
        sent = call.store.sent_count(given["site_name"], SENT_SECONDS) if counted else 0
        with_proxy = bool(given["get_proxy_key"]) and call.production
        return answer(True, data={"StatusCode": 0, "jobs": _describe(call.store, jobs, sent, with_proxy=with_proxy)})
    except StoreUnavailable:
        return answer(False, NO_JOBS)


def _parse_architecture(value: Any) -> None:
    """Raise `ValueError` with the answer's message for a worker's hardware that cannot be read.

    It is read and not used: no job of this server asks for special hardware.
    """
    if not value:
        return
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"failed to parse target_architecture with {error}") from None
    if not isinstance(value, dict):
        raise ValueError("target_architecture must be a JSON object")  # noqa: TRY004


def _wanted(call: Call, label: str | None) -> JobFilter | None:
    """Return what to look for; None = nothing can match."""
    given = call.arguments
    user = given["prod_user_id"] if call.production else call.dn
    # an empty string is a value, which no job has
    if not _TOO_SHORT < given["timeout"] < _TOO_LONG or "" in (given["resource_type"], user):
        return None
    labels, processing_types = _kinds(call, label)
    return JobFilter(
        queue=given["site_name"],
        labels=labels,
        processing_types=processing_types,
        limit=given["n_jobs"],
        memory_mb=_limit(given["memory"]),
        disk_mb=_limit(given["disk_space"]),
        remaining_seconds=_limit(given["remaining_time"]),
        resource_type=given["resource_type"] or "",
        task_id=given["task_id"],
        user=user or "",
        node=given["node"] or "",
        background=given["background"] is True,
        computing_element=given["computing_element"],
        scheduler_id=given["scheduler_id"],
        harvester_id=given["harvester_id"] or given["scheduler_id"] or "",
        worker_id=given["worker_id"],
    )


def _kinds(call: Call, label: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels and the processing types of which either is enough."""
    if label is None:
        return _LABELS["managed"], ()
    if label == "test" and call.arguments["computing_element"] is not None:
        if call.arguments["job_type"] == "user" and _is_unified(call):
            return (), _TEST_PROCESSING
        return _TEST_LABELS, _TEST_PROCESSING
    return _LABELS.get(label, (label,)), ()


def _is_unified(call: Call) -> bool:
    """Say whether the queue takes production and users' jobs alike ("grandly unified")."""
    data = call.store.queue_data(call.arguments["site_name"]) or {}
    return data.get("type") == "unified" or "grandly_unified" in str(data.get("catchall", ""))


def _limit(value: Any) -> int | None:
    """Return a limit; None = none, which is also what everything is that is no positive number."""
    if isinstance(value, (int, float)) and math.isfinite(value) and value > 0:
        return int(value)
    return None


def _describe(store: JobStore, jobs: Sequence[JobRecord], sent: int, *, with_proxy: bool) -> list[dict[str, Any]]:
    """Return the jobs as they are handed out. One job in debug mode brings the pilots' secrets to all of them."""
    pilot_secrets = store.secrets("") if any(job.debug for job in jobs) else None
    described = []
    for job in jobs:
        told: dict[str, Any] = {"StatusCode": 0, **job.description, "nSent": sent}
        if with_proxy:
            told |= {"credname": "", "myproxy": ""}
        if job.uses_secrets:
            told["secrets"] = store.secrets(job.user)
        if pilot_secrets:
            told["pilotSecrets"] = pilot_secrets
        described.append(told)
    return described
