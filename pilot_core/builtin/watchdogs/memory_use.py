"""Memory: what all processes of a payload take together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core import PilotErrorCode, Violation
from pilot_core.builtin.watchdogs.base import Looks
from pilot_core.builtin.watchdogs.limits import MB, grace, memory_share
from pilot_core.builtin.watchdogs.settings import MemorySettings
from pilot_core.builtin.watchdogs.telling import sizes

if TYPE_CHECKING:
    from pilot_core import Watched

__all__ = ["Memory"]

STEP = 1000
"""MB to which a job's own wish is rounded up, as PanDA's brokerage and Pilot 3 do."""


class Memory(Looks[MemorySettings]):
    """Ends a payload that takes more memory than it may.

    The measure is PSS, in which memory that several processes share counts once. The kernel takes its time to find it,
    so it is only asked for where the resident memory, which is never less and known at once, is beyond the limit.
    """

    def check(self, watched: Watched) -> Violation | None:
        """Add up the processes' memory."""
        limit, why = self._limit(watched)
        if not limit:
            return None
        used = watched.processes.rss_kb * 1024
        if used > limit:
            used = watched.processes.pss_kb() * 1024
        trend = self._trend.told(watched, used)
        if used <= limit:
            return None
        return Violation(
            error_code=PilotErrorCode.PAYLOADEXCEEDMAXMEM, message=f"memory {sizes(used, limit)} ({why}){trend}"
        )

    def _limit(self, watched: Watched) -> tuple[float, str]:
        """Return the limit in bytes, 0 for none, and where it is from."""
        settings, job, queue = self._settings, watched.job, watched.queue
        if settings.limit_mb:
            return settings.limit_mb * MB, "limit_mb"
        own = -(-job.memory_mb // STEP) * STEP
        share = memory_share(queue, job)
        base, whose = max((own, "the job's minRamCount"), (share, "the queue's maxrss"))
        if not base:
            base, whose = settings.per_core_mb * max(1, job.core_count), f"{settings.per_core_mb} MB a core"
        factor = grace(queue, "pilot_rss_grace", settings.grace_percent)
        return base * factor * MB, f"{factor:g} times {whose}"
