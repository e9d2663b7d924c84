"""How long a request may wait: until it is called off, its time is up, or nothing has moved for too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_core.errors import TransferTimeout, TransientError

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.clock import Waitable

__all__ = ["ConnectionLost", "Patience"]


class ConnectionLost(TransientError):
    """A connection ended, or was reset, before the answer was whole: the rest may be asked for on a new one."""


@dataclass(frozen=True)
class Patience:
    """What ends a wait besides the thing that is waited for."""

    cancel: CancelToken
    deadline: Deadline
    silence: float
    """Seconds without a single byte after which the other side is given up."""
    what: str
    """The file or place, for messages."""

    def check(self) -> None:
        """Raise `Cancelled` or `TransferTimeout` if it is time to stop."""
        self.cancel.raise_if_cancelled()
        self.deadline.raise_if_passed(self.what)

    def wait(self, thing: Waitable) -> None:
        """Return when a thing is ready; raises `Cancelled` and `TransferTimeout`."""
        if not self.wait_for(thing, self.silence):
            raise TransferTimeout(f"{self.what}: nothing moved for {self.silence:g} s")

    def wait_for(self, thing: Waitable, seconds: float) -> bool:
        """Say whether a thing is ready within `seconds`; raises `Cancelled`, and `TransferTimeout` at the deadline."""
        clock, at = self.deadline.clock, self.deadline.at
        ready = clock.wait(thing, self.cancel, until=min(at, clock.monotonic() + seconds))
        self.check()
        return ready
