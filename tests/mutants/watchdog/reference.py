"""A correct watchdog: the size of the job's directory."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from pilot_core import Provider, Violation, hookimpl, setting


@dataclass(frozen=True)
class SizeSettings:
    limit_kb: int = setting(1000, help="largest size of the job's directory, kB", minimum=1)


class SizeWatchdog:
    """Adds up the files, follows no link."""

    interval = 60.0

    def __init__(self, settings, context):
        self.limit = settings.limit_kb * 1000
        self.log = context.log

    def check(self, watched):
        size = self.size(os.fsencode(watched.job_dir))
        if size <= self.limit:
            return None
        return self.violation(watched, size)

    def violation(self, watched, size):
        return Violation(error_code=1106, message=f"the job's directory has {size} bytes, limit {self.limit} bytes")

    def size(self, folder):
        total = 0
        for parent, _, names in os.walk(folder):
            for name in names:
                try:
                    status = os.lstat(os.path.join(parent, name))
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    total += status.st_size
        return total


class Plugin:
    """The plugin, as an object; faulty ones have another watchdog."""

    def __init__(self, dog=SizeWatchdog):
        self.dog = dog

    @hookimpl
    def pilot_watchdogs(self):
        yield Provider(name="size", factory=self.dog, settings=SizeSettings)
