"""A correct catalogue: a database file with the replicas of each file."""

from __future__ import annotations

import contextlib
import copy
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from pilot_core import CommunicationError, Provider, Replica, RequestRefused, hookimpl, setting

SCHEMA = """
create table if not exists replicas (scope, lfn, position, url, rse, primary key (scope, lfn, position));
create table if not exists files (scope, lfn, guid, size, checksum, primary key (scope, lfn));
create table if not exists storages (rse primary key, url);
"""
AT_ONCE = 200
"""Files of one question to the database."""


@dataclass(frozen=True)
class DatabaseSettings:
    file: Path = setting(help="database file of the catalogue")


class Database:
    """Opens the database for each call."""

    def __init__(self, settings, context):
        self.file = settings.file
        self.log = context.log
        self.site = ""

    def replicas(self, files, *, cancel, deadline):
        found = {file.lfn: () for file in files}
        with self.connected(cancel, deadline) as connection:
            for start in range(0, len(files), AT_ONCE):
                cancel.raise_if_cancelled()
                for file in files[start : start + AT_ONCE]:
                    with contextlib.suppress(UnicodeEncodeError):  # no such name can be in it
                        found[file.lfn] = self.replicas_of(connection, file)
        return found

    def replicas_of(self, connection, file):
        rows = connection.execute(
            "select url, rse, position from replicas where scope = ? and lfn = ? order by position",
            (file.scope, file.lfn),
        )
        return tuple(Replica(url=url, rse=rse, order=position) for url, rse, position in rows)

    def register(self, job, files, *, cancel, deadline):
        scopes = {output.lfn: output.scope for output in job.files_out}
        for file in files:
            if file.lfn not in scopes:
                raise RequestRefused(f"{self.file}: {file.lfn!r} is no output of job {job.id}")
        if not files:
            return
        with self.connected(cancel, deadline) as connection:
            connection.execute("begin immediate")
            for file in files:
                self.enter(connection, scopes[file.lfn], file)
            connection.execute("commit")

    def enter(self, connection, scope, file):
        known = connection.execute(
            "select size, checksum from files where scope = ? and lfn = ?", (scope, file.lfn)
        ).fetchone()
        if known is None:
            row = (scope, file.lfn, file.guid, file.size, file.checksum)
            connection.execute("insert into files values (?, ?, ?, ?, ?)", row)
        elif known != (file.size, file.checksum):
            raise RequestRefused(f"{self.file}: {scope}:{file.lfn} is known with another size or checksum")
        here = (scope, file.lfn)
        if file.surl not in [
            row[0] for row in connection.execute("select url from replicas where scope=? and lfn=?", here)
        ]:
            last = connection.execute("select count(*) from replicas where scope = ? and lfn = ?", here).fetchone()[0]
            connection.execute("insert into replicas values (?, ?, ?, ?, ?)", (*here, last, file.surl, file.rse))

    def seen_from(self, queue):
        seen = copy.copy(self)
        seen.site = queue.site
        return seen

    def destinations(self, rse, files, *, cancel, deadline):
        if not files:
            return {}
        with self.connected(cancel, deadline) as connection:
            row = connection.execute("select url from storages where rse = ?", (rse,)).fetchone()
        if row is None:
            raise RequestRefused(f"{self.file}: there is no storage {rse}")
        return {file.lfn: [self.place(rse, row[0], file)] for file in files}

    def place(self, rse, prefix, file):
        return Replica(url=f"{prefix}/{file.scope}/{file.lfn}", rse=rse, domain="lan" if self.site else "")

    def attempted(self, job, attempt):
        self.log.info("job %d: %s %s", job.id, attempt.lfn, attempt.outcome)

    def settle(self, *, cancel, deadline):
        pass

    @contextlib.contextmanager
    def connected(self, cancel, deadline):
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(f"catalogue {self.file}")
        try:
            with contextlib.closing(
                sqlite3.connect(self.file, timeout=min(1.0, deadline.remaining()), isolation_level=None)
            ) as connection:
                connection.executescript(SCHEMA)
                yield connection
        except sqlite3.Error as error:
            raise CommunicationError(f"{self.file}: the catalogue does not answer: {error}; try again later") from None


class Plugin:
    """The plugin, as an object; faulty ones have another catalogue."""

    def __init__(self, catalog=Database):
        self.catalog = catalog

    @hookimpl
    def pilot_catalogs(self):
        yield Provider(name="database", factory=self.catalog, settings=DatabaseSettings)
