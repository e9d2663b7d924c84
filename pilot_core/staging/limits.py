"""How long a transfer may take, how slow it may be, and how many run at once: numbers and pure functions."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["START_ALLOWANCE", "UNKNOWN_SIZE_ALLOWANCE", "WINDOW", "Limits", "Rates", "time_allowed"]

SLOWEST_RATE = 256 * 1024
"""Bytes a second, on the average of a whole file, below which its transfer is given up."""
START_ALLOWANCE = 600.0
"""Seconds that every transfer may take on top: for tapes to turn and servers to wake before the first byte, and for
storages that compute a checksum after the last one."""
UNKNOWN_SIZE_ALLOWANCE = 43_200.0
"""Seconds for a file whose size nobody knows; that it stalls or drips is noticed long before."""
SLOWDOWN = 50.0
"""A storage may be this many times slower than it was with the job's other files, and no more."""
LEAST_OBSERVED = 8 << 20
"""Bytes that a transfer must have moved to say something about its storage's rate."""
WINDOW = 300.0
"""Seconds over which the rate of a transfer that is under way is looked at."""


def time_allowed(size: int | None, rate: float = 0.0) -> float:
    """Return the seconds that one attempt to move a file of `size` bytes may take.

    `rate` is what was observed with the same storage, bytes a second; 0 = nothing was. A fast storage gets less time,
    never less than a fiftieth of its rate needs, and a slow one never less than 256 KiB a second need.
    """
    if size is None:
        return UNKNOWN_SIZE_ALLOWANCE
    return START_ALLOWANCE + size / max(SLOWEST_RATE, rate / SLOWDOWN)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What bounds a job's transfers."""

    transfers: int = 4
    """How many run at the same time.

    Four hide the round trips of small files and cost large ones nothing. Measured over HTTP on two cores: 60 files of
    64 KiB with a round trip of 20 ms take 1.7 s one by one, 0.43 s by four, 0.27 s by eight; 8 files of 64 MiB without
    any delay take 1.2 s one by one, 1.3 s by four, 1.8 s by sixteen. What more would bring is the site's other jobs'.
    """
    stall: float = 300.0
    """Seconds without a byte after which a transfer that has begun is given up; before the first byte and after the
    last it is `START_ALLOWANCE`."""
    slowest: float = 32 * 1024
    """Bytes a second, over `WINDOW`, below which a transfer that is under way is given up; 0 = never."""
    grace: float = 30.0
    """Seconds that a stager has to end a transfer that was called off; it should need one."""


class Rates:
    """What storages were seen to give, by backend and RSE. Safe in several threads: each entry is one value."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], float] = {}

    def observe(self, backend: str, rse: str, size: int, seconds: float) -> None:
        """Take notice of a transfer; small ones say nothing."""
        if size < LEAST_OBSERVED or seconds <= 0:
            return
        before = self._seen.get((backend, rse))
        rate = size / seconds
        self._seen[backend, rse] = rate if before is None else (before + rate) / 2

    def of(self, backend: str, rse: str) -> float:
        """Return the rate in bytes a second, 0 if nothing is known."""
        return self._seen.get((backend, rse), 0.0)
