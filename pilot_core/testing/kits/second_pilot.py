"""A second pilot process: it starts payloads and dies, or finds those that the first one started."""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import signal
import socket
import struct
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import SystemClock
from pilot_core.api.executor import Executor, Payload, PayloadHandle, PayloadResult, PayloadSpec
from pilot_core.testing.kits.within import within

__all__ = ["SecondPilot", "SecondPilotError"]

PATIENCE = 20.0
"""Real seconds in which it does what it is asked for."""
_LENGTH = struct.Struct(">Q")


class SecondPilotError(Exception):
    """What went wrong there; its text begins with the error's class."""


class SecondPilot:
    """A fork of this process, made before there are payloads, so that it has nothing but their handles.

    It has a session of its own, as a pilot has that a batch system starts; its standard input is a pipe that holds
    one line and never ends, its standard output and error are two whose other ends are `stdout` and `stderr`.
    """

    def __init__(self, make: Callable[[SystemClock], Executor], *, wall_step: float = 0.0) -> None:
        self._connection, theirs = socket.socketpair()
        stdin, self._stdin = os.pipe()
        self.stdout, stdout = os.pipe()
        self.stderr, stderr = os.pipe()
        os.write(self._stdin, b"of the pilot\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the child uses nothing that another thread may hold
            self.pid = os.fork()
        if self.pid == 0:
            _be_a_pilot(make, SystemClock(wall_step=wall_step), theirs, (stdin, stdout, stderr))
        theirs.close()
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        self._lives = True

    def start(self, spec: PayloadSpec) -> PayloadHandle:
        """Have a payload started; return its handle, as it comes out of JSON."""
        return PayloadHandle.from_json(self._ask("start", spec))

    def attach(self, handle: PayloadHandle) -> None:
        """Have a payload found; `result` and `end` are then about that one."""
        self._ask("attach", handle.to_json())

    def result(self) -> PayloadResult:
        """Have the payload's end waited for; return how it ended."""
        found: PayloadResult = self._ask("result")
        return found

    def end(self) -> None:
        """Have the payload's end asked for."""
        self._ask("end")

    def leave(self) -> None:
        """Have it close its executor and exit, as a pilot does; be sure that it is gone."""
        self._ask("leave")
        child, self._lives = self.pid, False
        gone = os.pidfd_open(child)
        try:
            clock = SystemClock()
            left = clock.wait(_Descriptor(gone), until=clock.monotonic() + PATIENCE / 2)
            signal.pidfd_send_signal(gone, signal.SIGKILL)
            os.waitpid(child, 0)
        finally:
            os.close(gone)
        if not left:
            pytest.fail("a pilot that has closed its executor does not exit: a thread holds it", pytrace=False)

    def signal_group(self, number: int) -> None:
        """Send a signal to it and its process group, as a terminal or a batch system does."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill it, and be sure that it is gone."""
        if self._lives:
            self._lives = False
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def close(self) -> None:
        """Kill it and let go of it."""
        self.kill()
        if self._connection.fileno() >= 0:
            self._connection.close()
            for descriptor in (self._stdin, self.stdout, self.stderr):
                os.close(descriptor)

    def _ask(self, name: str, *arguments: object) -> Any:
        def exchange() -> Any:
            _send(self._connection, (name, arguments))
            return _receive(self._connection)

        answer = within(exchange, f"{name} in another pilot process", seconds=PATIENCE)
        if answer is None:
            pytest.fail(f"the pilot process that was asked for {name} died", pytrace=False)
        kind, value = answer
        if kind == "error":
            raise SecondPilotError(value)
        return value


class _Descriptor:
    """A descriptor to wait for."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Return it."""
        return self._number


def _be_a_pilot(
    make: Callable[[SystemClock], Executor], clock: SystemClock, connection: socket.socket, standard: Sequence[int]
) -> NoReturn:
    """Turn this fork into a pilot that does what it is asked for, until nobody asks any more."""
    try:
        gc.disable()  # what the test's process has open is not this one's to close
        gc.freeze()
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        kept = _keep_only(standard, connection)
        atexit._clear()
        _serve(make(clock), clock, kept)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
    finally:
        os._exit(0)


def _keep_only(standard: Sequence[int], connection: socket.socket) -> socket.socket:
    """Close every descriptor but the standard ones, which are replaced, and the connection."""
    held = [os.dup(descriptor) for descriptor in (*standard, connection.fileno())]
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) not in held:
            with suppress(OSError):
                os.close(int(entry.name))
    for number, descriptor in enumerate(held[:3]):
        os.dup2(descriptor, number)
        if descriptor > 2:
            os.close(descriptor)
    return socket.socket(fileno=held[3])


def _serve(executor: Executor, clock: SystemClock, connection: socket.socket) -> None:
    payloads: list[Payload] = []
    while (order := _receive(connection)) is not None:
        name, arguments = order
        limits: dict[str, Any] = {"cancel": CancelToken(), "deadline": Deadline.after(clock, 60.0)}
        value: object = None
        try:
            if name == "start":
                value = executor.start(*arguments, **limits).to_json()
            elif name == "attach":
                payloads.append(executor.attach(PayloadHandle.from_json(*arguments), **limits))
            elif name == "end":
                payloads[-1].end("a test")
            elif name == "leave":
                executor.close()
                _send(connection, ("result", None))
                return
            else:
                clock.wait(payloads[-1], until=clock.monotonic() + PATIENCE)
                value = replace(payloads[-1].result(), extra={})
            answer = ("result", value)
        except BaseException as error:  # noqa: BLE001  (told to the test)
            answer = ("error", f"{type(error).__name__}: {error}")
        _send(connection, answer)


def _send(connection: socket.socket, value: object) -> None:
    body = pickle.dumps(value)
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(_LENGTH.pack(len(body)) + body)


def _receive(connection: socket.socket) -> Any:
    """Return the next message, or None at the end."""
    body = b""
    size = _LENGTH.size
    for final in (False, True):
        body = b""
        while len(body) < size:
            try:
                part = connection.recv(size - len(body))
            except OSError:
                part = b""
            if not part:
                return None
            body += part
        if not final:
            (size,) = _LENGTH.unpack(body)
    return pickle.loads(body)  # noqa: S301  (of our own fork)
