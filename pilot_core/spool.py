"""Final reports that could not be delivered: kept as files, and delivered by any later pilot of the work directory."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.cleanup import remove_tree
from pilot_core.errors import AuthError, CommunicationError, HandledError, RequestRefused
from pilot_core.logs import job_logger
from pilot_core.reporting import FinalReport

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Communicator, JobUpdate, ServerAnswer
    from pilot_core.journal.store import PilotJournal

__all__ = ["SPOOL", "Flushed", "Spool", "takes_no_more"]

SPOOL = "spool"
"""Folder of the work directory in which reports are kept that could not be delivered."""
CONFIRM_LIMIT = 60.0
"""Seconds for asking what the server believes of a job."""
GIVEN_UP = frozenset({"activated", "sent", "starting", "running", "assigned", "defined", "throttled", "unknown"})
"""States of PanDA in which a job's end has not come to the server, or nobody knows."""

_log = logging.getLogger("pilot_core.spool")


@dataclass
class Flushed:
    """What became of a spool."""

    delivered: int = 0
    left: int = 0

    def add(self, delivered: int, left: int) -> None:
        """Add further ones."""
        self.delivered += delivered
        self.left += left


class Spool:
    """The reports of one work directory that wait."""

    def __init__(self, work_dir: Path, journal: PilotJournal, server: str, *, keep: bool = False) -> None:
        """`keep`: the directories of jobs stay."""
        self._keep = keep
        self._folder = work_dir / SPOOL
        self._journal = journal
        self._server = server

    def files(self) -> list[Path]:
        """Return what is there, the oldest first."""
        with suppress(OSError):
            found = [path for path in self._folder.iterdir() if path.suffix == ".json" and path.name[:1] != "."]
            return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))
        return []

    def flush(self, communicator: Communicator, clock: Clock, *, budget: float, cancel: CancelToken) -> Flushed:
        """Send what is there, each for at most `budget` seconds; ends with the first that finds no server.

        What another pilot is sending just now is left to it. Raises `Cancelled`.
        """
        done = Flushed()
        files = self.files()
        for number, file in enumerate(files):
            cancel.raise_if_cancelled()
            with _held(file) as mine:
                if not mine:
                    continue
                try:
                    delivered = self._deliver(file, communicator, clock, budget, cancel)
                except HandledError as error:
                    cancel.raise_if_cancelled()
                    _log.warning("%s stays: %s", file, error)
                    if isinstance(error, (CommunicationError, AuthError)) and not isinstance(error, RequestRefused):
                        done.left += len(files) - number
                        break
                    delivered = False
            done.delivered += delivered
            done.left += not delivered
        with suppress(OSError):  # others are in it, or it is not there
            self._folder.rmdir()
        return done

    def remove(self, job_id: int, attempt: int | None) -> None:
        """Take out the report of a job, which was delivered in another way."""
        with suppress(OSError):
            (self._folder / f"{job_id}-{attempt or 0}.json").unlink(missing_ok=True)
            self._folder.rmdir()

    def _deliver(
        self, file: Path, communicator: Communicator, clock: Clock, budget: float, cancel: CancelToken
    ) -> bool:
        """Deliver one report; says whether the server has it. Raises `HandledError`."""
        try:
            report = FinalReport.from_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            _log.error("%s is no report that this pilot can read (%s); look at it, and remove it", file, error)
            return False
        update = report.update
        log = job_logger(update.job_id, "spool")
        record = self._journal.spooled(update.job_id, update.attempt)
        if record is not None and record.server != self._server:
            log.warning("%s is for the server %s, and stays", file, record.server)
            return False
        answer = report.send(communicator, clock, budget=budget, cancel=cancel)
        if not takes_no_more(answer, update, communicator, clock, cancel):
            log.warning("%s stays: the server wants the job killed, and has no end of it yet", file)
            return False
        log.info("the final report of job %d (%s) was delivered from the spool", update.job_id, update.state)
        if record is not None:
            journal = self._journal.journal_of(record)
            journal.record("report-acknowledged", commands=list(answer.commands))
        file.unlink(missing_ok=True)
        if record is not None:
            if not self._keep:  # its pilot may have been killed before it did that
                remove_tree(record.job_dir)
            journal.record("closed")
        return True


def takes_no_more(
    answer: ServerAnswer, update: JobUpdate, communicator: Communicator, clock: Clock, cancel: CancelToken
) -> bool:
    """Say whether the server surely has a final report that was sent again, and answered.

    `tobekilled` alone does not say so: it is confirmed by what the server believes of the job. Raises `HandledError`.
    """
    if not answer.kill or answer.already_done:
        return True
    deadline = Deadline.after(clock, CONFIRM_LIMIT)
    found = communicator.job_status([update.job_id], cancel=cancel, deadline=deadline)
    return all(status.status not in GIVEN_UP for status in found if status.job_id == update.job_id)


@contextmanager
def _held(file: Path) -> Iterator[bool]:
    """Hold a file for one process; False if another has it, or it has gone."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:  # a file system without locks: twice sent is harmless
            yield True
        else:
            yield os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)
