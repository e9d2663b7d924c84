"""Which processes of this machine belong to a test: found by a mark that it gave them, in /proc."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pilot_core.api.clock import SystemClock

__all__ = ["above", "below", "commands", "eventually", "living", "running", "sweep", "zombies"]

LOOK = 0.01
"""Seconds between two looks at what tells nobody that it has changed."""
SWEEP = 5.0
"""Real seconds that killing everything may take, however fast it multiplies."""


def eventually(condition: Callable[[], bool], *, seconds: float = 3.0) -> bool:
    """Say whether a condition comes true in time: for what has no descriptor, such as the end of a zombie."""
    clock = SystemClock()
    end = clock.monotonic() + seconds
    while not condition():
        if clock.monotonic() >= end:
            return False
        clock.wait(until=min(end, clock.monotonic() + LOOK))
    return True


def living(mark: str) -> dict[int, str]:
    """Return pid and command line of every process that has the mark in its environment or its command line.

    Zombies are none: they have neither. Processes of other users are seen by their command line only.
    """
    found = {}
    sought = mark.encode()
    for pid in _pids():
        command = _read(pid, "cmdline")
        if pid != os.getpid() and (sought in command or sought in _read(pid, "environ")):
            found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def commands() -> list[str]:
    """Return the command lines of all processes, as everybody sees them."""
    return [_read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace") for pid in _pids()]


def sweep(mark: str) -> None:
    """Kill every process that has the mark, and those that they start meanwhile."""

    def swept() -> bool:
        found = living(mark)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that they start no others
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        return not found

    eventually(swept, seconds=SWEEP)


def zombies(*parents: int) -> set[int]:
    """Return the pids of zombies below this process, or below others."""
    return {pid for pid, state in below(*parents).items() if state == "Z"}


def below(*roots: int) -> dict[int, str]:
    """Return pid -> state letter (proc(5)) of every process below this one, or below others."""
    parents, states = {}, {}
    for pid in _pids():
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        if len(fields) > 1:
            states[pid], parents[pid] = fields[0].decode(), int(fields[1])
    above = frozenset(roots or (os.getpid(),))
    tree = set(above)
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return {pid: states[pid] for pid in tree if pid in states and pid not in above}


def above(*pids: int) -> set[int]:
    """Return the pids of the processes above some, without those that this process is below of."""
    return _ancestors(*pids) - _ancestors(os.getpid()) - {1}


def running(*pids: int) -> set[int]:
    """Return the ids of those threads of some processes that run, or would if there were a processor for them.

    The thread that asks is none of them.
    """
    found = set()
    for pid in pids:
        with suppress(OSError):
            tasks = [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
            found |= {task for task in tasks if _read(task, "stat").rpartition(b")")[2].split()[:1] == [b"R"]}
    return found - {threading.get_native_id()}


def _ancestors(*pids: int) -> set[int]:
    found: set[int] = set()
    todo = list(pids)
    while todo:
        fields = _read(todo.pop(), "stat").rpartition(b")")[2].split()
        if len(fields) > 1 and (parent := int(fields[1])) not in found | {0}:
            found.add(parent)
            todo.append(parent)
    return found


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    """Return a file of /proc, empty where there is none any more or it is not ours to read."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
