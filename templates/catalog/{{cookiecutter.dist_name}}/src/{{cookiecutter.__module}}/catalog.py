"""What the catalogue is asked, and what it is told.

A file is known by scope and LFN, compared exactly. Outputs are registered all or none, and again without harm: the
pilot repeats a call whose answer was lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from pilot_core import CommunicationError, Replica, RequestRefused

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, FileReport, InputFile, Job

    from {{ cookiecutter.__module }}.settings import Settings

T = TypeVar("T")
PATIENCE = 0.5
"""Seconds to wait for somebody else's lock before looking whether the pilot still wants an answer."""


class {{ cookiecutter.__class }}:
    """The catalogue's client. Each call has a connection of its own, so any number of threads may use it."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._place = settings.database
        self._log = context.log

    def replicas(
        self, files: Sequence[InputFile], *, cancel: CancelToken, deadline: Deadline
    ) -> Mapping[str, Sequence[Replica]]:
        """Return the replicas of each file that is known, by LFN, the best one first."""
        # YOUR CODE: ask your catalogue, for all files in one request if it can
        return self._ask(lambda database: {file.lfn: _replicas(database, file) for file in files}, cancel, deadline)

    def register(self, job: Job, files: Sequence[FileReport], *, cancel: CancelToken, deadline: Deadline) -> None:
        """Make stored outputs known; raises `RequestRefused` for one that contradicts what is known."""
        scopes = {file.lfn: file.scope for file in job.files_out}
        for report in files:
            if report.lfn not in scopes:
                raise RequestRefused(f"{report.lfn!r} is no output of job {job.id}: its scope is not known")

        def enter(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            for report in files:
                _enter(database, scopes[report.lfn], report)
            database.execute("COMMIT")

        # YOUR CODE: tell your catalogue
        self._ask(enter, cancel, deadline)

    def _ask(self, work: Callable[[sqlite3.Connection], T], cancel: CancelToken, deadline: Deadline) -> T:
        """Return what `work` makes of a connection; raises `CommunicationError` if the database does not answer."""
        while True:
            cancel.raise_if_cancelled()
            deadline.raise_if_passed(str(self._place))
            try:
                # mode=rw: a database that is not there is an error, not a new and empty one
                uri = f"{self._place.absolute().as_uri()}?mode=rw"
                with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)) as database:
                    return work(database)
            except sqlite3.DatabaseError as error:
                if "locked" not in str(error):
                    raise CommunicationError(f"{self._place}: {error}; is it the catalogue's database?") from error


def _replicas(database: sqlite3.Connection, file: InputFile) -> list[Replica]:
    """Return one file's replicas."""
    try:
        rows = database.execute(
            "SELECT url, rse FROM replicas WHERE scope = ? AND lfn = ? ORDER BY place", (file.scope, file.lfn)
        ).fetchall()
    except UnicodeEncodeError:  # no catalogue can have such a name
        return []
    return [Replica(url=url, rse=rse, order=order) for order, (url, rse) in enumerate(rows)]


def _enter(database: sqlite3.Connection, scope: str, report: FileReport) -> None:
    """Enter one file, unless it is known just so; leaving the connection undoes all of a call that was refused."""
    key = (scope, report.lfn)
    database.execute(
        "INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?)", (*key, report.guid, report.size, report.checksum)
    )
    known = database.execute("SELECT size, checksum FROM files WHERE scope = ? AND lfn = ?", key).fetchone()
    if known != (report.size, report.checksum):
        raise RequestRefused(f"{scope}:{report.lfn} is known with {known[0]} bytes and {known[1]}, and is kept so")
    database.execute("INSERT OR IGNORE INTO replicas VALUES (?, ?, 0, ?, ?)", (*key, report.surl, report.rse))
