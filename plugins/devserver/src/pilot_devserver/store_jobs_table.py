"""Submitting, listing and handing out jobs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilot_devserver.store_columns import Text, stored
from pilot_devserver.store_database import Database
from pilot_devserver.store_jobs import user_name
from pilot_devserver.store_records import new_row, record

if TYPE_CHECKING:
    import sqlite3

    from pilot_core.api.server import JobFilter, JobRecord
    from pilot_devserver.store_jobs import JobSpec

__all__ = ["JobsTable"]

_CE_SIZE = 128


class JobsTable(Database):
    """The jobs of the database."""

    _first_id = 1

    def _due(self) -> None:
        """Do what has become due (the Adder's work); called at the beginning of every transaction on jobs."""

    def submit(self, specs: Iterable[JobSpec], *, first_id: int | None = None) -> list[int]:
        """Put jobs into the queue, all or none; return their ids.

        Ids are counted on from the highest; `first_id` sets the first of them. GUIDs that are missing are made.
        Raises `StoreUnavailable` if such an id is taken.
        """
        with self._transaction() as connection:
            highest = connection.execute("SELECT max(id) FROM jobs").fetchone()[0]
            job_id = first_id if first_id is not None else max(self._first_id, (highest or 0) + 1)
            ids = []
            for spec in specs:
                row = new_row(_named(spec), job_id, self._now)
                marks = ", ".join(f":{column}" for column in row)
                connection.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", row)  # noqa: S608
                self._changed(job_id, "activated")
                ids.append(job_id)
                job_id += 1
        return ids

    def get(self, job_id: int) -> JobRecord | None:
        """Return a job, or None."""
        with self._transaction() as connection:
            self._due()
            row = self._row(connection, job_id)
            return self._record(connection, row) if row is not None else None

    def jobs(self, *, queue: str = "", status: str = "", newest: int = -1) -> list[JobRecord]:
        """Return all jobs, or those of a queue or in a state, or the `newest` of them, in the order of their ids."""
        with self._transaction() as connection:
            self._due()
            rows = connection.execute(
                "SELECT * FROM jobs WHERE (:queue = '' OR queue = :queue) AND (:status = '' OR status = :status)"
                " ORDER BY id DESC LIMIT :newest",
                {"queue": queue, "status": status, "newest": newest},
            ).fetchall()
            return [self._record(connection, row) for row in reversed(rows)]

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are in each state."""
        with self._transaction() as connection:
            self._due()
            return dict(connection.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())

    def counts_by_queue(self) -> dict[tuple[str, str], int]:
        """Return how many jobs there are in each queue and state."""
        with self._transaction() as connection:
            self._due()
            rows = connection.execute("SELECT queue, status, count(*) FROM jobs GROUP BY queue, status").fetchall()
        return {(row[0], row[1]): row[2] for row in rows}

    def sent_count(self, queue: str, seconds: float) -> int:
        """Count the production jobs of a queue that were handed out in the last seconds and not heard of since."""
        with self._transaction() as connection:
            found = connection.execute(
                "SELECT count(*) FROM jobs WHERE status = 'sent' AND archived = 0 AND label IN ('managed', 'test')"
                " AND queue = ? AND modified > ?",
                (queue, self._now - seconds),
            )
            return int(found.fetchone()[0])

    def dispatch(self, wanted: JobFilter) -> Sequence[JobRecord]:
        """Hand out up to `limit` activated jobs, by priority and id, and mark them sent."""
        where, values = _conditions(wanted)
        with self._transaction() as connection:
            self._due()
            rows = connection.execute(
                f"SELECT id FROM jobs WHERE {where} ORDER BY priority DESC, id LIMIT :limit",  # noqa: S608
                {**values, "limit": max(0, wanted.limit)},
            ).fetchall()
            for row in rows:
                self._send(connection, row["id"], wanted)
            self._keep_worker(connection, wanted, [row["id"] for row in rows])
            sent = [self._row(connection, row["id"]) for row in rows]
            return [self._record(connection, row) for row in sent if row is not None]

    def _send(self, connection: sqlite3.Connection, job_id: int, wanted: JobFilter) -> None:
        # a name that is too long, or cannot be stored, loses the pilot its job: the real server does not cut it
        told = stored({"node": wanted.node, "scheduler_id": wanted.scheduler_id})
        Text(_CE_SIZE).fit("computing_element", wanted.computing_element or "")
        told.pop("node")
        connection.execute(
            "UPDATE jobs SET status = 'sent', node = ?, fields = ?, modified = ?, changed = ?, started = ?,"
            " background = 0 WHERE id = ?",
            (wanted.node, json.dumps(told), self._now, self._now, self._now, job_id),
        )
        self._changed(job_id, "sent")

    def _keep_worker(self, connection: sqlite3.Connection, wanted: JobFilter, jobs: list[int]) -> None:
        if not jobs or not wanted.harvester_id or wanted.worker_id is None:
            return
        connection.execute(
            "INSERT INTO workers (harvester, worker, status, node, jobs) VALUES (?, ?, 'running', ?, ?)"
            " ON CONFLICT DO UPDATE SET jobs = excluded.jobs",
            (wanted.harvester_id, str(wanted.worker_id), wanted.node, json.dumps(jobs)),
        )

    def _row(self, connection: sqlite3.Connection, job_id: int) -> sqlite3.Row | None:
        """Return a job's row. A number beyond 64 bits is no job: PanDA's database compares it, and finds nothing."""
        if not -(2**63) <= job_id < 2**63:
            return None
        row: sqlite3.Row | None = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return row

    def _record(self, connection: sqlite3.Connection, row: sqlite3.Row) -> JobRecord:
        history = connection.execute("SELECT time, status FROM history WHERE job = ? ORDER BY rowid", (row["id"],))
        beats = connection.execute("SELECT time FROM heartbeats WHERE job = ? ORDER BY rowid", (row["id"],))
        return record(row, [tuple(change) for change in history.fetchall()], [beat[0] for beat in beats.fetchall()])


def _named(spec: JobSpec) -> JobSpec:
    """Give a job and its input and log files the names that PanDA's clients and server make."""
    files = tuple(
        replace(file, guid=str(uuid.uuid4())) if not file.guid and file.kind != "output" else file
        for file in spec.files
    )
    return replace(spec, files=files, name=spec.name or f"devserver.{uuid.uuid4().hex[:8]}")


def _conditions(wanted: JobFilter) -> tuple[str, dict[str, Any]]:
    """Return the WHERE clause for what a pilot can take, as panda-server 1.0.4 builds it."""
    clauses = ["archived = 0", "status = 'activated'", "queue = :queue"]
    values: dict[str, Any] = {"queue": wanted.queue}
    for column, limit in (("memory", wanted.memory_mb), ("disk", wanted.disk_mb)):
        if limit:
            clauses.append(f"({column} <= :{column} OR {column} = 0)")
            values[column] = limit
    if wanted.remaining_seconds:
        clauses.append("(walltime IS NULL OR walltime <= :walltime)")
        values["walltime"] = wanted.remaining_seconds
    if wanted.background:
        clauses.append("background = 1")
    for name, value in (("resource_type", wanted.resource_type), ("user", user_name(wanted.user))):
        if value:
            clauses.append(f"{name} = :{name}")
            values[name] = value
    if wanted.task_id is not None:
        clauses.append("task_id = :task_id")
        values["task_id"] = wanted.task_id
    kinds = [
        f"{column} IN ({', '.join(f':{column}{index}' for index in range(len(choices)))})"
        for column, choices in (("label", wanted.labels), ("processing_type", wanted.processing_types))
        if choices
    ]
    if kinds:
        clauses.append(f"({' OR '.join(kinds)})")
    values |= {f"label{index}": label for index, label in enumerate(wanted.labels)}
    values |= {f"processing_type{index}": kind for index, kind in enumerate(wanted.processing_types)}
    return " AND ".join(clauses), values
