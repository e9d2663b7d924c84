"""A payload as the pilot sees it: a descriptor to wait for, an end to ask for, a result to read."""

from __future__ import annotations

import logging
import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event
from pilot_core.errors import ExecutorError
from pilot_core.supervision.linux import require_linux
from pilot_core.supervision.procfs import ProcessId, process_id
from pilot_core.supervision.records import TRACEBACK, read_ended, read_started

if TYPE_CHECKING:
    from pilot_core.api.executor import PayloadResult

__all__ = ["SupervisedPayload"]

log = logging.getLogger(__name__)


class SupervisedPayload:
    """Implements `pilot_core.api.executor.Payload` over a supervisor's pid and its records.

    The supervisor may have ended already, or be one that another pilot started. Raises `ExecutorError`.
    """

    def __init__(self, directory: Path, supervisor: ProcessId) -> None:
        require_linux()
        self._directory = directory
        self._supervisor = supervisor
        self._pidfd = _open(supervisor)
        self._gone = Event()
        if self._pidfd is None:
            self._gone.set()

    @property
    def process(self) -> ProcessId:
        """The supervisor, below which all of the payload's processes live."""
        return self._supervisor

    def fileno(self) -> int:
        """Return a descriptor that is readable once the payload and all its processes have ended."""
        return self._gone.fileno() if self._pidfd is None else self._pidfd

    def end(self, reason: str) -> None:
        """Ask for the payload's end; returns at once. Nothing happens if it has ended."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
                # payloads run as the same user, so it may have been stopped
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
                log.info("supervisor %d was asked to end its payload: %s", self._supervisor.pid, reason)

    def result(self) -> PayloadResult:
        """Return how it ended; raises `ExecutorError` if that is not recorded."""
        if self._running():
            raise ExecutorError(f"{self._directory}: the payload still runs; wait for its descriptor first")
        ended = read_ended(self._directory)
        if ended is None or not ended.complete:
            raise ExecutorError(self._what_is_known())
        return ended.result()

    def close(self) -> None:
        """Stop watching; the payload itself is not touched. May be called again."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _running(self) -> bool:
        """Say whether the supervisor lives."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return not poll.poll(0)

    def _what_is_known(self) -> str:
        """Return what can be said of a payload whose supervisor ended before its work was done."""
        started, ended = read_started(self._directory), read_ended(self._directory)
        if not self._directory.is_dir():
            return f"{self._directory}: there is no record of the payload's end: the payload removed that directory"
        text = f"{self._directory}: there is no record of the payload's end: its supervisor "
        text += f"(pid {self._supervisor.pid}) was killed"
        with suppress(OSError):
            last = (self._directory / TRACEBACK).read_text(encoding="utf-8").strip().rpartition("\n")[2]
            text = f"{text.removesuffix('was killed')}failed: {last}"
        if started is None:
            return f"{text}; the payload was not started"
        if ended is None:
            return f"{text}; the payload was started as pid {started.payload.pid}"
        how = f"exited with {ended.exit_code}" if ended.signal is None else f"was ended by signal {ended.signal}"
        return f"{text}; the payload's own process {how}, but others of it may still run"


def _open(supervisor: ProcessId) -> int | None:
    """Return a pidfd of exactly this process, or None if it has ended."""
    try:
        descriptor = os.pidfd_open(supervisor.pid)
    except (ProcessLookupError, OSError) as error:
        log.debug("supervisor %d has ended: %s", supervisor.pid, error)
        return None
    with suppress(ProcessLookupError):
        if process_id(supervisor.pid) == supervisor:
            return descriptor
    os.close(descriptor)
    return None
