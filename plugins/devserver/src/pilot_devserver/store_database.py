"""The development server's database: one SQLite connection, transactions, time, and who is told of changes."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pilot_core.api.clock import Clock, Event
from pilot_core.api.server import StoreUnavailable

__all__ = ["Database"]

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('available', 1), ('passed', 0.0), ('held', 0);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY, queue TEXT NOT NULL, label TEXT NOT NULL, status TEXT NOT NULL, attempt INTEGER NOT NULL,
    priority INTEGER NOT NULL, user TEXT NOT NULL, processing_type TEXT, resource_type TEXT, task_id INTEGER,
    memory INTEGER NOT NULL, disk INTEGER NOT NULL, walltime INTEGER, background INTEGER NOT NULL,
    special TEXT NOT NULL, spec TEXT NOT NULL, archived INTEGER NOT NULL DEFAULT 0,
    command TEXT NOT NULL DEFAULT '', diag TEXT, node TEXT NOT NULL DEFAULT '', fields TEXT NOT NULL DEFAULT '{}',
    errors TEXT NOT NULL DEFAULT '{}', files TEXT NOT NULL DEFAULT '{}', reported TEXT NOT NULL DEFAULT '',
    report TEXT NOT NULL DEFAULT '', metadata TEXT, log TEXT NOT NULL DEFAULT '', stdout TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL, modified REAL NOT NULL, changed REAL NOT NULL, started REAL, ended REAL
);
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (queue, status, priority DESC, id) WHERE archived = 0;
CREATE TABLE IF NOT EXISTS history (job INTEGER NOT NULL, time REAL NOT NULL, status TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS history_job ON history (job);
CREATE TABLE IF NOT EXISTS heartbeats (job INTEGER NOT NULL, time REAL NOT NULL);
CREATE INDEX IF NOT EXISTS heartbeats_job ON heartbeats (job);
CREATE TABLE IF NOT EXISTS reports (
    job INTEGER NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, data TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (job, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS workers (
    harvester TEXT NOT NULL, worker TEXT NOT NULL, status TEXT, node TEXT, started REAL, ended REAL,
    jobs TEXT NOT NULL DEFAULT '[]', PRIMARY KEY (harvester, worker)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nodes (
    site TEXT, host TEXT, cpu TEXT, data TEXT NOT NULL, seen REAL NOT NULL, PRIMARY KEY (site, host, cpu)
);
CREATE TABLE IF NOT EXISTS gpus (
    site TEXT, host TEXT, vendor TEXT, model TEXT, data TEXT NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (site, host, vendor, model)
);
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY, status TEXT NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (owner TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS credentials (
    kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, flags TEXT NOT NULL) WITHOUT ROWID;
"""

_BUSY_SECONDS = 30.0
"""How long SQLite itself waits for another process's transaction."""


class Database:
    """One SQLite database, in a file or in memory, that several threads and processes use at the same time.

    Every access is one transaction that takes SQLite's write lock at its beginning, so that what it has read holds
    until it is done. `path` None = in memory. Raises `StoreUnavailable` where the database does not answer.
    """

    def __init__(self, path: Path | None, *, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._touched: list[int] = []
        self._now = 0.0
        self._listeners: list[Callable[[int], None]] = []
        self._waiters: list[Event] = []
        name = ":memory:" if path is None else str(path)
        self._connection = sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        try:
            # a crash may lose the last transactions, never the file: it is a development server
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            self._connection.close()
            raise StoreUnavailable(f"{name}: {error}") from error

    def close(self) -> None:
        """Close the connection; nothing may be asked afterwards."""
        with self._lock:
            self._connection.close()

    @property
    def available(self) -> bool:
        """Whether the database answers; set it to False to simulate one that is down, for every process on it."""
        with self._lock:
            return bool(self._meta("available"))

    @available.setter
    def available(self, value: bool) -> None:
        with self._lock:
            self._connection.execute("UPDATE meta SET value = ? WHERE key = 'available'", (int(value),))

    @property
    def adder_held(self) -> bool:
        """Whether the Adder runs by `settle()` only, for every process on the database, whatever its delay."""
        with self._lock:
            return bool(self._meta("held"))

    @adder_held.setter
    def adder_held(self, value: bool) -> None:
        with self._lock:
            self._connection.execute("UPDATE meta SET value = ? WHERE key = 'held'", (int(value),))

    def pass_time(self, seconds: float) -> None:
        """Have time pass for the database, in every process on it: heartbeats become old, reports become due."""
        with self._lock:
            self._connection.execute("UPDATE meta SET value = value + ? WHERE key = 'passed'", (seconds,))

    def now(self) -> float:
        """Return the database's wall time: the clock's, and what `pass_time` added."""
        with self._lock:
            return self._clock.wall() + float(self._meta("passed"))

    def _check_available(self) -> None:
        if not self._meta("available"):
            raise StoreUnavailable("could not connect to the database")

    def _meta(self, key: str) -> float:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return float(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Do one transaction; an exception undoes it. Who waits for changes is told after the commit."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise StoreUnavailable(str(error)) from error
            self._touched = []
            try:
                self._check_available()
                self._now = self.now()
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                self._connection.execute("ROLLBACK")
                if isinstance(error, (sqlite3.Error, OverflowError)):
                    raise StoreUnavailable(str(error)) from error
                raise
            touched, self._touched = self._touched, []
            waiters: list[Event] = []
            if touched:
                waiters, self._waiters = self._waiters, []
            listeners = list(self._listeners)
        self._tell(touched, listeners, waiters)

    def _tell(self, touched: list[int], listeners: list[Callable[[int], None]], waiters: list[Event]) -> None:
        for waiter in waiters:
            waiter.set()
        for job_id in dict.fromkeys(touched):
            for listener in listeners:
                listener(job_id)

    def _changed(self, job_id: int, status: str | None) -> None:
        """Note that a job has changed (`status` None = but not its status), for history and for who waits."""
        if status is not None:
            self._connection.execute("INSERT INTO history VALUES (?, ?, ?)", (job_id, self._now, status))
        self._touched.append(job_id)

    def subscribe(self, listener: Callable[[int], None]) -> Callable[[], None]:
        """Have a function called with the id of each job that this process changes; return what ends that.

        It is called outside of the transaction, in the thread that made the change: it must be quick and raise nothing.
        """
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return unsubscribe

    def next_change(self) -> Event:
        """Return an event that is set when this process next changes a job: wait for it with `Clock.wait`.

        Take it first and look at the jobs afterwards, so that no change falls between.
        """
        event = Event()
        with self._lock:
            self._waiters.append(event)
        return event
