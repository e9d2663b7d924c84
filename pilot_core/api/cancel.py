"""Cancellation and deadlines, handed to every provider method that can take long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event
from pilot_core.errors import Cancelled, TransferTimeout

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock, Waitable

__all__ = ["CancelToken", "Deadline"]


class CancelToken:
    """Says that the work should stop, and why; pollable, and set at most once.

    A provider checks it between blocks of work (`raise_if_cancelled`) or waits on it together with whatever
    else it waits for (`clock.wait(token, socket)`), so that cancellation takes effect within a second.
    """

    def __init__(self) -> None:
        self._event = Event()
        self._reasons: list[str] = []

    def cancel(self, reason: str) -> None:
        """Ask for the end of the work; the first reason is kept. Safe in any thread and in a signal handler."""
        # appending needs no lock, which a signal handler could not wait for
        self._reasons.append(reason)
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work should stop."""
        return self._event.is_set()

    @property
    def reason(self) -> str:
        """Why, in a few words; empty while nothing was cancelled."""
        return self._reasons[0] if self._reasons else ""

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` with the reason if the work should stop."""
        if self._event.is_set():
            raise Cancelled(self.reason)

    def fileno(self) -> int:
        """Return a descriptor that is readable once the token is cancelled."""
        return self._event.fileno()


@dataclass(frozen=True)
class Deadline:
    """A point on the injected clock's monotonic scale by which a call must have returned."""

    clock: Clock
    at: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        """Make the deadline that lies `seconds` from now."""
        return cls(clock, clock.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.clock.monotonic() >= self.at

    def raise_if_passed(self, what: str) -> None:
        """Raise `TransferTimeout` naming `what` if the time is up."""
        if self.passed:
            raise TransferTimeout(f"{what}: the time allowed for it is used up")

    def wait(self, *things: Waitable) -> bool:
        """Wait for any of the things, at most until the deadline; True when one is ready."""
        return self.clock.wait(*things, until=self.at)
