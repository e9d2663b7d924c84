"""The development server's job store: what PanDA's database keeps, in one SQLite file or in memory.

It implements `pilot_core.api.server.JobStore`; its parts are `store_database` (transactions, time, changes),
`store_jobs_table` (submitting, handing out), `store_updates` (pilots' updates, the Adder), `store_control` (kill,
commands, watchers) and here queues, workers, secrets and credentials.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.server import StoreUnavailable
from pilot_devserver.store_columns import check_text
from pilot_devserver.store_control import Control
from pilot_devserver.store_jobs import user_name

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock

__all__ = ["RESOURCE_TYPES", "SqliteStore"]

RESOURCE_TYPES: Sequence[Mapping[str, Any]] = (
    {"resource_name": "SCORE", "mincore": 1, "maxcore": 1, "minrampercore": 0, "maxrampercore": 2000},
    {"resource_name": "MCORE", "mincore": 2, "maxcore": None, "minrampercore": 0, "maxrampercore": 2000},
    {"resource_name": "SCORE_HIMEM", "mincore": 1, "maxcore": 1, "minrampercore": 2001, "maxrampercore": None},
    {"resource_name": "MCORE_HIMEM", "mincore": 2, "maxcore": None, "minrampercore": 2001, "maxrampercore": None},
)
"""Cores, and memory per core in MB; None = no limit."""

_BUSY_NODE = "Another pilot was updating the worker node at the same time."
_BUSY_GPU = "Another pilot was updating the worker node GPU at the same time."
"""What 1.0.4 says whenever a statement before the last one fails: it takes any error for a lock."""
_NODE_SIZES = {"site": 128, "host_name": 128, "cpu_model": 128, "cpu_architecture": 20, "cpu_architecture_level": 20}
_GPU_SIZES = {"site": 128, "host_name": 128, "vendor": 128, "model": 128, "architecture": 128, "framework": 128} | {
    "framework_version": 20,
    "driver_version": 20,
}
_COUNTS = frozenset({"n_logical_cpus", "n_sockets", "cores_per_socket", "threads_per_core", "count"})


class SqliteStore(Control):
    """Jobs, queues, workers and secrets; safe to use from several threads and processes.

    `path` None keeps everything in memory. Ids of jobs start at `first_id`. The Adder decides a job `adder_delay`
    seconds after its final update, when the store is next asked; None = only by `settle()`.
    """

    def __init__(
        self, path: Path | None = None, *, clock: Clock, first_id: int = 1, adder_delay: float | None = 1.0
    ) -> None:
        super().__init__(path, clock=clock)
        self._first_id = first_id
        self._adder_delay = adder_delay

    def set_queue(self, name: str, *, status: str = "online", data: Mapping[str, Any] | None = None) -> None:
        """Make a queue known, or change it. `data` is what `queuedata` serves, completed with name and status."""
        told = {**(data or {}), "nickname": name, "panda_resource": name, "status": status}
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO queues VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status,"
                " data = excluded.data",
                (name, status, json.dumps(told)),
            )

    def queue_status(self, queue: str) -> str:
        """Return the queue's status, "" for an unknown queue."""
        with self._transaction() as connection:
            found = connection.execute("SELECT status FROM queues WHERE name = ?", (queue,)).fetchone()
        return str(found[0]) if found else ""

    def queue_data(self, queue: str) -> Mapping[str, Any] | None:
        """Return the queue's `queuedata`, None for an unknown queue."""
        with self._transaction() as connection:
            found = connection.execute("SELECT data FROM queues WHERE name = ?", (queue,)).fetchone()
        data: Mapping[str, Any] | None = json.loads(found[0]) if found else None
        return data

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        with self._transaction() as connection:
            return [row[0] for row in connection.execute("SELECT name FROM queues ORDER BY name").fetchall()]

    def worker_status(self, harvester_id: str, worker_id: str, values: Mapping[str, Any]) -> bool:
        """Keep what a pilot said about itself; raises `StoreUnavailable` for ids that the columns cannot hold."""
        status, node = values.get("status"), values.get("node_id")
        if not re.fullmatch(r"\s*[+-]?\d+\s*", worker_id, re.ASCII) or abs(int(worker_id)) >= 2**63:
            raise StoreUnavailable(f"worker_id: invalid input syntax for type bigint: {worker_id[:40]!r}")
        _fit({"harvester_id": harvester_id, "node_id": node}, {"node_id": 80, "harvester_id": 2**31})
        moment = {"started": "started", "finished": "ended"}.get(str(status))
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO workers (harvester, worker, status, node) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET status = excluded.status, node = excluded.node",
                (harvester_id, worker_id.strip(), status, node),
            )
            if moment:
                connection.execute(
                    f"UPDATE workers SET {moment} = ? WHERE harvester = ? AND worker = ?",  # noqa: S608
                    (self._now, harvester_id, worker_id.strip()),
                )
        return True

    def workers(self) -> list[dict[str, Any]]:
        """Return what is known of workers: harvester, worker, status, node, started, ended, jobs."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT * FROM workers ORDER BY harvester, worker").fetchall()
        return [{**dict(row), "jobs": json.loads(row["jobs"])} for row in rows]

    def worker_node(self, site: str, host_name: str, values: Mapping[str, Any]) -> tuple[bool, str]:
        """Keep a machine; 1.0.4 says "inserted" for updates too, and takes any trouble for a lock."""
        try:
            _fit({**values, "site": site, "host_name": _host(host_name)}, _NODE_SIZES)
            with self._transaction() as connection:
                connection.execute(
                    "INSERT INTO nodes VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET data = excluded.data, seen = excluded.seen",
                    (site, _host(host_name), values.get("cpu_model"), json.dumps(dict(values)), self._now),
                )
        except StoreUnavailable:
            return True, _BUSY_NODE
        return True, "Inserted new worker node."

    def worker_gpu(self, site: str, host_name: str, values: Mapping[str, Any]) -> tuple[bool, str]:
        """Keep one kind of GPU of a machine."""
        keys = (site, _host(host_name), values.get("vendor"), values.get("model"))
        try:
            with self._transaction() as connection:
                where = "site = ? AND host = ? AND vendor = ? AND model = ?"
                known = connection.execute(f"SELECT 1 FROM gpus WHERE {where}", keys).fetchone()  # noqa: S608
                _fit({**values, "site": site, "host_name": _host(host_name)}, _GPU_SIZES)
                connection.execute(
                    "INSERT INTO gpus VALUES (?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET data = excluded.data, seen = excluded.seen",
                    (*keys, json.dumps(dict(values)), self._now),
                )
        except StoreUnavailable:
            return False, _BUSY_GPU
        return True, "Updated existing worker node GPU." if known else "Inserted new worker node GPU."

    def worker_nodes(self) -> list[dict[str, Any]]:
        """Return the machines that pilots told of: site, host, cpu, data, seen."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT * FROM nodes ORDER BY site, host").fetchall()
        return [{**dict(row), "data": json.loads(row["data"])} for row in rows]

    def secrets(self, owner: str) -> str:
        """Return a user's secrets, or those of all pilots (owner ""), as JSON. `owner` may be a DN."""
        owner = user_name(owner)
        with self._transaction() as connection:
            found = connection.execute("SELECT data FROM secrets WHERE owner = ?", (owner,)).fetchone()
        return str(found[0]) if found else "{}"

    def secret_values(self) -> list[str]:
        """Return every secret and every credential that is kept, for those who have to hide them."""
        with self._transaction() as connection:
            kept = [row[0] for row in connection.execute("SELECT value FROM credentials").fetchall()]
            tables = [json.loads(row[0]) for row in connection.execute("SELECT data FROM secrets").fetchall()]
        return [*kept, *(str(value) for table in tables for value in table.values())]

    def set_secret(self, owner: str, key: str | None, value: str | None) -> None:
        """Keep a secret; without a value forget it, without a key forget all of the owner."""
        owner = user_name(owner)
        with self._transaction() as connection:
            found = connection.execute("SELECT data FROM secrets WHERE owner = ?", (owner,)).fetchone()
            data: dict[str, Any] = json.loads(found[0]) if found and key is not None else {}
            if key is not None and value is None:
                data.pop(key, None)
            elif key is not None:
                data[key] = value
            connection.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?)", (owner, json.dumps(data)))

    def set_credential(self, kind: str, name: str, value: str) -> None:
        """Keep something that `creds/*` hands out: kind `proxy`, `token`, `token-key` or `key`."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO credentials VALUES (?, ?, ?)", (kind, name, value))

    def credential(self, kind: str, name: str) -> str | None:
        """Return something that `creds/*` hands out, or None."""
        with self._transaction() as connection:
            query = "SELECT value FROM credentials WHERE kind = ? AND name = ?"
            found = connection.execute(query, (kind, name)).fetchone()
        return str(found[0]) if found else None

    def set_flags(self, user: str, flags: str) -> None:
        """Set a user's flags: p (may fetch proxies and tokens), k (keys), t (token keys)."""
        user = user_name(user)
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (user, flags))

    def permitted(self, user: str, flag: str) -> bool:
        """Say whether a user has a flag."""
        user = user_name(user)
        with self._transaction() as connection:
            found = connection.execute("SELECT flags FROM users WHERE name = ?", (user,)).fetchone()
        return bool(found) and flag in found[0]

    def resource_types(self) -> Sequence[Mapping[str, Any]]:
        """Return the definitions of resource types."""
        with self._transaction():
            return RESOURCE_TYPES


def _fit(values: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Raise `StoreUnavailable` for text that is too long, and for counts beyond four bytes."""
    for name, value in values.items():
        if isinstance(value, int) and name in _COUNTS and not -(2**31) <= value < 2**31:
            raise StoreUnavailable(f"{name}: value out of range")
        if isinstance(value, str):
            check_text(name, value)
            if len(value) > sizes.get(name, 2**31):
                raise StoreUnavailable(f"{name}: {len(value)} characters, the column takes {sizes[name]}")


def _host(name: str) -> str:
    """Return the host of `slot@host`."""
    return name.rpartition("@")[2]
