"""The clock of a replay: time stands where the recording is, and the pilot's threads take turns as they did then.

A pilot has one thread that runs its jobs and, for each job, one that sends heartbeats. Which of them came first is a
matter of microseconds; a recording says how it was, and this clock makes it so again. The heartbeats' thread sleeps
in `wait` until the job's thread has come to a *gate* of the state in which the update was recorded, and the job's
thread stays there until the update was sent. A pause is over at once, and the time is that of what comes next.
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken
from pilot_core.api.clock import Event, SystemClock

if TYPE_CHECKING:
    from pilot_core.api.clock import Waitable
    from pilot_core.recording.reading import RecordedExchange
    from pilot_core.replay.cues import Cues

__all__ = ["ReplayClock"]

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Real seconds after which something that should have happened is no longer waited for."""
_START = 1000.0
"""Where the monotonic scale begins."""


class _State(Enum):
    """What a helping thread does."""

    BUSY = "busy"
    PARKED = "parked"
    """It waits for its next turn."""
    STUCK = "stuck"
    """It waits for something that, as recorded, never comes."""
    GONE = "gone"


@dataclass
class _Helper:
    """A thread beside the pilot's own."""

    state: _State = _State.BUSY
    released: bool = False
    """Whether it may go on as soon as it has something to do: the job is at its end."""
    bell: Event = field(default_factory=Event)
    """Rung to wake it; a new one for each sleep."""


