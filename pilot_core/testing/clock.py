"""Clocks for tests: one whose time passes when somebody waits, one whose time passes when the test says so."""

from __future__ import annotations

import math
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken
from pilot_core.api.clock import Event

if TYPE_CHECKING:
    from pilot_core.api.clock import Waitable

__all__ = ["FakeClock", "SteppedClock"]


class FakeClock:
    """A `Clock` that stands still until a wait moves it: a wait of an hour is over at once, and an hour has passed.

    A wait first looks whether one of its things is ready. `Event`s and `CancelToken`s are the test's own, so if they
    are not ready the time jumps to the wait's end. Anything else (a socket, a pidfd) belongs to the real world, which
    is given `patience` real seconds (at most what the wait would take) before the time jumps. A wait without an end
    waits for the real world only.
    """

    def __init__(self, *, monotonic: float = 1000.0, wall: float = 1_700_000_000.0, patience: float = 30.0) -> None:
        self.patience = patience
        """Real seconds for sockets and processes to become ready; set it low where a test wants the time to run out."""
        self.waits: list[float] = []
        """How long (in this clock's seconds) each wait would have taken that jumped to its end."""
        self.on_jump: Callable[[], None] | None = None
        """Called after every jump: where a test lets something happen "meanwhile"."""
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """Return the time for intervals and deadlines."""
        return self._monotonic

    def wall(self) -> float:
        """Return seconds since 1970 (UTC)."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._monotonic += seconds
            self._wall += seconds

    def outside(self, thing: Waitable) -> bool:
        """Say whether a thing becomes ready by the real world's doing, which is given real time."""
        return not isinstance(thing, (Event, CancelToken))

    def wait(self, *things: Waitable, until: float | None = None) -> bool:
        """Return True if a thing is ready; else jump to `until` and return False."""
        poll = select.poll()
        for thing in things:
            poll.register(thing.fileno(), select.POLLIN | select.POLLHUP)
        if until is None:
            return bool(poll.poll())
        outside = any(self.outside(thing) for thing in things)
        jump = until - self._monotonic
        patience = min(self.patience, jump) * 1000 if outside and jump > 0 else 0
        if poll.poll(patience):
            return True
        if jump > 0:
            self.waits.append(jump)
            self.advance(jump)
            if self.on_jump is not None:
                self.on_jump()
        return False


class SteppedClock(FakeClock):
    """A clock for threads: a wait really waits, until a thing is ready or `advance` has come to its end.

    `until_waiting` tells the test that the thread under test has come to its wait, so that nothing is left to chance.
    """

    def __init__(self, *, monotonic: float = 1000.0, wall: float = 1_700_000_000.0, patience: float = 30.0) -> None:
        super().__init__(monotonic=monotonic, wall=wall, patience=patience)
        self._sleepers: dict[Event, float] = {}
        self._changed = threading.Condition(self._lock)

    def advance(self, seconds: float) -> None:
        """Let time pass; the waits whose time has come end, and are no longer counted when this returns."""
        with self._lock:
            self._monotonic += seconds
            self._wall += seconds
            for bell in [bell for bell, until in self._sleepers.items() if until <= self._monotonic]:
                del self._sleepers[bell]
                bell.set()

    def wait(self, *things: Waitable, until: float | None = None) -> bool:
        """Wait until a thing is ready (True) or the time is up (False)."""
        poll = select.poll()
        for thing in things:
            poll.register(thing.fileno(), select.POLLIN | select.POLLHUP)
        if poll.poll(0):
            return True
        bell = Event()
        with self._lock:
            if until is not None and until <= self._monotonic:
                return False
            self._sleepers[bell] = math.inf if until is None else until
            self._changed.notify_all()
        poll.register(bell.fileno(), select.POLLIN)
        try:
            return any(descriptor != bell.fileno() for descriptor, _ in poll.poll())
        finally:
            with self._lock:
                self._sleepers.pop(bell, None)

    def until_waiting(self, count: int = 1) -> None:
        """Return once `count` waits are under way; raises `TimeoutError` after `patience` real seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= count, self.patience):
                raise TimeoutError(f"{len(self._sleepers)} threads wait for this clock, not {count}")
