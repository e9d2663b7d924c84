"""How far a job's transfers have come: told to listeners a few times a second, and to the log now and then."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pilot_core.api.staging import StagingProgress
from pilot_core.staging.space import in_words

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.staging.lane import Attempt
    from pilot_core.staging.transfer import Transfer

__all__ = ["INTERVAL", "LOG_INTERVAL", "TASKS", "Reporter"]

INTERVAL = 0.5
"""Seconds between two events."""
LOG_INTERVAL = 30.0
"""Seconds between two lines in the log."""
TASKS = {"read": "stage-in", "write": "stage-out", "log": "log"}
"""What people read of an activity."""


class Reporter:
    """Tells of one batch, from one thread; `done` is called under the batch's lock."""

    def __init__(
        self,
        transfers: Sequence[Transfer],
        *,
        job_id: int,
        clock: Clock,
        log: logging.LoggerAdapter[logging.Logger],
        listener: Callable[[StagingProgress], None] | None = None,
    ) -> None:
        self._job_id = job_id
        self._activity = transfers[0].activity if transfers else "read"
        self._files = len(transfers)
        sizes = [transfer.size for transfer in transfers]
        self._size = None if None in sizes else sum(size or 0 for size in sizes)
        self._clock = clock
        self._log = log
        self._listener = listener
        self._done = 0
        self._bytes = 0
        self._began = clock.monotonic()
        self._next_event = self._began + INTERVAL if listener else math.inf
        self._next_line = self._began + LOG_INTERVAL

    def done(self, size: int) -> None:
        """Take notice of a file that was moved (with its bytes), or given up (with none)."""
        self._done += 1
        self._bytes += size

    def next_look(self) -> float:
        """Return when there is something to tell next."""
        return min(self._next_event, self._next_line)

    def tell(self, now: float, attempts: Sequence[Attempt]) -> None:
        """Tell what is due."""
        if self._listener is not None and now >= self._next_event:
            self._next_event = now + INTERVAL
            self._listener(self._progress(now, attempts))
        if now >= self._next_line:
            self._next_line = now + LOG_INTERVAL
            self._log.info("%s", self._line(now, attempts))

    def end(self) -> None:
        """Say the last word: it comes for every batch, however short."""
        if self._listener is not None:
            self._listener(self._progress(self._clock.monotonic(), (), ended=True))

    def _progress(self, now: float, attempts: Sequence[Attempt], *, ended: bool = False) -> StagingProgress:
        return StagingProgress(
            job_id=self._job_id,
            activity=self._activity,
            files=self._files,
            files_done=self._done,
            bytes=self._bytes + sum(attempt.moved for attempt in attempts),
            size=self._size,
            seconds=max(0.0, now - self._began),
            under_way=tuple(attempt.seen(now) for attempt in attempts),
            ended=ended,
        )

    def _line(self, now: float, attempts: Sequence[Attempt]) -> str:
        """Return the state in one line."""
        moved = self._bytes + sum(attempt.moved for attempt in attempts)
        seconds = max(now - self._began, 1e-9)
        whole = f"{in_words(moved)} of {in_words(self._size)}" if self._size is not None else in_words(moved)
        names = ", ".join(attempt.transfer.lfn for attempt in attempts)
        rate = in_words(moved / seconds)
        return (
            f"{TASKS[self._activity]}: {self._done} of {self._files} files, {whole}, {rate}/s"
            f"{f'; under way: {names}' if names else ''}"
        )
