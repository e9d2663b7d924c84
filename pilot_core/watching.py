"""Watching a payload: every limit's watchdog looks at its own interval, until the first one finds it passed."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken
from pilot_core.api.clock import Event

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

    from pilot_core.api.clock import Clock
    from pilot_core.api.watchdog import Violation, Watchdog, Watched

__all__ = ["NamedWatchdog", "Watch"]

REST = 100.0
"""How many times as long as a check took the next one waits at the least: looking takes a hundredth of a core."""
SETTLED = 5.0
"""Seconds after a payload's start at which watchdogs are made that were not needed before: most payloads that a pilot
meets in a test, and many that fail, do not run as long."""


class NamedWatchdog:
    """A watchdog, and what messages call it: one that is made, or that is made when it is first needed."""

    def __init__(
        self, name: str, label: str, *, dog: Watchdog | None = None, make: Callable[[], Watchdog] | None = None
    ) -> None:
        self.name = name
        self.label = label
        """Its plugin with distribution and version."""
        self._make = make
        self._lock = threading.Lock()
        self._dog = dog

    @property
    def made(self) -> bool:
        """Whether it was made already."""
        return self._dog is not None

    @property
    def dog(self) -> Watchdog:
        """The watchdog itself; raises whatever goes wrong when it is made."""
        with self._lock:
            if self._dog is None:
                if self._make is None:
                    raise ValueError(f"watchdog {self.name}: give it, or what makes it")
                self._dog = self._make()
            return self._dog


class Watch:
    """Watches one payload in a thread of its own, so that a slow look holds up nobody; what is due together sees the
    same moment.

    `violated` is cancelled by the first violation; then, or when it is stopped, the watch is over.
    """

    def __init__(
        self,
        dogs: Sequence[NamedWatchdog],
        *,
        clock: Clock,
        look: Callable[[], Watched],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self.violated = CancelToken()
        self.violation: Violation | None = None
        """The limit that was passed; set before `violated`."""
        self._dogs = dogs
        self._clock = clock
        self.look = look
        self._log = log
        self._stop = Event()
        self._started = clock.monotonic()
        self._due: dict[NamedWatchdog, float] = {}

    def start(self) -> None:
        """Begin; each watchdog looks for the first time when its interval has passed."""
        if self._dogs:
            threading.Thread(target=self._run, name="watchdogs", daemon=True).start()

    def stop(self) -> None:
        """End; a look that is under way comes to nothing."""
        self._stop.set()

    def passed(self, violation: Violation) -> None:
        """Take a limit for passed."""
        self.violation = violation
        self.violated.cancel(violation.message)

    def _run(self) -> None:
        self._take([dog for dog in self._dogs if dog.made])
        later = [dog for dog in self._dogs if not dog.made]
        while self._due or later:
            until = min([*self._due.values(), *([self._started + SETTLED] if later else [])])
            if self._clock.wait(self._stop, until=until):
                return
            if later and self._clock.monotonic() >= self._started + SETTLED:
                self._take(later)
                later = []
            if self._round():
                return

    def _take(self, dogs: Sequence[NamedWatchdog]) -> None:
        """Set when each watchdog looks first."""
        for dog in dogs:
            pause = self._interval(dog)
            if pause is not None:
                self._due[dog] = self._started + pause

    def _round(self) -> bool:
        """Have all look whose time has come; True when the watch is over."""
        now = self._clock.monotonic()
        due = [dog for dog, when in self._due.items() if when <= now]
        watched = self.look() if due else None
        for dog in due:
            found = self._check(dog, watched) if watched else None
            if self._stop.is_set():
                return True
            if found is not None:
                self.passed(found)
                return True
        return False

    def _check(self, dog: NamedWatchdog, watched: Watched) -> Violation | None:
        """Have a watchdog look, and set the time of its next look; one with a bug gets none."""
        begun = self._clock.monotonic()
        try:
            found = dog.dog.check(watched)
        except Exception as error:  # noqa: BLE001  (a bug in a plugin must not end a job)
            del self._due[dog]
            self._log.error(
                "watchdog %s failed and does not watch this job any more; tell its authors", dog.label, exc_info=error
            )
            return None
        pause = self._interval(dog)
        if pause is None:
            del self._due[dog]
        else:
            now = self._clock.monotonic()
            on_time = self._due[dog] + pause
            self._due[dog] = max(on_time if on_time > now else now + pause, now + REST * (now - begun))
        return found

    def _interval(self, dog: NamedWatchdog) -> float | None:
        """Return a watchdog's interval; None, with a line in the log, for one that makes no sense."""
        try:
            pause = float(dog.dog.interval)
        except Exception as error:  # noqa: BLE001  (a plugin's code)
            self._log.error(
                "watchdog %s failed and does not watch this job; tell its authors", dog.label, exc_info=error
            )
            return None
        if math.isfinite(pause) and pause > 0:
            return pause
        self._log.error("watchdog %s has no interval above 0 and does not watch this job; tell its authors", dog.label)
        return None
