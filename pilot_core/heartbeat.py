"""Heartbeats: a thread of its own tells the server that a job lives, whatever the job's main thread is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import Event
from pilot_core.errors import Cancelled, HandledError

if TYPE_CHECKING:
    import logging

    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Communicator, JobUpdate, ServerAnswer

__all__ = ["Heartbeat"]

LONGEST_TRY = 600.0
"""Seconds after which one heartbeat is given up; the next one carries newer values anyway."""
SHORTEST_INTERVAL = 1.0
"""Seconds between heartbeats that a server may ask for at the least."""
AFTER_FAILURE = 300.0
"""Seconds to the next update, at most, when one was not taken: PanDA's server gives a job up that was sent 30 minutes
ago and of which nothing was heard (panda-server 1.0.4, `daemons/scripts/copyArchive.py`)."""


class Heartbeat:
    """Sends a job's state when it changes and at an interval; only ever the newest, never the final one.

    Nothing that goes wrong with one update ends the heartbeats: a job that is not heard of is taken for lost.
    It holds nothing of the job but what its thread was started with, so that nothing keeps a finished job alive.
    """

    def __init__(
        self,
        *,
        communicator: Communicator,
        clock: Clock,
        interval: float,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._communicator = communicator
        self._clock = clock
        self._interval = interval
        self._log = log
        self._pace: float | None = None
        self._called_off = CancelToken()
        self._lock = threading.Lock()
        self._news = Event()
        self._pending = False
        self._ending = False
        self._last = clock.monotonic()
        self._taken = True
        """Whether the server took the last update."""
        self._idle = Event()

    def start(self, make: Callable[[], JobUpdate], heard: Callable[[JobUpdate, ServerAnswer | None], None]) -> None:
        """Begin; nothing is sent before the first `announce` or interval.

        `make` builds the update to send, `heard` is called with it and the server's answer (None if there was none);
        both run in the heartbeat's thread.
        """
        threading.Thread(target=self._run, args=(make, heard), name="heartbeat", daemon=True).start()

    def announce(self) -> None:
        """Send the job's state now; several calls before it is sent become one."""
        with self._lock:
            self._pending = True
            self._news.set()

    def pace(self, seconds: float | None) -> None:
        """Send more often than the interval says, every `seconds`; None = no more. For who hears the answers."""
        self._pace = seconds

    def stop(self, patience: float) -> None:
        """Send what was announced and end; waits for that at most `patience` seconds, then calls it off.

        A try that hangs in the network is left to its own deadline: the final report does not wait for it, and an
        update that arrives after it is ignored by the server.
        """
        with self._lock:
            self._ending = True
            self._news.set()
        if not self._clock.wait(self._idle, until=self._clock.monotonic() + patience):
            self._called_off.cancel("the job has ended")

    def _run(self, make: Callable[[], JobUpdate], heard: Callable[[JobUpdate, ServerAnswer | None], None]) -> None:
        try:
            while self._next():
                self._last = self._clock.monotonic()
                self._taken = False
                try:
                    update = make()
                    answer = self._send(update)
                    self._taken = answer is not None
                    if not self._called_off.cancelled:
                        heard(update, answer)
                except Exception as error:  # noqa: BLE001  (a bug, perhaps a plugin's)
                    self._log.error("a heartbeat failed by a bug, please report it", exc_info=error)
        finally:
            self._idle.set()

    def _next(self) -> bool:
        """Wait for news or the interval; False when it is time to end and nothing is left to send."""
        while True:
            with self._lock:
                if self._pending and not self._called_off.cancelled:
                    self._pending = False
                    if not self._ending:
                        self._news = Event()
                    return True
                if self._ending:
                    return False
                news = self._news
            pause = min(
                [self._interval, *([] if self._taken else [AFTER_FAILURE]), *([self._pace] if self._pace else [])]
            )
            if not self._clock.wait(news, until=self._last + pause):
                return True

    def _send(self, update: JobUpdate) -> ServerAnswer | None:
        """Send one update; None if the server did not take it."""
        deadline = Deadline.after(self._clock, min(LONGEST_TRY, max(self._interval, 30.0)))
        try:
            answer = self._communicator.update(update, cancel=self._called_off, deadline=deadline)
        except Cancelled:
            return None
        except HandledError as error:
            self._log.warning("the server did not take the update %r: %s", update.state, error)
            return None
        asked = answer.heartbeat_seconds
        if asked is not None and asked > 0:
            self._interval = max(asked, SHORTEST_INTERVAL)
        return answer
