"""What users and operators do to jobs, and the watchers that end jobs without a pilot."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pilot_devserver.store_columns import check_text
from pilot_devserver.store_jobs import user_name
from pilot_devserver.store_rules import TO_BE_KILLED
from pilot_devserver.store_updates import Updates

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

__all__ = ["Control"]

_COMMAND_SIZE = 250
_EC_KILL = 100
"""`taskBufferErrorCode` of a killed job (panda-server, `taskbuffer/ErrorCode.py`)."""
_FORCED_FOR_USERS = frozenset({2, 4, 7, 8, 9, 10, 50, 51, 52, 91, 99})
"""Kill codes with which a production role may kill a user's job."""
_FORCED = frozenset({2, 9, 10, 51, 52, 60, 99})
"""Kill codes for which it does not matter that the job is being killed already."""
_DEBUGGABLE = ["defined", "activated", "running", "sent", "starting", "assigned"]

_HOUR = 3600.0
_SENT_LIMIT = 0.5 * _HOUR
_HEARTBEAT_LIMIT = 2 * _HOUR
_HOLDING_LIMIT = 48 * _HOUR
_HOLDING_LIMIT_SOON = 3 * _HOUR
"""For users' jobs, and for production jobs with a priority above 800."""
_EC_WATCHER, _EC_RECOVERY, _EC_SEND, _EC_HOLDING, _EC_TRANSFERRING = 100, 101, 102, 103, 104
"""`jobDispatcherErrorCode` (panda-server, `jobdispatcher/ErrorCode.py`)."""


class Control(Updates):
    """Killing, commands, debug mode, watchers; by the rules of panda-server 1.0.4."""

    def kill(self, job_id: int, *, user: str = "", production: bool = True, code: int | None = None) -> bool:
        """Have a job killed: `cancelled` at once unless it is running; then it is told `tobekilled`."""
        with self._transaction() as connection:
            self._due()
            row = self._row(connection, job_id)
            if row is None or row["archived"] or not _may_kill(row, user, production, code):
                return False
            if row["command"] == TO_BE_KILLED and code not in _FORCED:
                return False
            connection.execute("UPDATE jobs SET command = ? WHERE id = ?", (TO_BE_KILLED, job_id))
            forced = (production and code == 99) or (row["label"] in ("managed", "test") and code in (9, 52))
            if row["status"] != "running" or forced:
                errors = {"taskBufferErrorCode": _EC_KILL, "taskBufferErrorDiag": f"killed by {user}"[:300]}
                self._archive(connection, row, "cancelled", errors)
            else:
                self._changed(job_id, None)
        return True

    def set_command(self, job_id: int, command: str) -> tuple[bool, str]:
        """Set the command that the next updates are answered with."""
        if len(command) > _COMMAND_SIZE:
            return False, f"command string too long. must be less than {_COMMAND_SIZE} chars"
        check_text("command", command)
        with self._transaction() as connection:
            self._due()
            row = self._row(connection, job_id)
            if row is None or row["archived"]:
                return False, f"no active job with PandaID={job_id}"
            if row["command"] == TO_BE_KILLED:
                return False, "job is being killed"
            connection.execute("UPDATE jobs SET command = ? WHERE id = ?", (command, job_id))
            self._changed(job_id, None)
        return True, "command received"

    def set_debug(self, job_id: int, debug: bool) -> str:
        """Switch a job's debug mode; switching it on makes PanDA forget the job's other special handling."""
        with self._transaction() as connection:
            self._due()
            row = self._row(connection, job_id)
            if row is None or row["archived"]:
                return f"PandaID={job_id} not found in active DB"
            if row["status"] not in _DEBUGGABLE:
                return (
                    f"Cannot set debugMode since the job status is {row['status']} which is not in one of {_DEBUGGABLE}"
                )
            special = str(row["special"])
            if debug == ("debug" in special):
                return "Already set accordingly"
            special = "debug" if debug else re.sub("^,|,$", "", special.replace("debug", "").replace(",,", ","))
            connection.execute("UPDATE jobs SET special = ? WHERE id = ?", (special, job_id))
            self._changed(job_id, None)
        return "Succeeded"

    def watch(self) -> list[int]:
        """Fail the jobs whose pilots have not been heard of for too long; return their ids.

        PanDA's server does so every now and then (`daemons/scripts/copyArchive.py`): after 30 minutes in `sent`,
        2 hours in `starting` or `running`, 3 or 48 hours in `holding`.
        """
        with self._transaction() as connection:
            self._due()
            rows = connection.execute("SELECT * FROM jobs WHERE archived = 0 AND status <> 'activated'").fetchall()
            waiting = {row[0] for row in connection.execute("SELECT job FROM reports").fetchall()}
            lost = [row for row in rows if self._is_lost(row) and row["id"] not in waiting]
            for row in lost:
                code, diag = _lost_error(row)
                errors = {"jobDispatcherErrorCode": code, "jobDispatcherErrorDiag": diag} if code else {}
                self._archive(connection, row, "failed", errors)
        return [int(row["id"]) for row in lost]

    def _is_lost(self, row: sqlite3.Row) -> bool:
        silent = self._now - float(row["modified"])
        if row["status"] == "sent":
            return silent > _SENT_LIMIT
        if row["status"] in ("starting", "running"):
            return silent > _HEARTBEAT_LIMIT
        return silent > (_HOLDING_LIMIT_SOON if _is_urgent(row) else _HOLDING_LIMIT)

    def _archive(self, connection: sqlite3.Connection, row: sqlite3.Row, status: str, errors: dict[str, Any]) -> None:
        names = [file["lfn"] for file in json.loads(row["spec"])["files"] if file["kind"] != "input"]
        connection.execute(
            "UPDATE jobs SET archived = 1, status = ?, errors = ?, files = ?, modified = ?, changed = ?,"
            " ended = coalesce(ended, ?) WHERE id = ?",
            (
                status,
                json.dumps(json.loads(row["errors"]) | errors),
                json.dumps(dict.fromkeys(names, "failed")),
                self._now,
                self._now,
                row["modified"] if status == "failed" else self._now,
                row["id"],
            ),
        )
        connection.execute("DELETE FROM reports WHERE job = ?", (row["id"],))
        self._changed(row["id"], status)


