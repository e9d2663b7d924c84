"""What surrounds the import of a plugin in the pilot's own process: a budget of time, and a stdout of its own."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event
from pilot_core.errors import PluginError

if TYPE_CHECKING:
    from types import FrameType

    from pilot_core.api.clock import Clock

__all__ = ["OutOfTime", "import_budget", "prints_to_stderr"]

GRACE = 1.0
"""Seconds that an import which ignores the interruption still has before the process is ended."""
STUCK = 3.0
"""Real seconds beyond the budget after which an import that lets no other thread run is ended by faulthandler."""


class OutOfTime(BaseException):
    """Interrupts an import. Not an `Exception`, so that a plugin's own `except Exception` lets it pass."""


@contextlib.contextmanager
def import_budget(seconds: float, message: str, clock: Clock) -> Iterator[None]:
    """Allow the body so many seconds of the clock, then raise `OutOfTime` in it.

    Three steps, since code at import can do anything. A thread waits for the end of the budget and sends SIGALRM to
    the main thread, whose handler raises `OutOfTime`; a system call that blocks is interrupted by it. Should the body
    swallow that, or block in C without looking at signals, or run in another thread, then the waiting thread writes
    the message to standard error, in one line as any error of the pilot, and ends the process with the exit code of a
    `PluginError`. Should C code not even let another thread run (it keeps Python's lock), `faulthandler`, which needs
    no lock, ends the process and shows where it hangs.
    """
    over = _Over(message)
    done = Event()
    thread = threading.Thread(target=_watch, args=(over, done, seconds, clock), name="import-budget", daemon=True)
    old = signal.signal(signal.SIGALRM, over.interrupt) if over.interruptible else None
    faulthandler.dump_traceback_later(seconds + STUCK, exit=True, file=2)
    try:
        thread.start()
        try:
            yield
        finally:
            over.finished = True
    finally:
        faulthandler.cancel_dump_traceback_later()
        with contextlib.suppress(OSError):  # a body that closed every descriptor
            done.set()
        thread.join()
        if over.interruptible:
            signal.signal(signal.SIGALRM, old or signal.SIG_DFL)


class _Over:
    """What the import and the thread that watches it tell each other."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.finished = False
        main = threading.main_thread()
        self.interruptible = threading.current_thread() is main and hasattr(signal, "SIGALRM")
        self.main = main.ident or 0

    def interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Handle SIGALRM in the main thread."""
        if not self.finished:
            raise OutOfTime


def _watch(over: _Over, done: Event, seconds: float, clock: Clock) -> None:
    """Wait for the end of the import or of its time."""
    end = clock.monotonic() + seconds
    if clock.wait(done, until=end) or over.finished:
        return
    if over.interruptible:
        signal.pthread_kill(over.main, signal.SIGALRM)
        if clock.wait(done, until=end + GRACE) or over.finished:
            return
    os.write(2, f"pilot-core: {over.message}\n".encode())
    os._exit(PluginError.exit_code)


@contextlib.contextmanager
def prints_to_stderr() -> Iterator[None]:
    """Send what the body writes to standard output to standard error: file descriptor 1, so children's words too.

    Standard output holds results only. Python's own stream is emptied before and after, so that nothing that was
    written meanwhile comes out later; a body that replaces the streams does no lasting harm.
    """
    streams = (sys.stdout, sys.stderr)
    _flush(sys.stdout)
    try:
        saved = os.dup(1)
    except OSError:  # nobody reads our results
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        _flush(sys.stdout)
        sys.stdout, sys.stderr = streams
        _flush(sys.stdout)
        # a body that closed every descriptor has closed this one as well; then there is nothing to go back to
        with contextlib.suppress(OSError):
            os.dup2(saved, 1)
            os.close(saved)


def _flush(stream: object) -> None:
    """Empty a stream's buffer, whatever state it is in."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.flush()  # type: ignore[attr-defined]
