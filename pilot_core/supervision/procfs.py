"""What /proc says of processes: identities that survive pid reuse, and who descends from whom."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

__all__ = ["ProcessId", "ProcessStat", "boot_id", "children", "descendants", "parse_stat", "process_id", "read_stat"]


class ProcessId(NamedTuple):
    """A process of this boot, for good: a pid alone is given to another process sooner or later."""

    pid: int
    start_time: int
    """Clock ticks after the boot: field 22 of /proc/<pid>/stat, see proc(5)."""


class ProcessStat(NamedTuple):
    """A few fields of /proc/<pid>/stat."""

    pid: int
    state: str
    """One letter: R running, S sleeping, Z zombie, T stopped ..."""
    parent: int
    start_time: int

    @property
    def id(self) -> ProcessId:
        """The process's lasting identity."""
        return ProcessId(self.pid, self.start_time)

    @property
    def lives(self) -> bool:
        """Whether it can still do something: it is no zombie."""
        return self.state not in {"Z", "X", "x"}


def parse_stat(text: bytes) -> ProcessStat:
    """Read the content of /proc/<pid>/stat; raises `ValueError`.

    The second field is the program's name in parentheses and may itself hold spaces, line breaks and parentheses.
    """
    pid, _, rest = text.partition(b" (")
    _, closed, fields = rest.rpartition(b")")
    values = fields.split()
    if not closed or len(values) < 20:
        raise ValueError(f"not the content of a stat file: {text[:80]!r}")
    return ProcessStat(int(pid), values[0].decode(), int(values[1]), int(values[19]))


def read_stat(pid: int) -> ProcessStat | None:
    """Return what /proc says of a process, or None if there is none."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        return parse_stat(os.read(descriptor, 4096))
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)


def process_id(pid: int) -> ProcessId:
    """Return the identity of the process that has this pid now; raises `ProcessLookupError` if none has."""
    found = read_stat(pid)
    if found is None:
        raise ProcessLookupError(f"no process has the pid {pid}")
    return found.id


def boot_id() -> str:
    """Return the kernel's random name of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().decode().strip()


def descendants(of: int) -> list[ProcessStat]:
    """Return all processes below one, parents before their children; zombies too. A snapshot, old at once."""
    below: defaultdict[int, list[ProcessStat]] = defaultdict(list)
    with os.scandir("/proc") as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if name.isdigit() and (found := read_stat(int(name))):
            below[found.parent].append(found)
    tree = list(below.get(of, ()))
    for process in tree:  # grows while it is walked
        tree.extend(below.pop(process.pid, ()))
    return tree


def children() -> list[int]:
    """Return the pids of this single-threaded process's children, zombies too."""
    pid = os.getpid()
    try:
        # missing where the kernel was built without CONFIG_PROC_CHILDREN
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()]
    except FileNotFoundError:
        return [process.pid for process in descendants(pid) if process.parent == pid]
