"""How a violation is told: value and limit in the same unit, and the trend."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from pilot_core import Watched

__all__ = ["Memories", "Trend", "size", "sizes", "span"]

T = TypeVar("T")

MOST_JOBS = 64
"""Jobs that a watchdog remembers at a time."""
SAMPLES = 6
"""Looks over which a trend is taken."""
_UNITS = (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024), ("bytes", 1))


class Memories(Generic[T]):
    """What a watchdog remembers, job by job; the least recently seen job is forgotten first. Safe in any thread."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, float], T] = OrderedDict()

    def of(self, watched: Watched) -> T:
        """Return what is remembered of a payload, new if that is nothing."""
        key = (watched.job.id, watched.started)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._make()
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_JOBS:
                self._kept.popitem(last=False)
            return self._kept[key]


class Trend:
    """How fast a value of each job grows."""

    def __init__(self) -> None:
        self._samples: Memories[deque[tuple[float, float]]] = Memories(lambda: deque(maxlen=SAMPLES))

    def seen(self, watched: Watched, value: float) -> float | None:
        """Note a value and return how much it grows in a minute; None if there is nothing to compare it with."""
        samples = self._samples.of(watched)
        samples.append((watched.now, value))
        (then, before), *_ = list(samples)
        if watched.now <= then:
            return None
        return (value - before) / (watched.now - then) * 60.0

    def told(self, watched: Watched, value: float) -> str:
        """Return `, growing 120 MB/min` for a number of bytes that was just seen; empty if nothing can be said."""
        rate = self.seen(watched, value)
        if rate is None:
            return ""
        if abs(rate) < 1024:
            return ", steady"
        return f", {'growing' if rate > 0 else 'shrinking'} {size(abs(rate))}/min"


def size(amount: float) -> str:
    """Return a number of bytes in the unit that fits: `120 MB`."""
    unit, factor = next((unit for unit in _UNITS if amount >= unit[1]), _UNITS[-1])
    scaled = amount / factor
    return f"{scaled:.0f} {unit}" if scaled >= 100 or factor == 1 else f"{scaled:.1f} {unit}"


def sizes(value: float, limit: float) -> str:
    """Return `4.2 GB of 4.0 GB`: both in the limit's unit, with as many digits as tell them apart."""
    unit, factor = next((unit for unit in _UNITS if limit >= unit[1]), _UNITS[-1])
    for digits in (1, 2, 3, 6):
        first, second = f"{value / factor:.{digits}f}", f"{limit / factor:.{digits}f}"
        if first != second:
            break
    return f"{first} {unit} of {second} {unit}"


def span(seconds: float) -> str:
    """Return a time: `90 s`, `2 h 30 min`."""
    whole = round(seconds)
    if whole < 600:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
