"""The processes of a payload on this machine, as /proc shows them: what watchdogs count, add up and list.

Fields are those of proc(5); nothing here changes or signals a process.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["ProcessInfo", "ProcessTree"]

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class ProcessInfo(NamedTuple):
    """One process, from /proc/<pid>/stat."""

    pid: int
    start_time: int
    """Clock ticks after the boot; pid and start time together name a process for good."""
    parent: int
    state: str
    """One letter: R running, S sleeping, Z zombie, T stopped ..."""
    name: str
    """The program's name, at most 15 bytes: the process itself chooses it."""
    cpu_seconds: float
    """User and system time of the process itself."""
    waited_seconds: float
    """The same of its children that have ended and that it has waited for."""
    threads: int
    rss_kb: int
    """Resident memory, kB; what processes share counts in each of them."""

    @classmethod
    def of(cls, pid: int) -> ProcessInfo | None:
        """Look at one process; None if there is none."""
        return _read(pid)

    @property
    def lives(self) -> bool:
        """Whether it can still do something: it is no zombie."""
        return self.state not in {"Z", "X", "x"}


@dataclass(frozen=True)
class ProcessTree:
    """A process and all that live below it, as they were at one moment."""

    root: ProcessInfo | None
    """The process above the payload's own (a supervisor); None if it is not there any more."""
    below: tuple[ProcessInfo, ...] = ()
    """The payload's processes that are no zombies, parents before their children."""

    @classmethod
    def of(cls, pid: int, start_time: int) -> ProcessTree:
        """Look at a process and those below it; empty if it has ended, even if another has its pid now.

        One pass over /proc: some 8 microseconds for each process of the machine.
        """
        root = _read(pid)
        if root is None or root.start_time != start_time:
            return cls(None)
        below: defaultdict[int, list[ProcessInfo]] = defaultdict(list)
        with os.scandir("/proc") as entries:
            names = [entry.name for entry in entries if entry.name.isdigit()]
        for name in names:
            found = _read(int(name))
            if found is not None:
                below[found.parent].append(found)
        tree = list(below.get(pid, ()))
        for process in tree:  # grows while it is walked
            tree.extend(below.pop(process.pid, ()))
        return cls(root, tuple(process for process in tree if process.lives))

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all processes that were ever below the root, as far as they were waited for."""
        own = sum(process.cpu_seconds + process.waited_seconds for process in self.below)
        return own + (self.root.waited_seconds if self.root else 0.0)

    @property
    def rss_kb(self) -> int:
        """The sum of the resident memory, kB: never less than `pss_kb`, and free."""
        return sum(process.rss_kb for process in self.below)

    def pss_kb(self) -> int:
        """Return the memory that the processes have together, kB: what some of them share counts once.

        From /proc/<pid>/smaps_rollup (Linux 4.14), for which the kernel walks the page tables: 20 to 100 microseconds
        for a small process, milliseconds for each GB. Resident memory stands for a process that may not be looked at.
        """
        return sum(_pss(process) for process in self.below)


def _read(pid: int) -> ProcessInfo | None:
    """Return what /proc says of a process, or None if there is none."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # the name stands in parentheses and may itself hold spaces, line breaks and parentheses
    head, _, rest = text.rpartition(b")")
    fields = rest.split()
    if len(fields) < 22:
        return None
    return ProcessInfo(
        pid=pid,
        start_time=int(fields[19]),
        parent=int(fields[1]),
        state=fields[0].decode(),
        name=head.partition(b"(")[2].decode("utf-8", "replace"),
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        waited_seconds=(int(fields[13]) + int(fields[14])) / _TICKS,
        threads=int(fields[17]),
        rss_kb=int(fields[21]) * _PAGE // 1024,
    )


def _pss(process: ProcessInfo) -> int:
    """Return one process's share of memory, kB."""
    with suppress(OSError, ValueError):
        descriptor = os.open(f"/proc/{process.pid}/smaps_rollup", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        for line in text.splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1])
    return process.rss_kb
