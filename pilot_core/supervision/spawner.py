"""The pilot's end of the fork server."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pilot_core.api.clock import SystemClock
from pilot_core.errors import ExecutorError
from pilot_core.supervision.linux import number_of_threads, open_standard_descriptors, require_linux
from pilot_core.supervision.procfs import ProcessId
from pilot_core.supervision.records import CLAIM, STARTED
from pilot_core.supervision.wire import DESCRIPTOR, NEXT, Order, receive, send

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.executor import PayloadSpec

__all__ = ["Spawner"]

TRIES = 3
"""Supervisors that an order is given to, one after the other, if each turns out to have been killed."""

_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from pilot_core.supervision.forkserver import main; main()"


class Spawner:
    """Starts payloads, each under its own supervisor. Make it with `start`; any thread may use it."""

    def __init__(self, connection: socket.socket, pid: int, clock: SystemClock) -> None:
        self._connection = connection
        self._pid = pid
        self._clock = clock
        self._lock = threading.Lock()
        self._open = True

    @classmethod
    def start(cls, clock: Clock | None = None) -> Spawner:
        """Start the fork server.

        Best called first of all: a small process with one thread forks in a millisecond. With several threads a fork
        is not safe and a fresh interpreter is started instead, which takes some ten times as long. `clock` is the
        pilot's, for wall times and the grace; supervisors read the real one if it is no `SystemClock`.

        Raises `ExecutorError` where this cannot work.
        """
        require_linux()
        open_standard_descriptors()
        mine, theirs = socket.socketpair()
        try:
            pid = _fork(mine, theirs) if number_of_threads() == 1 else _execute(theirs)
        except OSError as error:
            mine.close()
            raise ExecutorError(f"the process that starts payloads cannot be made: {error.strerror}") from None
        finally:
            theirs.close()
        return cls(mine, pid, clock if isinstance(clock, SystemClock) else SystemClock())

    @property
    def pid(self) -> int:
        """Pid of the fork server."""
        return self._pid

    def launch(self, spec: PayloadSpec) -> ProcessId:
        """Start a payload and return its supervisor; takes a few milliseconds.

        A program that cannot be executed is found in the payload's result. Raises `ExecutorError` if there is no
        supervisor: the control directory was used before or cannot be written, or the fork server has ended.
        """
        order = Order(spec, self._clock).to_bytes()
        with self._lock:
            if not self._open:
                raise ExecutorError("no payload can be started: the process that does it was told to end")
            answer = b""
            for _ in range(TRIES):
                answer = self._give(order)
                # without a claim nothing was started, and without its supervisor nothing will be
                if answer or (spec.control_dir / CLAIM).exists() or (spec.control_dir / STARTED).exists():
                    break
        if not answer:
            raise ExecutorError(f"{spec.control_dir}: the payload's supervisor was killed before it could start it")
        found = json.loads(answer)
        if "error" in found:
            raise ExecutorError(found["error"])
        return ProcessId(**found)

    def _give(self, order: bytes) -> bytes:
        """Give an order to the waiting supervisor and return its answer; nothing if it was killed."""
        supervisor = self._take_spare()
        try:
            with supervisor:
                send(supervisor, order)
                return receive(supervisor)
        except OSError:
            return b""
        finally:
            self._ask_for_spare()

    def _take_spare(self) -> socket.socket:
        """Return the connection to a supervisor that waits for an order."""
        text = b""
        for _ in range(2):  # that it could not be made when it was asked for may be long ago
            try:
                text, descriptors, _, _ = socket.recv_fds(self._connection, 1000, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                text, descriptors = b"", []
            if descriptors:
                return socket.socket(fileno=descriptors[0])
            if not text:
                raise ExecutorError(
                    f"no payload can be started: the process that does it (pid {self._pid}) was ended; "
                    "start the pilot again"
                )
            self._ask_for_spare()
        raise ExecutorError(f"no payload can be started: fork: {text.decode()}; see `ulimit -u`")

    def _ask_for_spare(self) -> None:
        """Have the next supervisor made while there is nothing to start."""
        with suppress(OSError):  # heard of when it is to be used
            self._connection.send(NEXT)

    def close(self) -> None:
        """Let the fork server end; running payloads and their supervisors go on. May be called again."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._connection.close()
            with suppress(ChildProcessError):  # somebody waits for all of the pilot's children
                os.waitpid(self._pid, 0)

    def __enter__(self) -> Spawner:  # noqa: PYI034  (typing.Self needs Python 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _fork(mine: socket.socket, theirs: socket.socket) -> int:
    """Fork the fork server and return its pid."""
    from pilot_core.supervision.signals import block_all, set_mask  # noqa: PLC0415  (not on every system)

    held_back = block_all()
    try:
        pid = os.fork()
        if pid == 0:
            mine.close()
            _serve(theirs)
    finally:
        set_mask(held_back)
    return pid


def _serve(connection: socket.socket) -> NoReturn:
    """Be the fork server; nothing of the pilot's own code may run on in this process."""
    code = 70
    try:
        # while the pilot goes on with its own imports
        from pilot_core.supervision.forkserver import serve  # noqa: PLC0415

        serve(connection)
        code = 0
    except BaseException:  # noqa: BLE001
        os.write(2, traceback.format_exc().encode())  # past Python's buffers, which the exit leaves behind
    finally:
        os._exit(code)


def _execute(theirs: socket.socket) -> int:
    """Start a fresh interpreter as the fork server and return its pid."""
    # nothing may be imported from where the pilot happens to be, unless the pilot itself does so
    path = [str(Path(entry).absolute()) for entry in sys.path]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", _PROGRAM, *path],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), DESCRIPTOR)],
    )
