"""Worker processes (`worker.py`): started when they are needed, kept for the next file, killed when they stall."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core import BackendUnavailable, TransientError
from pilot_stager_xrootd import worker as program
from pilot_stager_xrootd.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_core import Deadline
    from pilot_core.api.cancel import CancelToken

__all__ = ["WorkerProcess", "Workers"]

KEPT = 16
"""Idle workers that are kept for the next files."""
ABOVE = 10
"""Descriptors are made above those that the worker gets them as."""


class WorkerProcess:
    """One worker. It serves one request at a time, for whoever holds it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        """What it was started with: also whose credentials it uses."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        life_theirs, life = os.pipe()
        memory = os.memfd_create("pilot-stager-xrootd")
        size = program.BLOCK * program.SLOTS
        try:
            os.ftruncate(memory, size)
            self.memory = memoryview(mmap.mmap(memory, size))
            self._socket = ours
            pid = _spawn(environment, (theirs.fileno(), memory, life_theirs))
        except BaseException:
            ours.close()
            os.close(life)
            raise
        finally:
            theirs.close()
            os.close(life_theirs)
            os.close(memory)
        self._process = os.pidfd_open(pid)
        self._end = weakref.finalize(self, _end, pid, self._process, life, ours, os.getpid())

    def slot(self, number: int, length: int) -> memoryview:
        """Return the beginning of a slot of the shared memory."""
        start = number * program.BLOCK
        return self.memory[start : start + length]

    def say(self, **message: Any) -> None:
        """Send a message; raises `TransientError` if the worker is gone."""
        try:
            self._socket.send(json.dumps(message).encode())
        except OSError:
            raise self._gone() from None

    def hear(self, check: Callable[[], None], *, cancel: CancelToken | None, deadline: Deadline) -> dict[str, Any]:
        """Wait for the next message.

        `check` has to raise when it is time to stop; if it does not, there is no message. Raises `Trouble` for what
        XRootD refuses, and `TransientError` if the worker is gone.
        """
        things = (self._socket,) if cancel is None else (self._socket, cancel)
        deadline.wait(*things)
        check()
        try:
            data = self._socket.recv(program.LONGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return {}
        except OSError:
            raise self._gone() from None
        if not data:
            raise self._gone()
        message: dict[str, Any] = json.loads(data)
        if "refused" in message:
            code, number, text = message["refused"]
            raise Trouble(code, number, text)
        if "broken" in message:
            raise BackendUnavailable(f"XRootD's client does not work here: {message['broken']}")
        return message

    def kill(self) -> None:
        """End the process now, whatever it does."""
        self._end()

    def _gone(self) -> TransientError:
        """Return the error for a worker that has ended by itself."""
        ended = os.waitid(os.P_PIDFD, self._process, os.WEXITED | os.WNOWAIT)
        number = ended.si_status if ended and ended.si_code != os.CLD_EXITED else 0
        why = (
            "somebody killed it, perhaps for want of memory" if number == signal.SIGKILL else "XRootD's client crashed"
        )
        return TransientError(f"the process that talks to the storage has ended (signal {number}): {why}")


class Workers:
    """Gives workers to transfers, and takes them back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[WorkerProcess] = []

    def take(self, environment: Mapping[str, str]) -> WorkerProcess:
        """Return a worker with this very environment; those with another one are ended: credentials were renewed.

        Raises `BackendUnavailable` without the client library, `TransientError` if there is no room for a process.
        """
        old: list[WorkerProcess] = []
        found: WorkerProcess | None = None
        with self._lock:
            old = [worker for worker in self._idle if worker.environment != environment]
            self._idle = [worker for worker in self._idle if worker.environment == environment]
            if self._idle:
                found = self._idle.pop()
        for worker in old:
            worker.kill()
        try:
            return found or WorkerProcess(environment)
        except OSError as error:
            raise TransientError(f"no process to talk to the storage can be started: {error.strerror}") from None

    def give_back(self, worker: WorkerProcess) -> None:
        """Keep a worker that has nothing left to do for the next file."""
        with self._lock:
            keep = len(self._idle) < KEPT
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.kill()


def _spawn(environment: Mapping[str, str], descriptors: tuple[int, int, int]) -> int:
    """Start the program; what it gets are these descriptors as 3, 4 and 5, and the environment. Returns its pid."""
    found = find_spec("XRootD")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise BackendUnavailable("the client library of XRootD is not installed: pip install xrootd")
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, ABOVE) for descriptor in descriptors]
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        targets = [(nothing, 0), (nothing, 1), (nothing, 2)]
        targets += list(zip(copies, (program.CONTROL, program.MEMORY, program.LIFE), strict=True))
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", program.__file__, str(Path(places[0]).parent)],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for source, target in targets],
            # the Ctrl-C of a terminal is for the pilot, which ends its transfers in good order
            setsid=True,
        )
    finally:
        for descriptor in (*copies, nothing):
            os.close(descriptor)


def _end(pid: int, process: int, life: int, control: socket.socket, owner: int) -> None:
    """End a worker, wait for it, and close what belongs to it; a fork of the pilot only closes its copies."""
    control.close()
    os.close(life)
    if os.getpid() == owner:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    os.close(process)
