"""Updates of pilots, and the Adder that decides jobs whose pilots are done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot_core.api.server import StoreUnavailable, UpdateOutcome
from pilot_devserver.store_adder import DDM_ADDER, Reported, judge
from pilot_devserver.store_columns import check_text, stored
from pilot_devserver.store_jobs import flags, is_debug
from pilot_devserver.store_jobs_table import JobsTable
from pilot_devserver.store_records import spec_of
from pilot_devserver.store_rules import ALREADY_DONE, FINAL, TO_BE_KILLED, Decision, Held, decide

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Updates"]

_LOG_SIZE = 4000
_STDOUT_SIZE = 2048


class Updates(JobsTable):
    """What pilots write, and what follows from it."""

    _adder_delay: float | None = 1.0

    def update(self, job_id: int, state: str, *, attempt: int | None, values: Mapping[str, Any]) -> UpdateOutcome:
        """Apply a pilot's update by the rules of PanDA's database; see `store_rules`."""
        with self._transaction() as connection:
            self._due()
            row = self._row(connection, job_id)
            if row is None or row["archived"] or (attempt is not None and attempt != row["attempt"]):
                return UpdateOutcome(command=TO_BE_KILLED)
            kept: dict[str, Any] = json.loads(row["fields"])
            decision = decide(_held(row, kept), state, values.get("batch_id") or None)
            if decision.status is not None:
                self._apply(connection, row, decision, state, kept | stored(values))
            connection.execute("INSERT INTO heartbeats VALUES (?, ?)", (job_id, self._now))
            if state in FINAL and decision.reply != ALREADY_DONE:
                report = str(values.get("job_output_report") or "")
                self._keep_report(connection, job_id, 0 if attempt is None else attempt, state, report)
            self._changed(job_id, None)
            secrets = self._pilot_secrets(connection) if "debug" in decision.reply else None
        return UpdateOutcome(command=decision.reply, pilot_secrets=secrets)

    def _apply(
        self, connection: sqlite3.Connection, row: sqlite3.Row, decision: Decision, state: str, fields: dict[str, Any]
    ) -> None:
        status, old = str(decision.status), row["status"]
        diag = f"set to {state} by the pilot" if state in ("holding", "transferring") else row["diag"]
        started, ended = row["started"], row["ended"]
        if old in ("sent", "starting") and status == "running":
            started = self._now
        if status == "holding" or (status == "transferring" and old == "running"):
            ended = ended or self._now
        moved = state in FINAL or status != old
        connection.execute(
            "UPDATE jobs SET status = ?, diag = ?, fields = ?, node = ?, started = ?, ended = ?, modified = ?,"
            " changed = ? WHERE id = ?",
            (
                status,
                None if state in FINAL else diag,
                json.dumps(fields),
                fields.get("node", row["node"]),
                started,
                ended,
                self._now,
                self._now if moved else row["changed"],
                row["id"],
            ),
        )
        if status != old:
            self._changed(row["id"], status)

    def _keep_report(self, connection: sqlite3.Connection, job_id: int, attempt: int, state: str, report: str) -> None:
        """Hand the report to the Adder. The first one counts; one that the database cannot hold is lost silently."""
        try:
            check_text("job_output_report", report)
        except StoreUnavailable:
            return
        connection.execute(
            "INSERT OR IGNORE INTO reports VALUES (?, ?, ?, ?, ?)", (job_id, attempt, state, report, self._now)
        )
        connection.execute("UPDATE jobs SET reported = ?, report = ? WHERE id = ?", (state, report, job_id))

    def _pilot_secrets(self, connection: sqlite3.Connection) -> str:
        found = connection.execute("SELECT data FROM secrets WHERE owner = ''").fetchone()
        return str(found[0]) if found else "{}"

    def add_metadata(self, job_id: int, text: str, *, state: str = "") -> bool:
        """Keep a job's first metadata; False for an unknown job or text that the database cannot hold."""
        if state == "failed":
            return True
        with self._transaction() as connection:
            self._due()
            row = self._row(connection, job_id)
            if row is None:
                return False
            if row["archived"] or row["metadata"] is not None:
                return True
            try:
                check_text("meta_data", text)
            except StoreUnavailable:
                return False
            connection.execute("UPDATE jobs SET metadata = ? WHERE id = ?", (text, job_id))
        return True

    def add_log(self, job_id: int, text: str) -> None:
        """Keep an excerpt of the pilot's log; text that the database cannot hold is lost."""
        self._set_text("log", job_id, text[:_LOG_SIZE])

    def add_stdout(self, job_id: int, text: str) -> None:
        """Keep the tail of the payload's stdout; text that the column cannot hold is lost."""
        if len(text) <= _STDOUT_SIZE:
            self._set_text("stdout", job_id, text)

    def _set_text(self, column: str, job_id: int, text: str) -> None:
        try:
            check_text(column, text)
        except StoreUnavailable:
            return
        with self._transaction() as connection:
            self._due()
            connection.execute(
                f"UPDATE jobs SET {column} = ? WHERE id = ? AND archived = 0",  # noqa: S608
                (text, job_id),
            )

    def settle(self) -> list[int]:
        """Run the Adder now, whatever its delay; return the ids of the jobs that it decided."""
        with self._transaction() as connection:
            return self._add(connection, self._now)

    def next_settlement(self) -> float | None:
        """Return the wall time at which the Adder next has something to do, or None: call `get` or `jobs` then."""
        with self._transaction() as connection:
            first = connection.execute("SELECT min(time) FROM reports").fetchone()[0]
            held = self.adder_held
        return None if first is None or held or self._adder_delay is None else float(first) + self._adder_delay

    def _due(self) -> None:
        if self._adder_delay is not None and not self.adder_held:
            self._add(self._connection, self._now - self._adder_delay)

    def _add(self, connection: sqlite3.Connection, until: float) -> list[int]:
        reports = connection.execute("SELECT * FROM reports WHERE time <= ? ORDER BY time, job", (until,)).fetchall()
        decided = []
        for report in reports:
            row = self._row(connection, report["job"])
            # a report without the attempt's number is thrown away, and the job stays in holding: so does PanDA
            if row is not None and not row["archived"] and row["attempt"] == report["attempt"]:
                self._decide(connection, row, report["state"], report["data"])
                decided.append(int(report["job"]))
            connection.execute("DELETE FROM reports WHERE job = ? AND attempt = ?", (report["job"], report["attempt"]))
        return decided

    def _decide(self, connection: sqlite3.Connection, row: sqlite3.Row, state: str, report: str) -> None:
        fields: Mapping[str, Any] = json.loads(row["fields"])
        codes = (fields.get("pilot_error_code", 0), fields.get("trans_exit_code", "0"))
        verdict = judge(
            Reported(
                state=state,
                report=report,
                files=spec_of(row).files,
                label=row["label"],
                has_error=any(str(code) not in ("0", "NULL") for code in codes),
                killed=row["command"] == TO_BE_KILLED,
                merges_on_site="om" in flags(row["special"]),
            )
        )
        errors: dict[str, Any] = json.loads(row["errors"])
        if verdict.ddm_error:
            errors |= {"ddmErrorCode": DDM_ADDER, "ddmErrorDiag": verdict.ddm_error}
        connection.execute(
            "UPDATE jobs SET archived = 1, status = ?, reported = ?, report = ?, errors = ?, files = ?, diag = NULL,"
            " modified = ?, changed = ? WHERE id = ?",
            (
                verdict.status,
                state,
                report,
                json.dumps(errors),
                json.dumps(verdict.files),
                self._now,
                self._now,
                row["id"],
            ),
        )
        self._changed(row["id"], verdict.status)


def _held(row: sqlite3.Row, fields: Mapping[str, Any]) -> Held:
    return Held(
        status=row["status"],
        command=row["command"],
        debug=is_debug(row["special"]),
        diag=row["diag"],
        batch_id=fields.get("batch_id"),
    )
