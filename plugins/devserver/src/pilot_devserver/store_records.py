"""Jobs as rows of the database: how a specification is kept, and how a row is read back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pilot_core.api.server import JobRecord
from pilot_devserver.store_jobs import FileSpec, JobSpec, describe, flags, is_debug, user_name

__all__ = ["new_row", "record", "spec_of"]


def new_row(spec: JobSpec, job_id: int, now: float) -> dict[str, Any]:
    """Return the columns of a job that is submitted now."""
    return {
        "id": job_id,
        "queue": spec.queue,
        "label": spec.label,
        "status": "activated",
        "attempt": spec.attempt,
        "priority": spec.priority,
        "user": user_name(spec.user),
        "processing_type": spec.processing_type,
        "resource_type": spec.resource_type,
        "task_id": spec.task_id,
        "memory": spec.memory_mb,
        "disk": spec.disk_mb,
        "walltime": spec.walltime_seconds,
        "background": int(spec.background),
        "special": spec.special,
        "spec": json.dumps(asdict(spec)),
        "created": now,
        "modified": now,
        "changed": now,
    }


def spec_of(row: sqlite3.Row) -> JobSpec:
    """Return the specification that a job was submitted with."""
    values: dict[str, Any] = json.loads(row["spec"])
    values["files"] = tuple(FileSpec(**file) for file in values["files"])
    return JobSpec(**values)


def record(row: sqlite3.Row, history: list[tuple[float, str]], heartbeats: list[float]) -> JobRecord:
    """Return a job as protocols see it."""
    errors: Mapping[str, Any] = json.loads(row["errors"])
    return JobRecord(
        id=row["id"],
        queue=row["queue"],
        status=row["status"],
        attempt=row["attempt"],
        label=row["label"],
        description=describe(spec_of(row), row["id"], row["special"]),
        command=row["command"],
        debug=is_debug(row["special"]),
        fields=json.loads(row["fields"]),
        report=row["report"],
        metadata=row["metadata"] or "",
        log=row["log"],
        stdout=row["stdout"],
        reported_state=row["reported"],
        errors=errors,
        history=history,
        user=row["user"],
        uses_secrets="us" in flags(row["special"]),
        priority=row["priority"],
        node=row["node"],
        heartbeats=heartbeats,
        file_status=json.loads(row["files"]),
    )
