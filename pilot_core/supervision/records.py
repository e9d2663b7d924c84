"""The records of one payload in its control directory, written by its supervisor and read by any pilot.

- `claim`: made, exclusively, before anything else. Whoever makes it decides: a supervisor that finds it there, or the
  record of a start, starts nothing. So a payload is started from a control directory at most once, and a later pilot
  that makes the claim itself can be sure that none will be. It is also the disk space for the last record and is
  renamed to that in the end: payloads fill disks, and how they ended has to be told even then.
- `started.json`: written before the payload's first instruction.
- `ended.json`: written when the payload's own process has ended; if others of its processes still live then, a second
  time when all are gone. `complete` tells the two apart.

A record is written under another name and renamed, so it is there whole or not at all, whatever process is killed and
when. Nothing is flushed to disk: only a crash of the machine could lose it then, which ends the payload as well; a
handle from before a reboot is refused, so nobody would read the record; and the pilot's own journal has on disk that
the payload was about to start, and then how it ended. (Each flush took 5 ms on ext4, as long as all the rest of running
`/bin/true`.)
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilot_core.api.executor import PayloadResult
from pilot_core.errors import ExecutorError
from pilot_core.supervision.procfs import ProcessId

__all__ = [
    "CLAIM",
    "ENDED",
    "STARTED",
    "TRACEBACK",
    "ControlDirectory",
    "Ended",
    "Started",
    "read_ended",
    "read_started",
]

VERSION = 1
"""Of the records' layout."""
CLAIM, STARTED, ENDED, TRACEBACK = "claim", "started.json", "ended.json", "supervisor-error.txt"
_NEW = ".new"
NOBODY = b"no payload is started from here any more\n"
"""What is in a claim that a pilot made itself."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A payload that was started."""

    job_id: int
    payload: ProcessId
    supervisor: ProcessId
    boot_id: str
    wall: float
    """Wall time, seconds since 1970."""
    version: int = VERSION

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        return json.dumps(vars(self)).encode()


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A payload that has ended; the fields are those of `PayloadResult`."""

    complete: bool
    """Whether all processes of the payload have ended; else numbers are still to grow."""
    exit_code: int | None
    signal: int | None
    started: float
    ended: float
    user_seconds: float
    system_seconds: float
    max_rss_kb: int
    read_blocks: int
    written_blocks: int
    leftovers: int
    error: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        return json.dumps(vars(self)).encode()

    def result(self) -> PayloadResult:
        """Return what the pilot is told."""
        return PayloadResult(
            **{name: value for name, value in vars(self).items() if name not in {"complete", "version"}}
        )


class ControlDirectory:
    """A payload's control directory, open for writing records. A descriptor, so renaming it does no harm."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._claim = -1

    def claim(self) -> None:
        """Take the directory for one payload; raises `FileExistsError` if it was taken before."""
        self._claim = self._create(CLAIM)
        with suppress(FileNotFoundError):
            os.stat(STARTED, dir_fd=self._descriptor)
            os.unlink(CLAIM, dir_fd=self._descriptor)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), STARTED)
        try:
            os.posix_fallocate(self._claim, 0, 4096)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:  # a file system that cannot reserve
                raise

    def claim_for_nobody(self) -> bool:
        """Take the directory so that no payload is ever started from it; False if it was taken for one before.

        Killed at any instant, it leaves the directory as it was, or so taken.
        """
        with suppress(FileNotFoundError):
            os.stat(STARTED, dir_fd=self._descriptor)
            return False
        with suppress(FileNotFoundError):
            return (self._path / CLAIM).read_bytes() == NOBODY
        name = f"{_NEW}.{os.getpid()}"
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)
        descriptor = self._create(name)
        try:
            os.write(descriptor, NOBODY)
        finally:
            os.close(descriptor)
        try:
            os.link(name, CLAIM, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except FileExistsError:
            return False
        finally:
            os.unlink(name, dir_fd=self._descriptor)
        return True

    def close(self) -> None:
        """Close the directory."""
        os.close(self._descriptor)

    def write_started(self, record: Started) -> None:
        """Write the record of the start; raises `OSError`."""
        self._write(self._create(_NEW), _NEW, STARTED, record)

    def write_ended(self, record: Ended) -> None:
        """Write the record of the end; the complete one, which is the last, where there is space for it."""
        if record.complete:
            self._write(self._claim, CLAIM, ENDED, record)
            return
        try:
            self._write(self._create(_NEW), _NEW, ENDED, record)
        except OSError:
            # a full disk; the complete record says all that this one would have
            with suppress(FileNotFoundError):
                os.unlink(_NEW, dir_fd=self._descriptor)

    def write_traceback(self, text: str) -> None:
        """Keep what went wrong in the supervisor itself."""
        descriptor = self._create(TRACEBACK)
        os.write(descriptor, text.encode("utf-8", "backslashreplace"))
        os.close(descriptor)

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._descriptor)

    def _write(self, descriptor: int, temporary: str, name: str, record: Started | Ended) -> None:
        """Fill a file and give it its name."""
        try:
            # blanks are good JSON: a record in reserved space overwrites all of it
            text = record.to_bytes().ljust(os.fstat(descriptor).st_size)
            if os.write(descriptor, text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        finally:
            os.close(descriptor)
        os.rename(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)


def read_started(directory: Path) -> Started | None:
    """Return the record of a payload's start, or None if there is none; raises `ExecutorError` if it makes no sense."""
    values = _read(directory / STARTED)
    if values is None:
        return None
    try:
        ids = {name: ProcessId(*values[name]) for name in ("payload", "supervisor")}
        return Started(**{**values, **ids})
    except (TypeError, KeyError) as error:
        raise _unreadable(directory / STARTED, error) from None


def read_ended(directory: Path) -> Ended | None:
    """Return the record of a payload's end, or None if there is none; raises `ExecutorError` if it makes no sense."""
    values = _read(directory / ENDED)
    if values is None:
        return None
    try:
        return Ended(**values)
    except TypeError as error:
        raise _unreadable(directory / ENDED, error) from None


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record's values, its version checked, or None if it is not there."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise ExecutorError(f"{path}: not a record of layout {VERSION}, the one this pilot knows; look at it by hand")
    return values


def _unreadable(path: Path, error: Exception) -> ExecutorError:
    return ExecutorError(f"{path}: this record of a payload cannot be read: {error}")
