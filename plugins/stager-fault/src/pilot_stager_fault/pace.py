"""Transfers that are slow or stand still: their progress is held up, in the thread that moves the bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilot_core import CancelToken, Deadline
    from pilot_stager_fault.grammar import StorageFault

__all__ = ["Pace"]


class Pace:
    """Takes the place of a request's `progress`. It only waits: what ends the transfer is the other stager's to see."""

    def __init__(
        self,
        faults: Sequence[StorageFault],
        progress: Callable[[int], None],
        cancel: CancelToken,
        deadline: Deadline,
    ) -> None:
        self._rates = [fault.values["rate"] for fault in faults if fault.kind.name == "slow"]
        self._stalls = [fault.values["bytes"] for fault in faults if fault.kind.name == "stall"]
        self._progress = progress
        self._cancel = cancel
        self._deadline = deadline
        self._clock = deadline.clock
        self._begun = self._clock.monotonic()
        self.stalled = False
        """Whether it stood still: such a transfer must not succeed."""

    @property
    def stalls(self) -> bool:
        """Whether it is to stand still sooner or later."""
        return bool(self._stalls)

    def __call__(self, moved: int) -> None:
        """Hear of bytes that were moved, and wait as long as the faults want."""
        self._progress(moved)
        if self._stalls and moved >= min(self._stalls):
            self.stand_still()
        elif self._rates:
            until = self._begun + moved / min(self._rates)
            self._clock.wait(self._cancel, until=min(until, self._deadline.at))

    def stand_still(self) -> None:
        """Wait until the transfer is called off or its time is up."""
        self.stalled = True
        self._deadline.wait(self._cancel)
