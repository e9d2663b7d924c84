"""Time and waiting, both injected: nothing else in the pilot reads a clock or waits with a timeout.

Every wait is one `poll` over file descriptors, so the end of a payload (a pidfd), a cancellation, a signal
and a deadline are waited for together and wake the pilot at once. In a test a clock that runs faster, or that
the test moves by hand, turns a two-hour lease into milliseconds.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

__all__ = ["Clock", "Event", "SystemClock", "Waitable"]

LONGEST_POLL = 86_400_000
"""Milliseconds that one poll takes at most; a longer wait is several."""


@runtime_checkable
class Waitable(Protocol):
    """Anything with a file descriptor that becomes readable when the awaited thing has happened."""

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        ...


class Event:
    """A flag that can be set once, from any thread or from a signal handler, and polled like a file.

    It is a pipe into which `set` writes a byte that nobody reads: readable for ever after, for any number of
    waiters. No lock is needed, so a signal handler may interrupt `set` with another `set`.
    """

    __slots__ = ("_read", "_set", "_write")

    def __init__(self) -> None:
        self._set = False
        self._read = self._write = -1
        self._read, self._write = os.pipe()

    def set(self) -> None:
        """Set the flag and wake every waiter; setting it again does nothing."""
        if not self._set:
            self._set = True
            os.write(self._write, b"!")

    def is_set(self) -> bool:
        """Say whether `set` was called."""
        return self._set

    def fileno(self) -> int:
        """Return a descriptor that is readable once the flag is set."""
        return self._read

    def __del__(self) -> None:
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)


class Clock(Protocol):
    """What the pilot knows of time. All values are seconds."""

    def monotonic(self) -> float:
        """Return a time that never jumps, for intervals and deadlines."""
        ...

    def wall(self) -> float:
        """Return the wall clock's time (seconds since 1970, UTC), for timestamps only."""
        ...

    def wait(self, *things: Waitable, until: float | None = None) -> bool:
        """Wait until one of `things` is ready or `monotonic()` has reached `until`.

        Returns True when a thing is ready, False when the time is up. Without `until` it waits as long as it
        takes; without things it is a sleep, which a normal path of the pilot never needs.
        """
        ...


class SystemClock:
    """The real clock; `scale` makes its time pass faster than the world's and `wall_step` shifts its wall time.

    Both exist for tests (`python -m pilot_core.testing.pilot`); the production command uses neither.
    """

    def __init__(self, *, scale: float = 1.0, wall_step: float = 0.0) -> None:
        if not 0 < scale < float("inf"):
            raise ValueError(f"the clock's scale must be above 0 and finite, got {scale}")
        self._scale = scale
        self._wall_step = wall_step
        self._wall_start = time.time()
        self._start = time.monotonic()

    @classmethod
    def from_state(cls, state: Mapping[str, float]) -> SystemClock:
        """Make the clock again, in any process of the same machine, from what `state` returned."""
        clock = cls(scale=state["scale"], wall_step=state["wall_step"])
        clock._start, clock._wall_start = state["start"], state["wall_start"]
        return clock

    def state(self) -> dict[str, float]:
        """Return what `from_state` needs: plain JSON. Both clocks then always show the same."""
        return {
            "scale": self._scale,
            "wall_step": self._wall_step,
            "start": self._start,
            "wall_start": self._wall_start,
        }

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        if self._scale == 1.0:
            return time.monotonic()
        return self._start + (time.monotonic() - self._start) * self._scale

    def wall(self) -> float:
        """Return seconds since 1970 (UTC)."""
        if self._scale == 1.0:
            return time.time() + self._wall_step
        return self._wall_start + (time.monotonic() - self._start) * self._scale + self._wall_step

    def wait(self, *things: Waitable, until: float | None = None) -> bool:
        """Wait with one `poll` for any of the things or the time."""
        poll = select.poll()
        for thing in things:
            poll.register(thing.fileno(), select.POLLIN | select.POLLHUP)
        while True:
            if until is None:
                return bool(poll.poll())
            left = (until - self.monotonic()) / self._scale
            if left <= 0:
                return bool(poll.poll(0))
            # poll takes at most 2**31 ms; it may end early only there, for Python rounds its time up to milliseconds
            if poll.poll(min(left * 1000, LONGEST_POLL)):
                return True
