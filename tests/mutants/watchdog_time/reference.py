"""A correct watchdog that remembers: a payload whose standard output did not grow for too long."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from pilot_core import Provider, Violation, hookimpl, setting


@dataclass(frozen=True)
class SilenceSettings:
    limit_seconds: float = setting(7200.0, help="longest time without output, seconds", minimum=1)


class SilenceWatchdog:
    """Remembers, job by job, how long the output was and since when."""

    interval = 60.0

    def __init__(self, settings, context):
        self.limit = settings.limit_seconds
        self.clock = context.clock
        self.lock = threading.Lock()
        self.last = {}

    def check(self, watched):
        size = self.size(watched)
        with self.lock:
            known, since = self.last.get(self.key(watched), (-1, watched.now))
            if size != known:
                since = watched.now
            self.last[self.key(watched)] = (size, since)
        silent = self.now(watched) - since
        if not self.passed(silent):
            return None
        return Violation(error_code=1150, message=f"no output for {silent:.0f} s, limit {self.limit:.0f} s")

    def key(self, watched):
        return watched.job.id

    def now(self, watched):
        return watched.now

    def passed(self, silent):
        return silent > self.limit

    def size(self, watched):
        try:
            return os.lstat(watched.job_dir / "payload.stdout").st_size
        except OSError:
            return 0


class Plugin:
    """The plugin, as an object; faulty ones have another watchdog."""

    def __init__(self, dog=SilenceWatchdog):
        self.dog = dog

    @hookimpl
    def pilot_watchdogs(self):
        yield Provider(name="silence", factory=self.dog, settings=SilenceSettings)
