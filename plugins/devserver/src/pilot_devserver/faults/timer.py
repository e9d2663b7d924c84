"""Waiting in an event loop for the injected clock: one thread waits, whatever waits in the loop is a future."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock

__all__ = ["Timer"]


class Timer:
    """Alarms by the clock. Its thread starts with the first one; a server without faults has none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._alarms: list[tuple[float, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._wake = Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def after(self, seconds: float) -> asyncio.Future[None]:
        """Return a future that is done in `seconds`; never, if the timer is closed first. Call it in the loop."""
        loop = asyncio.get_running_loop()
        alarm: asyncio.Future[None] = loop.create_future()
        with self._lock:
            heapq.heappush(self._alarms, (self._clock.monotonic() + seconds, next(self._order), loop, alarm))
            self._wake.set()
            if self._thread is None and not self._ended:
                self._thread = threading.Thread(target=self._run, name="faults", daemon=True)
                self._thread.start()
        return alarm

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._ended = True
            self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._ended:
                    return
                self._wake = wake = Event()
                self._ring()
                until = self._alarms[0][0] if self._alarms else None
            self._clock.wait(wake, until=until)

    def _ring(self) -> None:
        """Complete what is due."""
        while self._alarms and self._alarms[0][0] <= self._clock.monotonic():
            _, _, loop, alarm = heapq.heappop(self._alarms)
            if not loop.is_closed():
                loop.call_soon_threadsafe(_complete, alarm)


def _complete(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
