"""The journal's file: one SQLite database in the work directory, made, migrated, or set aside.

What cannot be a journal never stops a pilot: it is renamed, with its companions, and a new one is begun.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.journal.mounts import network_file_system

if TYPE_CHECKING:
    import sqlite3

__all__ = ["FILE", "VERSION", "Database"]

FILE = "pilot.sqlite"
"""The journal's name in the work directory; `-wal`, `-shm` and `-journal` may follow it."""
APPLICATION = 0x50436A31
"""SQLite's `application_id` of a journal: "PCj1"."""
PAGE = 1024
"""Bytes of a page: most of what is recorded is smaller, and whole pages are written."""
RESERVE = 256 * 1024
"""Bytes that a journal can still take when the disk has become full: those of some jobs."""
BUSY_MS = 30_000
"""Milliseconds for which another pilot's write is waited for."""

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE pilots(
        id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, host TEXT NOT NULL, boot TEXT NOT NULL, pids TEXT NOT NULL,
        pid INTEGER NOT NULL, start_time INTEGER NOT NULL, version TEXT NOT NULL, started REAL NOT NULL, ended REAL);
    CREATE TABLE jobs(
        id INTEGER PRIMARY KEY, panda_id INTEGER NOT NULL, attempt INTEGER, server TEXT NOT NULL, queue TEXT NOT NULL,
        state TEXT NOT NULL, phase TEXT NOT NULL, owner INTEGER NOT NULL REFERENCES pilots(id), job_dir TEXT NOT NULL,
        description TEXT NOT NULL, secret INTEGER NOT NULL, identity TEXT NOT NULL, taken REAL NOT NULL, ended REAL,
        result TEXT NOT NULL DEFAULT '', kept REAL);
    CREATE INDEX jobs_panda_id ON jobs(panda_id);
    CREATE TABLE steps(
        id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
        pilot INTEGER NOT NULL, at REAL NOT NULL, step TEXT NOT NULL, details TEXT NOT NULL);
    CREATE INDEX steps_job ON steps(job);
    """,
    """
    CREATE TABLE asks(
        id INTEGER PRIMARY KEY, pilot INTEGER NOT NULL REFERENCES pilots(id), server TEXT NOT NULL, queue TEXT NOT NULL,
        at REAL NOT NULL, ended REAL, outcome TEXT NOT NULL DEFAULT '');
    """,
)
"""What makes each version of the layout from the one before it."""
VERSION = len(MIGRATIONS)

_log = logging.getLogger("pilot_core.journal")


class Database:
    """The open file. Safe in several threads: what uses `lock` does one thing at a time.

    All errors of SQLite come out as `OSError`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._full: bool | None = None
        self.lock = threading.RLock()

    @classmethod
    def open(cls, work_dir: Path) -> Database:
        """Open the journal of a work directory, made if there is none; raises `OSError`.

        What is there and is no journal, is damaged, or is of a newer pilot, is set aside with a warning.
        """
        file = work_dir / FILE
        network = network_file_system(work_dir)
        with _alone(work_dir):
            if network and not file.exists():
                _log.warning("%s is on a file system over a network (%s): its journal takes longer", work_dir, network)
            why = _no_file(file)
            if not why:
                connection = _connect(file)
                why = _wrong_with(connection)
                if why:
                    connection.close()
            if why:
                _log.warning("%s cannot be used as a journal (%s); it is set aside as %s", file, why, _set_aside(file))
                connection = _connect(file)
            made = cls(connection)
            try:
                made._prepare("DELETE" if network else "WAL")
            except BaseException:
                made.close()
                raise
        return made

    @classmethod
    def look(cls, work_dir: Path) -> Database | None:
        """Open it for reading only; None if there is none. Raises `OSError` for what is no journal of this version."""
        file = work_dir / FILE
        if not file.exists():
            return None
        why = _no_file(file)
        if not why:
            made = cls(_connect(file))
            why = _wrong_with(made._connection)
            with made.errors():
                if not why and made._version() < VERSION:
                    why = f"its layout is {made._version()}, an older pilot's: run this one there once"
                made._connection.execute("PRAGMA query_only=ON")
            if not why:
                return made
            made.close()
        raise OSError(errno.EINVAL, why, str(file))

    def query(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows of a question."""
        with self.lock, self.errors():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def writing(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Write in one transaction; `durable`: it is on disk at the end."""
        with self.lock, self.errors():
            if self._full is not durable:
                self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._full = durable
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(Exception):  # it may be over by itself: on a full disk
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of SQLite into `OSError`."""
        import sqlite3  # noqa: PLC0415

        try:
            yield
        except sqlite3.Error as error:
            number = errno.ENOSPC if "full" in str(error) else errno.EIO
            raise OSError(number, f"{os.strerror(number)} ({error})") from error

    def close(self) -> None:
        """Close the file; may be called again."""
        with self.lock, suppress(OSError), self.errors():
            self._connection.close()

    def _prepare(self, mode: str) -> None:
        """Have the settings and the layout."""
        with self.errors():
            connection = self._connection
            version = self._version()
            if not version:
                connection.execute(f"PRAGMA page_size={PAGE}")
            connection.execute(f"PRAGMA journal_mode={mode}")
            if version < VERSION:
                steps = "".join(MIGRATIONS[version:])
                marks = f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION};"
                connection.executescript(f"BEGIN IMMEDIATE; {steps} {marks} COMMIT;")
                if version:
                    _log.info("the journal's layout %d was made %d", version, VERSION)
            if mode == "WAL":
                self._reserve()

    def _reserve(self) -> None:
        """Have the file, and the one of what was written last, so large that a disk may become full for a while."""
        connection = self._connection
        connection.execute(f"PRAGMA wal_autocheckpoint={RESERVE // PAGE * 3 // 4}")
        connection.execute("PRAGMA synchronous=NORMAL")
        with suppress(Exception):  # a disk that is full already
            connection.executescript(
                f"BEGIN IMMEDIATE; CREATE TABLE reserve(data BLOB); INSERT INTO reserve VALUES(zeroblob({RESERVE}));"
                "DROP TABLE reserve; COMMIT;"
            )
            connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def _version(self) -> int:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        return version


def _connect(file: Path) -> sqlite3.Connection:
    import sqlite3  # noqa: PLC0415  (7 ms, which commands that use no journal need not spend)

    try:
        # made with the right permissions before SQLite makes it with others
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        connection.execute("PRAGMA foreign_keys=ON")
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"{os.strerror(errno.EIO)} ({error})", str(file)) from error
    return connection


def _no_file(file: Path) -> str:
    """Say why something in the journal's place cannot be one; an empty text if it may, or is not there."""
    return "" if not os.path.lexists(file) or (file.is_file() and not file.is_symlink()) else "it is no plain file"


def _wrong_with(connection: sqlite3.Connection) -> str:
    """Say why a database cannot be used; an empty text if it can, or is new."""
    import sqlite3  # noqa: PLC0415

    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION and (application or version or tables):
            return "it is something else's database"
        if version > VERSION:
            return f"its layout is {version}, a newer pilot's; this one knows {VERSION}"
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        return ""  # not what is in it, but reaching it: whoever works with it is told
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if verdict == "ok" else f"it is damaged: {verdict}"


def _set_aside(file: Path) -> str:
    """Rename a file and its companions; return its new name."""
    number = 1
    while os.path.lexists(file.with_name(f"{file.name}.aside-{number}")):
        number += 1
    name = f"{file.name}.aside-{number}"
    for tail in ("-wal", "-shm", "-journal", ""):
        with suppress(FileNotFoundError):
            file.with_name(file.name + tail).rename(file.with_name(name + tail))
    return name


@contextmanager
def _alone(work_dir: Path) -> Iterator[None]:
    """Let no other pilot look at the file, or set it aside, at the same time."""
    descriptor = os.open(work_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
