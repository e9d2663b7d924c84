"""Disk: the job's directory, the space left, standard output, output files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pilot_core import PilotErrorCode, Violation
from pilot_core.builtin.watchdogs.base import Looks
from pilot_core.builtin.watchdogs.limits import MB, disk_share, grace
from pilot_core.builtin.watchdogs.settings import (
    DiskSpaceSettings,
    OutputSizeSettings,
    StdoutSizeSettings,
    WorkDirSettings,
)
from pilot_core.builtin.watchdogs.telling import sizes

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core import Watched

__all__ = ["DiskSpace", "OutputSize", "StdoutSize", "WorkDir"]


class WorkDir(Looks[WorkDirSettings]):
    """Ends a payload whose directory takes more of the disk than it may."""

    def check(self, watched: Watched) -> Violation | None:
        """Add up what lies in the directory."""
        settings, job, queue = self._settings, watched.job, watched.queue
        limit, why = settings.limit_mb * MB, "limit_mb"
        if not limit:
            share = disk_share(queue, job)
            whose = "the queue's maxwdir" if share else "the job's maxDiskCount"
            factor = grace(queue, "pilot_maxwdir_grace", settings.grace_percent)
            limit, why = int((share or job.disk_mb) * factor * MB), f"{factor:g} times {whose}"
        if not limit:
            return None
        used = watched.disk_use.size
        trend = self._trend.told(watched, used)
        if used <= limit:
            return None
        return Violation(
            error_code=PilotErrorCode.USERDIRTOOLARGE, message=f"job directory {sizes(used, limit)} ({why}){trend}"
        )


class DiskSpace(Looks[DiskSpaceSettings]):
    """Ends a payload before the disk is so full that neither its outputs nor its log have room."""

    def check(self, watched: Watched) -> Violation | None:
        """Ask the file system; a directory that is not there has no file system."""
        limit = self._settings.limit_mb * MB
        try:
            found = os.statvfs(watched.job_dir)
        except (OSError, ValueError):
            return None
        if not limit or not found.f_blocks or not stat.S_ISDIR(_mode(watched.job_dir)):
            return None
        free = found.f_bavail * found.f_frsize
        trend = self._trend.told(watched, free)
        if free >= limit:
            return None
        return Violation(
            error_code=PilotErrorCode.NOLOCALSPACE,
            message=f"free disk space {sizes(free, limit)} that have to be left (limit_mb){trend}; make room, or let "
            "the job ask for more (maxDiskCount)",
        )


class StdoutSize(Looks[StdoutSizeSettings]):
    """Ends a payload that writes too much to its standard output or standard error."""

    def check(self, watched: Watched) -> Violation | None:
        """Look at the two files."""
        limit = self._settings.limit_kb * 1024
        found = [(_size(watched.job_dir / f"payload.{name}"), name) for name in ("stdout", "stderr")]
        value, name = max(found)
        trend = self._trend.told(watched, value)
        if value <= limit:
            return None
        return Violation(
            error_code=PilotErrorCode.STDOUTTOOBIG, message=f"payload.{name} {sizes(value, limit)} (limit_kb){trend}"
        )


class OutputSize(Looks[OutputSizeSettings]):
    """Ends a payload that makes an output file which is too large to be stored."""

    def check(self, watched: Watched) -> Violation | None:
        """Look at the job's output files; one that is empty or not there may still come."""
        limit = self._settings.limit_mb * MB
        names = [file.lfn for file in watched.job.outputs if "/" not in file.lfn and "\0" not in file.lfn]
        value, name = max(((_size(watched.job_dir / name), name) for name in names), default=(0, ""))
        trend = self._trend.told(watched, value)
        if value <= limit:
            return None
        shown = name if name.isprintable() and len(name) <= 255 else ascii(name[:200])
        return Violation(
            error_code=PilotErrorCode.OUTPUTFILETOOLARGE,
            message=f"output {shown} {sizes(value, limit)} (limit_mb){trend}",
        )


def _mode(path: Path) -> int:
    """Return what a path is; 0 if it is not there."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _size(path: Path) -> int:
    """Return the size of a plain file, links not followed; 0 if it is none or is not there."""
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
