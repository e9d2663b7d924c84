"""A pilot's journal: who it is, what it asked for, and every step of its jobs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pilot_core._version import __version__
from pilot_core.journal.database import Database
from pilot_core.journal.owners import PilotProcess
from pilot_core.journal.points import DURABLE, Hook, point_of
from pilot_core.journal.records import Identity, JobRecord, Step, Taken, described, told_apart

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from pilot_core.api.clock import Clock
    from pilot_core.api.job import Job

__all__ = ["JobJournal", "PilotJournal"]

KEPT_DAYS = 30
"""For how long what became of a job can be looked up."""
_DAY = 86400.0
LONGEST_LIFE = 365 * _DAY
"""Seconds after which a pilot that did not say that it ended has."""


class PilotJournal:
    """The journal of one pilot process. Safe in several threads; raises `OSError` where something cannot be kept."""

    def __init__(
        self, database: Database, clock: Clock, *, clean: Callable[[str], str] = str, hook: Hook | None = None
    ) -> None:
        """`clean` takes secrets out of texts; `hook` hears of every write, before and after it."""
        self._database = database
        self._clock = clock
        self._clean = clean
        self._hook = hook
        self._last = ""
        self._me = PilotProcess.this()
        self._id = 0

    @classmethod
    def open(cls, work_dir: Path, clock: Clock, **more: Any) -> PilotJournal:
        """Open the journal of a work directory and enter this pilot; raises `OSError`."""
        made = cls(Database.open(work_dir), clock, **more)
        try:
            made._begin()
        except BaseException:
            made._database.close()
            raise
        return made

    def _begin(self) -> None:
        """Enter this pilot, and forget what is old."""
        now = self._clock.wall()
        old = now - KEPT_DAYS * _DAY

        def write(connection: sqlite3.Connection) -> None:
            me = self._me
            cursor = connection.execute(
                "INSERT INTO pilots(uuid, host, boot, pids, pid, start_time, version, started)"
                " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                (str(uuid.uuid4()), me.host, me.boot, me.pids, me.pid, me.start_time, __version__, now),
            )
            self._id = int(cursor.lastrowid or 0)
            connection.execute("DELETE FROM jobs WHERE state='closed' AND ended<?", (old,))
            connection.execute("DELETE FROM asks WHERE at<?", (old,))
            connection.execute(
                "DELETE FROM pilots WHERE coalesce(ended, started+?)<? AND id NOT IN (SELECT owner FROM jobs)"
                " AND id NOT IN (SELECT pilot FROM asks)",
                (LONGEST_LIFE, old),
            )

        self._write("pilot-started", write)

    # -- asking --------------------------------------------------------------------------------------------------

    def asking(self, server: str, queue: str) -> int:
        """Record that the server is about to be asked for a job; returns the question's number."""
        found = []

        def write(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(
                "INSERT INTO asks(pilot, server, queue, at) VALUES(?, ?, ?, ?)",
                (self._id, server, queue, self._clock.wall()),
            )
            found.append(int(cursor.lastrowid or 0))

        self._write("asking", write)
        return found[0]

    def asked(self, ask: int, outcome: str) -> None:
        """Record that a question brought no job."""
        self._write("asked", lambda connection: self._answered(connection, ask, outcome))

    def acquired(
        self, ask: int, jobs: Sequence[Taken], *, server: str, queue: str, identity: Identity
    ) -> list[JobJournal]:
        """Record the jobs that the server gave: from now on they are this pilot's."""
        keys: list[int] = []
        now = self._clock.wall()

        def write(connection: sqlite3.Connection) -> None:
            self._answered(connection, ask, f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}")
            for taken in jobs:
                job = taken.job
                values = (job.id, job.attempt, server, queue, self._id, str(taken.job_dir))
                text, names = described(job, self._clean), json.dumps(asdict(identity))
                cursor = connection.execute(
                    "INSERT INTO jobs(panda_id, attempt, server, queue, owner, job_dir, description, secret, identity,"
                    " taken, state, phase) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', 'acquired')",
                    (*values, text, bool(job.secrets), names, now),
                )
                keys.append(int(cursor.lastrowid or 0))
                details: dict[str, Any] = {
                    "panda_id": job.id,
                    "attempt": job.attempt,
                    "queue": queue,
                    "seconds": taken.seconds,
                }
                details |= {"failures": list(taken.failures)}
                self._step(connection, keys[-1], "acquired", details)

        self._write("acquired", write)
        return [JobJournal(self, key) for key in keys]

    def known(self, job: Job, server: str) -> JobRecord | None:
        """Return what is recorded of exactly this job, if it was given to this node before."""
        wanted = told_apart(described(job, self._clean))
        rows = self._database.query(
            "SELECT id, description FROM jobs WHERE panda_id=? AND attempt IS ? AND server=? ORDER BY id DESC",
            *(job.id, job.attempt, server),
        )
        same = (row["id"] for row in rows if told_apart(row["description"]) == wanted)
        key = next(same, None)
        return None if key is None else self.record_of(key)

    # -- what is there -------------------------------------------------------------------------------------------

    def record_of(self, key: int) -> JobRecord:
        """Return a job's record."""
        rows = self._database.query("SELECT * FROM jobs WHERE id=?", key)
        steps = self._database.query("SELECT * FROM steps WHERE job=? ORDER BY id", key)
        return JobRecord.of(rows[0], tuple(map(Step.of, steps)))

    def spooled(self, job_id: int, attempt: int | None) -> JobRecord | None:
        """Return the record of a job whose report waits in the spool; None if there is none."""
        rows = self._database.query(
            "SELECT id FROM jobs WHERE panda_id=? AND attempt IS ? AND state='spooled' ORDER BY id DESC LIMIT 1",
            *(job_id, attempt),
        )
        return self.record_of(rows[0]["id"]) if rows else None

    def keeps_outputs(self) -> bool:
        """Say whether outputs are kept of any job."""
        return bool(self._database.query("SELECT 1 FROM jobs WHERE state='kept' LIMIT 1"))

    def journal_of(self, record: JobRecord) -> JobJournal:
        """Return what records further steps of a job that is this pilot's."""
        return JobJournal(self, record.key)

    def take_over(self, server: str, queue: str | None, *, kept: bool = False) -> list[JobRecord]:
        """Make the jobs of pilots that died this pilot's own, and return them.

        Those of this server, and of `queue` if that is given; without it, those whose report is ready. With `kept`
        only those of which outputs are kept. In one
        transaction, so that of several pilots one gets a job. The first to come out is whose report only has to be
        sent, then whose payload was started first.
        """
        keys: list[int] = []

        def write(connection: sqlite3.Connection) -> None:
            rows = connection.execute(
                "SELECT jobs.id, jobs.state, jobs.queue, jobs.phase, pilots.id AS pilot, host, boot, pids, pid,"
                " start_time, pilots.ended FROM jobs JOIN pilots ON pilots.id=owner"
                " WHERE jobs.state NOT IN ('closed', 'spooled') AND server=? ORDER BY phase<>'report', jobs.id",
                (server,),
            ).fetchall()
            for row in rows:
                if row["pilot"] == self._id or not self._is_free(row):
                    continue
                if row["queue"] != queue and row["phase"] not in {"report", "done"}:
                    continue
                if kept and row["state"] != "kept":
                    continue
                connection.execute("UPDATE jobs SET owner=?, state='open' WHERE id=?", (self._id, row["id"]))
                self._step(connection, row["id"], "taken-over", {"from": row["pid"]})
                keys.append(row["id"])

        if self._database.query(
            "SELECT 1 FROM jobs WHERE state NOT IN ('closed', 'spooled') AND owner<>? LIMIT 1", self._id
        ):
            self._write("taken-over", write)
        return [self.record_of(key) for key in keys]

    def _is_free(self, row: sqlite3.Row) -> bool:
        """Say whether nobody works on a job any more."""
        if row["ended"] is not None:
            return True
        names = ("host", "boot", "pids", "pid", "start_time")
        return self._me.has_ended(PilotProcess(**{name: row[name] for name in names}))

    # -- writing -------------------------------------------------------------------------------------------------

    def step(self, key: int, step: str, details: dict[str, Any]) -> None:
        """Record a step of a job."""

        def write(connection: sqlite3.Connection) -> None:
            now = self._clock.wall()
            self._step(connection, key, step, details)
            if step == "state":
                connection.execute("UPDATE jobs SET phase=? WHERE id=?", (str(details["new"]), key))
            elif step == "report-ready":
                state = details["report"]["update"]["state"]
                connection.execute("UPDATE jobs SET result=? WHERE id=?", (state, key))
            elif step == "spooled":
                connection.execute("UPDATE jobs SET state='spooled' WHERE id=?", (key,))
            elif step == "outputs-kept":
                connection.execute("UPDATE jobs SET state='kept', kept=coalesce(kept, ?) WHERE id=?", (now, key))
            elif step == "closed":
                connection.execute("UPDATE jobs SET state='closed', ended=? WHERE id=?", (now, key))

        self._write(point_of(step, details), write)

    def close(self) -> None:
        """Leave: whatever is not closed is anybody's. May be called again."""
        if not self._id:
            return
        try:
            self._write(
                "pilot-ended",
                lambda connection: connection.execute(
                    "UPDATE pilots SET ended=? WHERE id=?", (self._clock.wall(), self._id)
                ),
            )
            if self._hook:
                self._hook(self._last, "effect")
        finally:
            self._id = 0
            self._database.close()

    def _answered(self, connection: sqlite3.Connection, ask: int, outcome: str) -> None:
        connection.execute("UPDATE asks SET ended=?, outcome=? WHERE id=?", (self._clock.wall(), outcome, ask))

    def _step(self, connection: sqlite3.Connection, key: int, step: str, details: dict[str, Any]) -> None:
        connection.execute(
            "INSERT INTO steps(job, pilot, at, step, details) VALUES(?, ?, ?, ?, ?)",
            (key, self._id, round(self._clock.wall(), 6), step, json.dumps(details, separators=(",", ":"))),
        )

    def _write(self, point: str, write: Callable[[sqlite3.Connection], Any]) -> None:
        """Do one write, which is a point."""
        hook = self._hook
        if hook:
            if self._last:
                hook(self._last, "effect")
            hook(point, "before")
        with self._database.writing(durable=point in DURABLE) as connection:
            write(connection)
        if hook:
            self._last = point
            hook(point, "after")


class JobJournal:
    """The steps of one job in its pilot's journal."""

    whole = True
    """A step is recorded or not at all."""

    def __init__(self, pilot: PilotJournal, key: int) -> None:
        self._pilot = pilot
        self._key = key

    def record(self, step: str, **details: Any) -> None:
        """Record one step with its details (plain JSON values); raises `OSError`."""
        self._pilot.step(self._key, step, details)

    def export(self, file: Path) -> None:
        """Have the steps so far in a file of JSON lines, in the place of an older one; raises `OSError`."""
        steps = self._pilot.record_of(self._key).steps
        text = "".join(json.dumps(step.to_json(), separators=(",", ":")) + "\n" for step in steps)
        file.unlink(missing_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)

    def close(self) -> None:
        """Do nothing: the pilot's journal stays open."""
