"""Which pilot owns a record, and whether it still lives.

A pilot is known by its pid and its start time on one boot of one machine; a pid alone comes again.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pilot_core.api.processes import ProcessInfo

__all__ = ["PilotProcess"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PIDS = Path("/proc/self/ns/pid")


@dataclass(frozen=True, kw_only=True)
class PilotProcess:
    """One pilot's process."""

    host: str
    boot: str
    """The kernel's random name of the machine's boot."""
    pids: str
    """The pid namespace: in another one the pid is another process's, or nobody's."""
    pid: int
    start_time: int
    """Clock ticks after the boot."""

    @classmethod
    def this(cls) -> PilotProcess:
        """Return this process."""
        me = ProcessInfo.of(os.getpid())
        boot = pids = ""
        with suppress(OSError):
            boot, pids = _BOOT.read_text(encoding="ascii").strip(), str(_PIDS.readlink())
        start_time = me.start_time if me else 0
        return cls(host=socket.gethostname(), boot=boot, pids=pids, pid=os.getpid(), start_time=start_time)

    def has_ended(self, other: PilotProcess) -> bool:
        """Say, as this process, whether another one has surely ended.

        One on another machine, or in a container of this one that cannot be looked into, may live: nobody can know.
        """
        if other.boot != self.boot:
            return other.host == self.host
        if other.pids != self.pids:
            return False
        found = ProcessInfo.of(other.pid)
        return found is None or found.start_time != other.start_time or not found.lives
