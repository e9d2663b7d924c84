"""The built-in watchdogs: limits with the defaults and error codes of PanDA Pilot 3. Plugins like any other.

Only their settings are defined here; what looks is imported when a watchdog is made. No module below may be called like
one of the plugins, whose place in this package it would take.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from pilot_core import Provider, hookimpl
from pilot_core.builtin.watchdogs import settings as s

if TYPE_CHECKING:
    from pilot_core import Context, Watchdog

__all__ = [
    "cpu_time",
    "credential",
    "disk_space",
    "looping",
    "memory",
    "output_size",
    "processes",
    "stdout_size",
    "wall_time",
    "work_dir",
]


class _Offer:
    """The plugin of one watchdog."""

    def __init__(self, name: str, settings: type, module: str, class_name: str) -> None:
        self._name = name
        self._settings = settings
        self._module = f"{__name__}.{module}"
        self._class = class_name

    @hookimpl
    def pilot_watchdogs(self) -> Iterator[Provider[Watchdog]]:
        """Offer the watchdog."""
        yield Provider(name=self._name, factory=self._make, settings=self._settings)

    def _make(self, settings: Any, context: Context) -> Watchdog:
        return cast("Watchdog", getattr(import_module(self._module), self._class)(settings, context))


wall_time = _Offer("wall-time", s.WallTimeSettings, "times", "WallTime")
cpu_time = _Offer("cpu-time", s.CpuTimeSettings, "times", "CpuTime")
memory = _Offer("memory", s.MemorySettings, "memory_use", "Memory")
work_dir = _Offer("work-dir", s.WorkDirSettings, "disk", "WorkDir")
disk_space = _Offer("disk-space", s.DiskSpaceSettings, "disk", "DiskSpace")
stdout_size = _Offer("stdout-size", s.StdoutSizeSettings, "disk", "StdoutSize")
output_size = _Offer("output-size", s.OutputSizeSettings, "disk", "OutputSize")
looping = _Offer("looping", s.LoopingSettings, "activity", "Looping")
processes = _Offer("processes", s.ProcessesSettings, "activity", "Processes")
credential = _Offer("credential", s.CredentialSettings, "lifetime", "CredentialLifetime")
