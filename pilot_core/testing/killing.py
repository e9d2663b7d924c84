"""Killing a pilot at a point of its journal, for tests of what the next pilot makes of that."""

from __future__ import annotations

import os
import signal
import threading

from pilot_core.errors import BadInput
from pilot_core.journal.points import MOMENTS, POINTS, Hook
from pilot_core.settings import did_you_mean

__all__ = ["kill_at"]


def kill_at(text: str) -> Hook:
    """Return what kills this process with SIGKILL at `POINT:MOMENT` or `POINT:MOMENT:N`, the Nth time it comes there.

    Points are those of `pilot_core.journal.points`; moments are before (the write), after (it) and effect (all that it
    led to, up to the next write or the end). Raises `BadInput`.
    """
    point, _, rest = text.partition(":")
    moment, _, number = rest.partition(":")
    if point not in POINTS or moment not in MOMENTS or not (number or "1").isdecimal():
        hint = did_you_mean(point, POINTS) if point not in POINTS else ""
        raise BadInput(f"--kill-at {text}: has to be POINT:{'|'.join(MOMENTS)}, or the same with :N after it{hint}")
    left = [int(number or 1)]
    lock = threading.Lock()

    def hear(heard: str, when: str) -> None:
        if (heard, when) != (point, moment):
            return
        with lock:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hear
