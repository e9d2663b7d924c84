"""What the processes do: whether they do anything, and how many there are."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pilot_core import PilotErrorCode, Violation
from pilot_core.builtin.watchdogs.base import Looks
from pilot_core.builtin.watchdogs.settings import LoopingSettings, ProcessesSettings
from pilot_core.builtin.watchdogs.telling import Memories, span

if TYPE_CHECKING:
    from pilot_core import Context, DiskUse, Watched

__all__ = ["Looping", "Processes"]


class _Last:
    """The last signs of life of one payload."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files: DiskUse | None = None
        """What lay in its directory; None = it was not looked at yet."""
        self.since = 0.0
        """Monotonic time of the last sign of life."""
        self.cpu = 0.0
        """CPU seconds used by then."""


class Looping(Looks[LoopingSettings]):
    """Ends a payload that does nothing any more: no file in its directory changes, and no CPU time is used.

    Pilot 3 looks at the files alone, and ends payloads that compute for hours between two writes.
    """

    def __init__(self, settings: LoopingSettings, context: Context) -> None:
        super().__init__(settings, context)
        self._last: Memories[_Last] = Memories(_Last)

    def check(self, watched: Watched) -> Violation | None:
        """Compare files and CPU time with those of the last sign of life."""
        if not watched.job.looping_check:
            return None
        limit, share = self._settings.limit_seconds, self._settings.cpu_percent / 100.0
        files, cpu, last = watched.disk_use, watched.processes.cpu_seconds, self._last.of(watched)
        with last.lock:
            if last.files is None:
                # what was before the first look is not known, but nobody saw anything later than that
                last.files, last.since, last.cpu = files, watched.now, cpu
            quiet, used = watched.now - last.since, cpu - last.cpu
            if files != last.files or used > share * quiet + 0.05:
                last.files, last.since, last.cpu = files, watched.now, cpu
                return None
        if quiet <= limit:
            return None
        return Violation(
            error_code=PilotErrorCode.LOOPINGJOB,
            message=f"nothing done for {quiet:.0f} s of {limit} s (limit_seconds): in {span(quiet)} no file written, "
            f"{used:.2f} s of CPU time used",
        )


class Processes(Looks[ProcessesSettings]):
    """Ends a payload that has too many processes and threads."""

    def check(self, watched: Watched) -> Violation | None:
        """Count them."""
        limit = self._settings.limit
        if not limit:
            return None
        found = watched.processes.below
        value = sum(max(1, process.threads) for process in found)
        rate = self._trend.seen(watched, value)
        if value <= limit:
            return None
        trend = "" if rate is None else f", {rate:+.0f}/min"
        return Violation(
            error_code=PilotErrorCode.RESOURCEUNAVAILABLE,
            message=f"{value} threads of {limit} (limit), in {len(found)} processes{trend}",
        )