def _may_kill(row: sqlite3.Row, user: str, production: bool, code: int | None) -> bool:
    if production:
        return row["label"] not in ("user", "panda") or code in _FORCED_FOR_USERS
    return bool(row["user"] == user_name(user))


def _lost_error(row: sqlite3.Row) -> tuple[int, str]:
    """Return `jobDispatcherErrorCode` and `jobDispatcherErrorDiag` of a job that is given up."""
    if row["status"] == "sent":
        return _EC_SEND, "Sent job didn't receive reply from pilot within 30 min"
    fields: Mapping[str, Any] = json.loads(row["fields"])
    if fields.get("exe_error_diag") or fields.get("pilot_error_diag"):
        return _EC_RECOVERY, f"job recovery failed for {_silence(row)} hours"
    if row["diag"]:
        return 0, ""
    if row["ended"] is None:
        return _EC_WATCHER, f"lost heartbeat : {_timestamp(row['modified'])}"
    code = _EC_HOLDING if row["status"] == "holding" else _EC_TRANSFERRING
    return code, f"timeout in {row['status']} : last heartbeat at {_timestamp(row['ended'])}"


def _silence(row: sqlite3.Row) -> float:
    if row["status"] in ("starting", "running"):
        return _HEARTBEAT_LIMIT / _HOUR
    return (_HOLDING_LIMIT_SOON if _is_urgent(row) else _HOLDING_LIMIT) / _HOUR


def _is_urgent(row: sqlite3.Row) -> bool:
    """Say whether three hours in `holding` are too long for a job."""
    return row["label"] in ("user", "panda") or row["priority"] > 800


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