class ReplayClock:
    """A `Clock`; made in the thread that then runs the pilot."""

    def __init__(self, wall: float, cues: Cues) -> None:
        self._wall = wall
        self._now = _START
        self._cues = cues
        self._pilot = threading.get_ident()
        self._helpers: dict[int, _Helper] = {}
        self._lock = threading.RLock()
        self._clock = SystemClock()
        self._news = Event()
        self._run_out = Event()
        self._hopeless = False
        self._closed = False

    # -- time --------------------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        """Return the time for intervals and deadlines."""
        return self._now

    def wall(self) -> float:
        """Return the recorded time of day."""
        return self._wall + self._now - _START

    def reach(self, wall: float) -> None:
        """Let it be a certain time of day, if it was not later already."""
        with self._lock:
            self._now = max(self._now, wall - self._wall + _START)

    # -- from the server ---------------------------------------------------------------------------------------------

    def let_time_run_out(self) -> None:
        """Have the wait for an answer end without one: it was recorded so."""
        self._run_out.set()

    def nothing_comes(self) -> None:
        """Say that an answer is waited for that, as recorded, never came before it was called off."""
        with self._lock:
            self._hopeless = True
            self._news.set()

    def stir(self) -> None:
        """Wake threads that wait for their turn in a retry: it may be theirs now."""
        with self._lock:
            for helper in self._helpers.values():
                if helper.state is _State.STUCK:
                    helper.bell.set()

    # -- the turns ---------------------------------------------------------------------------------------------------

    def gate(self, *, running: bool = False) -> None:
        """Have the updates sent, by their own thread, that were recorded in the job's present state; then signals.

        `running` = the job's payload has begun, and its result is not known yet.
        """
        while self._cues.take_heartbeat(running=running):
            helper = self._parked()
            if helper is None:
                break
            with self._lock:
                self._hopeless = False
                helper.state = _State.BUSY
                helper.bell.set()
            if not self._until(lambda helper=helper: helper.state is not _State.BUSY or self._hopeless):  # type: ignore[misc]
                break
        self._cues.deliver_signals()

    def close(self) -> None:
        """End the threads that still wait."""
        with self._lock:
            self._closed = True
            for helper in self._helpers.values():
                helper.bell.set()
            self._run_out.set()

    def wait(self, *things: Waitable, until: float | None = None) -> bool:
        """Wait as `Clock.wait` says; a pause takes no time, and what is waited for of the real world does."""
        if threading.get_ident() != self._pilot:
            return self._helper_waits(things, until)
        if until is None:
            # for the payload: this is where heartbeats are due, and the reasons for its end come from
            self.gate(running=True)
            return self._really(things, None)
        if _ready(things):
            return True
        if all(isinstance(thing, Event) for thing in things) and things:
            return self._for_helpers(things, until)
        if all(isinstance(thing, CancelToken) for thing in things):
            self._jump(self._end_of_pause(self._cues.next_of_this_call(), until))
            return _ready(things)
        return self._really(things, until)

    def _helper_waits(self, things: tuple[Waitable, ...], until: float | None) -> bool:
        """Wait in a thread that is not the pilot's own."""
        with self._lock:
            helper = self._helpers.setdefault(threading.get_ident(), _Helper())
        if all(isinstance(thing, Event) for thing in things) and until is not None:
            return self._park(helper, things, until)
        if all(isinstance(thing, CancelToken) for thing in things) and until is not None:
            return self._pause(helper, things, until)
        return self._really(things, until)

    def _park(self, helper: _Helper, things: tuple[Waitable, ...], until: float) -> bool:
        """Sleep until it is this thread's turn."""
        with self._lock:
            helper.bell = Event()
            helper.state = _State.PARKED
            released = helper.released
            self._news.set()
        if released:
            self._sleep(helper, *things)
        else:
            self._sleep(helper)
        if _ready(things):
            return True
        if helper.released:
            # nothing to send: wait for the word that it is over
            return self._park(helper, things, until)
        self._jump(until)
        return False

    def _pause(self, helper: _Helper, things: tuple[Waitable, ...], until: float) -> bool:
        """Pause before another try, which comes when it was recorded; where none was, this waits to be called off."""
        while not _ready(things):
            upcoming, first = self._cues.next_of_this_call(), self._cues.next()
            if upcoming is None and not self._cues.this_call_failed():
                self._jump(until)
                return False
            if upcoming is not None and (first is None or first is upcoming):
                self._jump(self._end_of_pause(upcoming, until))
                return False
            with self._lock:
                helper.bell = Event()
                helper.state = _State.STUCK
                self._news.set()
            self._sleep(helper, *things)
        return True

    def _sleep(self, helper: _Helper, *things: Waitable) -> None:
        """Sleep until the bell rings, or one of the things is ready."""
        self._clock.wait(helper.bell, *things)
        with self._lock:
            if self._closed:
                helper.state = _State.GONE
                self._news.set()
                # ends the thread, without a word
                raise SystemExit
            helper.state = _State.BUSY

    def _for_helpers(self, things: tuple[Waitable, ...], until: float) -> bool:
        """Wait, in the pilot's thread, for other threads to come to their end."""
        with self._lock:
            for helper in self._helpers.values():
                if not helper.released:
                    helper.released = True
                    helper.bell.set()
        self._until(lambda: _ready(things) or self._all_stuck(), *things)
        with self._lock:
            # they end now, or are called off next
            self._helpers = {ident: helper for ident, helper in self._helpers.items() if not helper.released}
        if _ready(things):
            return True
        self._jump(until)
        return False

    def _all_stuck(self) -> bool:
        """Say whether no other thread will do anything any more."""
        with self._lock:
            return self._hopeless or all(
                helper.state in {_State.STUCK, _State.GONE} for helper in self._helpers.values() if helper.released
            )

    def _parked(self) -> _Helper | None:
        """Return the job's helper once it sleeps; None if it does not come to that."""

        def found() -> _Helper | None:
            with self._lock:
                ready = (h for h in self._helpers.values() if h.state is _State.PARKED and not h.released)
                return next(ready, None)

        return found() if self._until(lambda: found() is not None) else None

    def _until(self, condition: Callable[[], bool], *things: Waitable) -> bool:
        """Wait for a change by other threads; False if nothing happens for long."""
        end = self._clock.monotonic() + PATIENCE
        while not condition():
            with self._lock:
                if self._news.is_set():
                    self._news = Event()
                news = self._news
            if condition():
                break
            if not self._clock.wait(news, *things, until=end):
                logger.warning("a thread of the replayed pilot does not come to where the recording has it")
                return False
        return True

    # -- the real world ----------------------------------------------------------------------------------------------

    def _really(self, things: tuple[Waitable, ...], until: float | None) -> bool:
        """Wait for what the real world brings, or for the word that it brings nothing."""
        while True:
            run_out = self._run_out
            self._clock.wait(*things, run_out)
            if _ready(things):
                return True
            if self._closed:
                raise SystemExit
            with self._lock:
                if self._run_out is run_out:
                    self._run_out = Event()
            if until is not None:
                self._jump(until)
                return False

    def _jump(self, until: float) -> None:
        with self._lock:
            self._now = max(self._now, until)

    def _end_of_pause(self, upcoming: RecordedExchange | None, until: float) -> float:
        """Return when a pause ends: when it did then, so that budgets last as long as they did; else at its own end."""
        began = until if upcoming is None else upcoming.began - self._wall + _START
        return min(until, began) if began > self._now else until


def _ready(things: tuple[Waitable, ...]) -> bool:
    """Say whether one of the things is ready now."""
    poll = select.poll()
    for thing in things:
        poll.register(thing.fileno(), select.POLLIN | select.POLLHUP)
    return bool(poll.poll(0))
