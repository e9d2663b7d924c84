"""Signals in the processes that look after payloads, none of which has a second thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType

__all__ = ["SignalWatch", "block_all", "restore_defaults", "set_mask"]


def block_all() -> set[signal.Signals | int]:
    """Hold all signals back, so that no fork lets one be lost; return which were held back before."""
    return set(signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals()))


def set_mask(held_back: Iterable[int]) -> None:
    """Hold back only these signals, and let in those that waited."""
    signal.pthread_sigmask(signal.SIG_SETMASK, held_back)


def restore_defaults() -> None:
    """Give every signal its default effect: ignored signals and the mask would outlive an exec.

    Python ignores SIGPIPE and SIGXFSZ, `nohup` SIGHUP; no payload should have to know that.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) != signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)


class SignalWatch:
    """Makes signals something to wait for: its descriptor is readable once one of the watched has come.

    Replaces whatever was set up for signals before. Must be made in the main thread.
    """

    def __init__(self, watched: Iterable[int], ignored: Iterable[int]) -> None:
        self.seen: set[int] = set()
        """Watched signals that have come; never emptied by itself."""
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        for number in watched:
            signal.signal(number, self._note)
        # the byte only wakes; a full pipe is awake already
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.seen.add(number)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._read

    def clear(self) -> None:
        """Make the descriptor unreadable until the next signal; look at what may have changed after this."""
        with suppress(BlockingIOError):
            while os.read(self._read, 65536):
                pass

    def close(self) -> None:
        """Stop watching."""
        signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)
