"""The signals that end a pilot, heard at once whatever its main thread is doing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["listen", "tidy_end"]


def listen(numbers: Iterable[int], heard: Callable[[int], None]) -> None:
    """Have `heard` called with the number of each of these signals, in a thread of its own; call it in the main thread.

    Python calls a handler between two steps of its main thread. A signal that comes as that thread begins to wait is
    not seen until the wait is over, which may be the end of a payload. What Python writes into the wake-up descriptor
    is written as the signal comes.
    """
    wanted = frozenset(int(number) for number in numbers)
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write, False)

    def run() -> None:
        while True:
            for number in os.read(read, 64):
                if number in wanted:
                    heard(number)

    threading.Thread(target=run, name="signals", daemon=True).start()
    # a full pipe has more signals in it than anybody needs
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in wanted:
        signal.signal(number, _nothing)


def _nothing(number: int, _: FrameType | None) -> None:
    """Do nothing: without a handler of Python's a signal would have its own effect."""


@contextmanager
def tidy_end() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end a command as Ctrl-C does: what it began is taken back, and nothing of it is left.

    The exit code is 128+n. Not in the main thread, it does nothing; a signal that is ignored stays so (`nohup`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]

    def end(number: int, _: FrameType | None) -> None:
        for each in numbers:  # once is enough: a second one must not end the tidying up
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
