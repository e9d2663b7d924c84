"""What a site can set of the built-in watchdogs: `[watchdog.NAME]`, or `[queues.Q.watchdogs.NAME]` for one queue.

Defaults are those of PanDA Pilot 3 (3.11.5.1: `util/default.cfg`, `util/monitoring.py`, `control/monitor.py`), where it
has that limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilot_core import setting

__all__ = [
    "CpuTimeSettings",
    "CredentialSettings",
    "DiskSpaceSettings",
    "LoopingSettings",
    "MemorySettings",
    "OutputSizeSettings",
    "ProcessesSettings",
    "StdoutSizeSettings",
    "WallTimeSettings",
    "WorkDirSettings",
]


@dataclass(frozen=True)
class WallTimeSettings:
    """Settings of `watchdog.wall-time`."""

    limit_seconds: int = setting(0, help="longest run of a payload, seconds; 0 = what job and queue say", minimum=0)
    job_limit: bool = setting(True, help="hold payloads to the job's own limit (maxWalltime)")
    grace_percent: float = setting(
        0.0, help="what the job's limit may be passed by, per cent; a queue's pilot_walltime_grace wins", minimum=0
    )
    slot_seconds: int = setting(
        324_000, help="the pilot's time, seconds, where the queue's maxtime does not say; 0 = no end", minimum=0
    )
    reserve_seconds: int = setting(
        180, help="seconds before the end of the pilot's time at which the payload is ended", minimum=0
    )
    interval: float = setting(60.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class CpuTimeSettings:
    """Settings of `watchdog.cpu-time`."""

    limit_seconds: int = setting(
        0, help="most CPU time of all processes together, seconds; 0 = what the job says", minimum=0
    )
    job_limit: bool = setting(True, help="hold payloads to the job's own limit (maxCpuCount, for each core)")
    grace_percent: float = setting(100.0, help="what the job's limit may be passed by, per cent", minimum=0)
    interval: float = setting(60.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class MemorySettings:
    """Settings of `watchdog.memory`."""

    limit_mb: int = setting(0, help="most memory (PSS) of all processes together, MB; 0 = what follows", minimum=0)
    grace_percent: float = setting(
        100.0,
        help="what the job's or the queue's share of memory may be passed by, per cent; a queue's pilot_rss_grace wins",
        minimum=0,
    )
    per_core_mb: int = setting(
        4001, help="MB for each core, where neither job (minRamCount) nor queue (maxrss) say; 0 = no limit", minimum=0
    )
    interval: float = setting(60.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class WorkDirSettings:
    """Settings of `watchdog.work-dir`."""

    limit_mb: int = setting(0, help="largest job directory, MB; 0 = what queue (maxwdir) or job say", minimum=0)
    grace_percent: float = setting(
        20.0,
        help="what queue's or job's limit may be passed by, per cent; a queue's pilot_maxwdir_grace wins",
        minimum=0,
    )
    interval: float = setting(60.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class DiskSpaceSettings:
    """Settings of `watchdog.disk-space`."""

    limit_mb: int = setting(1024, help="least free space in the work directory, MB", minimum=0)
    interval: float = setting(60.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class StdoutSizeSettings:
    """Settings of `watchdog.stdout-size`."""

    limit_kb: int = setting(2_097_152, help="largest standard output, and standard error, kB", minimum=1)
    interval: float = setting(60.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class OutputSizeSettings:
    """Settings of `watchdog.output-size`."""

    limit_mb: int = setting(512_000, help="largest output file, MB", minimum=1)
    interval: float = setting(60.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class LoopingSettings:
    """Settings of `watchdog.looping`."""

    limit_seconds: int = setting(
        7200, help="longest time without a file written and without CPU time used, seconds", minimum=1
    )
    cpu_percent: float = setting(
        1.0, help="CPU time, per cent of one core, up to which a payload counts as doing nothing", minimum=0
    )
    interval: float = setting(900.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class ProcessesSettings:
    """Settings of `watchdog.processes`."""

    limit: int = setting(0, help="most processes and threads of a payload; 0 = no limit", minimum=0)
    interval: float = setting(60.0, help="seconds between two looks", minimum=0.1)


@dataclass(frozen=True)
class CredentialSettings:
    """Settings of `watchdog.credential`."""

    least_seconds: int = setting(
        3600, help="least lifetime left of the pilot's X.509 credential, seconds; 0 = until it has ended", minimum=0
    )
    interval: float = setting(600.0, help="seconds between two looks", minimum=0.1)
