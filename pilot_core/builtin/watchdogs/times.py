"""Wall time and CPU time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core import PilotErrorCode, Violation
from pilot_core.builtin.watchdogs.base import Looks
from pilot_core.builtin.watchdogs.limits import grace
from pilot_core.builtin.watchdogs.settings import CpuTimeSettings, WallTimeSettings

if TYPE_CHECKING:
    from pilot_core import Watched

__all__ = ["CpuTime", "WallTime"]


class WallTime(Looks[WallTimeSettings]):
    """Ends a payload that runs for too long, or that would outlive the pilot's own time in its batch slot."""

    def check(self, watched: Watched) -> Violation | None:
        """Look at the clock."""
        settings, used = self._settings, watched.now - watched.started
        slot = watched.queue.number("maxtime")
        whose = "the queue's maxtime" if slot else "slot_seconds"
        slot = slot or settings.slot_seconds
        own = watched.job.max_wall_seconds if settings.job_limit else 0
        begun = watched.started if watched.pilot_started is None else watched.pilot_started
        slot = max(1.0, slot - settings.reserve_seconds) if slot else 0.0
        if watched.started - begun >= slot:
            slot = 0.0  # it was over when the payload began: nothing is saved by an end of that
        limits = (
            (used, settings.limit_seconds, "limit_seconds"),
            (used, own * grace(watched.queue, "pilot_walltime_grace", settings.grace_percent), "the job's maxWalltime"),
            (watched.now - begun, slot, f"{whose}, from the pilot's start"),
        )
        for value, limit, why in limits:
            if limit and value > limit:
                return Violation(
                    error_code=PilotErrorCode.REACHEDMAXTIME,
                    message=f"wall time {value:.1f} s of {limit:.0f} s ({why})",
                )
        return None


class CpuTime(Looks[CpuTimeSettings]):
    """Ends a payload that has used more CPU time than it may."""

    def check(self, watched: Watched) -> Violation | None:
        """Add up the CPU time of all processes, those that have ended and were waited for included."""
        settings, job = self._settings, watched.job
        limit, why = float(settings.limit_seconds), "limit_seconds"
        if not limit and settings.job_limit:
            factor = 1.0 + settings.grace_percent / 100.0
            cores = max(1, job.core_count)
            limit, why = job.max_cpu_seconds * cores * factor, f"{factor:g} times the job's maxCpuCount, {cores} cores"
        if not limit:
            return None
        used = watched.processes.cpu_seconds
        rate = self._trend.seen(watched, used)
        if used <= limit:
            return None
        at = "" if rate is None else f", {rate / 60:.1f} cores busy"
        return Violation(
            error_code=PilotErrorCode.SIGXCPU, message=f"CPU time {used:.2f} s of {limit:.0f} s ({why}){at}"
        )
