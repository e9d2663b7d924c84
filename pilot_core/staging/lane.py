"""One attempt under way, and the lane on which it moves: what a watcher sees of it, and how it is called off."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import CancelToken
from pilot_core.api.staging import TransferProgress
from pilot_core.api.url import shown_url
from pilot_core.errors import Cancelled
from pilot_core.staging.limits import START_ALLOWANCE, WINDOW

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.staging import Replica
    from pilot_core.plugins import Loaded
    from pilot_core.staging.limits import Limits
    from pilot_core.staging.transfer import Transfer

__all__ = ["Attempt", "Lane"]


class Attempt:
    """One attempt to move a file, as far as it has come. The backend's thread writes, the watcher reads."""

    def __init__(
        self, transfer: Transfer, replica: Replica, stager: Loaded[Any], clock: Clock, *, allowed: float
    ) -> None:
        """`allowed` = seconds that its deadline gives it."""
        self.transfer = transfer
        self.replica = replica
        self.stager = stager
        self.moved = 0
        """Bytes."""
        self.too_slow = ""
        """Why it was called off, if it was for its slowness."""
        self.called_off = 0.0
        """When that was."""
        self._clock = clock
        self._allowed = allowed
        self.began = self._last = self._mark = clock.monotonic()
        self._moved_at_mark = 0

    def progress(self, moved: int) -> None:
        """Take notice of the bytes moved so far."""
        if moved == self.moved:
            return
        now = self._clock.monotonic()
        if moved < self.moved or not self.moved:
            # the first byte, or the first again
            self._mark, self._moved_at_mark = now, moved
        self.moved = moved
        self._last = now

    def look_at(self, limits: Limits) -> float:
        """Return when there is something to be seen of it next, unless it moves."""
        if self.too_slow:
            return self.called_off + limits.grace
        soon = min(self._last + self._patience(limits), self.began + self._allowed + limits.grace)
        return min(soon, self._mark + WINDOW) if limits.slowest and self.moved else soon

    def fault(self, now: float, limits: Limits) -> str:
        """Return why it is too slow, empty if it is not."""
        quiet = now - self._last
        if quiet >= self._patience(limits):
            done = f"{self.moved} of {self.transfer.size if self.transfer.size is not None else '?'} bytes"
            return f"{self._what()}: no byte moved for {quiet:.0f} s, at {done}"
        if now >= self.began + self._allowed + limits.grace:
            return (
                f"{self._what()}: not moved within the {self._allowed:.0f} s allowed for it, nor given up by its stager"
            )
        seconds = now - self._mark
        if not limits.slowest or seconds < WINDOW:
            return ""
        moved = self.moved - self._moved_at_mark
        self._mark, self._moved_at_mark = now, self.moved
        if not self._is_in_the_middle() or moved >= limits.slowest * seconds:
            return ""
        return (
            f"{self._what()}: only {moved} bytes moved in {seconds:.0f} s; below {limits.slowest:.0f} bytes a second "
            "it is given up"
        )

    def seen(self, now: float) -> TransferProgress:
        """Return what can be told of it."""
        return TransferProgress(
            lfn=self.transfer.lfn,
            backend=self.stager.name,
            rse=self.replica.rse,
            bytes=self.moved,
            size=self.transfer.size,
            seconds=max(0.0, now - self.began),
        )

    def _what(self) -> str:
        return shown_url(self.replica.url)

    def _is_in_the_middle(self) -> bool:
        return self.moved > 0 and self.moved != self.transfer.size

    def _patience(self, limits: Limits) -> float:
        """Return for how many seconds no byte need move: before the first and after the last there is work to do."""
        return limits.stall if self._is_in_the_middle() else max(limits.stall, START_ALLOWANCE)


class Lane:
    """Where files move one after the other. Its token calls off what is under way, and nothing that comes later.

    The token is the lane's own, so that single transfers can be called off, or the job's.
    """

    def __init__(self, job: CancelToken, *, own: bool) -> None:
        self.job = job
        """The token of the whole job."""
        self.token = CancelToken() if own else job
        self.owned = own
        """Whether the token is the lane's own."""
        self.played = False
        """Whether what is on it took place already: in a replay, what was begun then begins now, come what may."""
        self._stopped = ""
        self._lock = threading.Lock()
        self.attempt: Attempt | None = None

    def begin(self, attempt: Attempt) -> None:
        """Have an attempt under way."""
        with self._lock:
            self.attempt = attempt

    def end(self) -> None:
        """Have none any more."""
        with self._lock:
            self.attempt = None
            if self.owned and not self._stopped and self.token.cancelled:
                self.token = CancelToken()

    def raise_if_stopped(self) -> None:
        """Raise `Cancelled` if nothing may begin any more."""
        if not self.played:
            self.job.raise_if_cancelled()
            self.token.raise_if_cancelled()

    def pause(self, clock: Clock, until: float) -> None:
        """Wait; raises `Cancelled` as soon as nothing may begin any more."""
        tokens = (self.job, self.token) if self.owned else (self.job,)
        if clock.wait(*tokens, until=until) or self._stopped:
            raise Cancelled(self._stopped or self.job.reason or self.token.reason)

    def stop(self, reason: str) -> None:
        """Call off what is under way, and let nothing begin any more."""
        with self._lock:
            self._stopped = reason
            if self.owned:
                self.token.cancel(reason)

    def judge(self, now: float, limits: Limits) -> None:
        """Call off what is under way if it is too slow."""
        with self._lock:
            attempt = self.attempt
            if attempt is None or attempt.too_slow:
                return
            attempt.too_slow = attempt.fault(now, limits)
            if attempt.too_slow:
                attempt.called_off = now
                self.token.cancel(attempt.too_slow)
