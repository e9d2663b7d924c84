"""Moving a job's files side by side: a few threads that move, and one, the job's own, that watches them.

The watcher sleeps until everything is moved, the job is called off, or the first moment at which a transfer could
have stalled; it calls off what is too slow, and everything when there is no use in going on. Whatever a backend does,
`run` comes to an end: one that does not heed its token is named, and left behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event
from pilot_core.errors import HandledError, PluginError
from pilot_core.selection import NextStep, next_step, scheme_of
from pilot_core.staging.lane import Lane

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.clock import Clock
    from pilot_core.staging.limits import Limits
    from pilot_core.staging.reporter import Reporter
    from pilot_core.staging.transfer import Moved, Transfer

__all__ = ["Batch"]

QUICK = 1 << 20
"""Bytes up to which a copy on this machine is a matter of the processor: two at a time would hinder each other."""


class _Bell:
    """Rung by the last worker. What it tells of are real transfers, so it is no mere `Event` of the pilot's own."""

    def __init__(self) -> None:
        self._event = Event()

    def ring(self) -> None:
        self._event.set()

    @property
    def rung(self) -> bool:
        return self._event.is_set()

    def fileno(self) -> int:
        return self._event.fileno()


class Batch:
    """Some files that are moved together. `run` may be called once."""

    def __init__(
        self,
        transfers: Sequence[Transfer],
        move: Callable[[Transfer, Lane], Moved],
        *,
        clock: Clock,
        limits: Limits,
        reporter: Reporter,
        all_or_none: bool = False,
        moved: Callable[[Moved], None] | None = None,
    ) -> None:
        """`move` moves one; `moved` hears of each that was, one at a time; `all_or_none` = one failure ends it all."""
        self._transfers = transfers
        self._move = move
        self._clock = clock
        self._limits = limits
        self._reporter = reporter
        self._all_or_none = all_or_none
        self._moved = moved
        self._results: dict[int, Moved] = {}
        self._errors: dict[int, HandledError] = {}
        self._bug: BaseException | None = None
        self._stopped = ""
        self._stopped_at = 0.0
        self._closed = False
        self._lock = threading.RLock()
        self._bell = _Bell()
        self._lanes: list[Lane] = []
        self._quick: deque[int] = deque()
        self._others: deque[int] = deque()

    @property
    def results(self) -> Sequence[Moved]:
        """What was moved, in the order of the files."""
        return [self._results[number] for number in sorted(self._results)]

    @property
    def errors(self) -> Mapping[str, HandledError]:
        """What was not, by LFN, in the order of the files; what was merely called off is not in it."""
        return {self._transfers[number].lfn: self._errors[number] for number in sorted(self._errors)}

    def run(self, cancel: CancelToken) -> None:
        """Move everything, as far as it goes. Raises `Cancelled` if the job was called off meanwhile."""
        cancel.raise_if_cancelled()
        for number, transfer in enumerate(self._transfers):
            (self._quick if _is_quick(transfer) else self._others).append(number)
        lanes = min(max(1, self._limits.transfers), len(self._others) + bool(self._quick))
        self._lanes = [Lane(cancel, own=True) for _ in range(lanes)]
        self._working = lanes
        if not lanes:
            self._bell.ring()
        try:
            self._start()
            self._watch(cancel)
        finally:
            with self._lock:
                self._closed = True
                self._stop("the job goes on without it")
        if self._bug is not None:
            raise self._bug
        if not self._errors:
            cancel.raise_if_cancelled()

    def run_in_turn(self, order: Sequence[int], cancel: CancelToken) -> None:
        """Move one after the other in this thread, first those of `order`, which are begun come what may.

        Nothing watches. Raises as `run`.
        """
        cancel.raise_if_cancelled()
        lane = Lane(cancel, own=False)
        self._lanes = [lane]
        lane.played = True
        for known in order:
            self._take(known, lane)
        lane.played = False
        if not self._stopped:
            self._others.extend(sorted(set(range(len(self._transfers))) - set(order)))
        while (number := self._next(quick=False)) is not None:
            self._take(number, lane)
        if not self._errors:
            cancel.raise_if_cancelled()

    def _start(self) -> None:
        """Start the workers, as many as may be had; raises `HandledError` if there is not one."""
        for number, lane in enumerate(self._lanes):
            worker = threading.Thread(
                target=self._work, args=(lane, number == 0), name=f"transfer-{number + 1}", daemon=True
            )
            try:
                worker.start()
            except RuntimeError as error:
                if not number:
                    raise HandledError(f"no file can be moved: {error}; raise the limit of threads here") from None
                with self._lock:
                    self._working -= len(self._lanes) - number
                    if not self._working:
                        self._bell.ring()
                return

    # -- the workers -------------------------------------------------------------------------------------------------

    def _work(self, lane: Lane, quick: bool) -> None:
        """Move files until there is none left."""
        try:
            while (number := self._next(quick=quick)) is not None:
                self._take(number, lane)
        except BaseException as error:  # noqa: BLE001  (it is the watcher's thread that has to end by it)
            with self._lock:
                self._bug = self._bug or error
                self._stop("a bug of the pilot")
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    self._bell.ring()

    def _next(self, *, quick: bool) -> int | None:
        """Return the next file to move; None = there is none for this lane."""
        with self._lock:
            if quick and self._quick:
                return self._quick.popleft()
            return self._others.popleft() if self._others else None

    def _take(self, number: int, lane: Lane) -> None:
        """Move one file and note what came of it."""
        try:
            moved = self._move(self._transfers[number], lane)
        except HandledError as error:
            with self._lock:
                self._failed(number, error)
            return
        with self._lock:
            if self._closed:
                return
            self._results[number] = moved
            self._reporter.done(moved.result.size)
            if self._moved is not None:
                self._moved(moved)

    def _failed(self, number: int, error: HandledError) -> None:
        """Note that a file was not moved, and stop where there is no use in going on; the lock is held."""
        alike = any(type(other) is type(error) for other in self._errors.values())
        if self._closed or (self._stopped and not alike):
            return  # it was called off, or may as well have been
        # what failed alike at the same moment is told in the order of the files, not of the threads
        self._errors[number] = error
        self._reporter.done(0)
        if self._all_or_none or next_step(error) is NextStep.STOP:
            self._stop(f"called off, because {self._transfers[number].lfn} failed")

    def _stop(self, reason: str) -> None:
        """Have nothing more begun, and what is under way called off; the lock is held."""
        if not self._stopped:
            self._stopped, self._stopped_at = reason, self._clock.monotonic()
            self._quick.clear()
            self._others.clear()
            for lane in self._lanes:
                lane.stop(reason)

    # -- the watcher -------------------------------------------------------------------------------------------------

    def _watch(self, cancel: CancelToken) -> None:
        """Wait until the last worker is done, and have nothing hold it up."""
        clock = self._clock
        while not self._bell.rung:
            things = (self._bell,) if self._stopped else (self._bell, cancel)
            clock.wait(*things, until=self._next_look())
            now = clock.monotonic()
            if cancel.cancelled:
                with self._lock:
                    self._stop(cancel.reason)
            attempts = [attempt for lane in self._lanes if (attempt := lane.attempt)]
            for lane in self._lanes:
                lane.judge(now, self._limits)
            self._reporter.tell(now, attempts)
            for attempt in attempts:
                since = attempt.called_off or (self._stopped_at if self._stopped else now)
                if now >= since + self._limits.grace and any(lane.attempt is attempt for lane in self._lanes):
                    raise PluginError(
                        f"plugin {attempt.stager.label} does not heed that {attempt.transfer.lfn} was called off "
                        f"{now - since:.0f} s ago; it is left behind"
                    )

    def _next_look(self) -> float:
        """Return when the watcher has to look at the transfers, if nothing rings."""
        now = self._clock.monotonic()
        looks = [attempt.look_at(self._limits) for lane in self._lanes if (attempt := lane.attempt)]
        if self._stopped:
            looks = [self._stopped_at + self._limits.grace]
        return min([*looks, now + self._limits.stall, self._reporter.next_look()])


def _is_quick(transfer: Transfer) -> bool:
    """Say whether a transfer is a copy of a small file on this machine."""
    local = all(scheme_of(replica.url) == "file" for replica in transfer.replicas)
    return local and transfer.size is not None and transfer.size <= QUICK
