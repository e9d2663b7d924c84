"""A clock for tests whose time passes only when somebody waits."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken
from pilot_core.api.clock import Event

if TYPE_CHECKING:
    from pilot_core.api.clock import Waitable

__all__ = ["FakeClock"]


class FakeClock:
    """A `Clock` that stands still until a wait moves it: a wait of an hour is over at once, and an hour has passed.

    A wait first looks whether one of its things is ready. `Event`s and `CancelToken`s are the test's own, so if they
    are not ready the time jumps to the wait's end. Anything else (a socket, a pidfd) belongs to the real world, which
    is given `patience` real seconds before the time jumps. A wait without an end waits for the real world only.
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

    def wait(self, *things: Waitable, until: float | None = None) -> bool:
        """Return True if a thing is ready; else jump to `until` and return False."""
        poll = select.poll()
        for thing in things:
            poll.register(thing.fileno(), select.POLLIN | select.POLLHUP)
        if until is None:
            return bool(poll.poll())
        outside = any(not isinstance(thing, (Event, CancelToken)) for thing in things)
        if poll.poll(self.patience * 1000 if outside and until > self._monotonic else 0):
            return True
        jump = until - self._monotonic
        if jump > 0:
            self.waits.append(jump)
            self.advance(jump)
            if self.on_jump is not None:
                self.on_jump()
        return False
