"""Ending every process below the calling one, and no other.

The caller is a subreaper: a process below it whose parent ends becomes its child. It is enough, then, to end its
children and to wait for them until there are none; and a child that was not waited for keeps its pid, so a signal to
it cannot reach anyone else. Other processes below are signalled through pidfds, which cannot be given to another
process either.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress

from pilot_core.supervision.procfs import ProcessId, ProcessStat, children, descendants, process_id

__all__ = ["Killer", "ask_to_end", "reap"]

ROUNDS = 5
"""Looks for processes that appeared while the ones before were signalled; who forks faster is killed later."""


def ask_to_end(of: int) -> set[ProcessId]:
    """Send SIGTERM, once each, to all that live below a process, and SIGCONT, so that stopped ones notice.

    Returns whom it was sent to.
    """
    asked: set[ProcessId] = set()
    for _ in range(ROUNDS):
        new = [process for process in descendants(of) if process.lives and process.id not in asked]
        for process in new:
            asked.add(process.id)
            _signal(process)
        if not new:
            break
    return asked


def _signal(process: ProcessStat) -> None:
    """Send SIGTERM to a process if it is still the one that was seen."""
    with suppress(ProcessLookupError, PermissionError):  # ended by now; or setuid, and has to be left alone
        descriptor = os.pidfd_open(process.pid)
        try:
            if process_id(process.pid) == process.id:
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                # always: whether it is about to stop cannot be seen
                signal.pidfd_send_signal(descriptor, signal.SIGCONT)
        finally:
            os.close(descriptor)


def reap(ended: Callable[[int, int], None], *, kill_groups: bool = False) -> bool:
    """Take leave of all children that have ended; False when there are no children at all any more.

    `ended` is called with the pid and wait status of each. With `kill_groups` the rest of an ended child's process
    group is killed first. That ends a fork bomb at one blow, where killing one after the other would lose the race.
    It cannot hit others: the zombie keeps its group's number from being used again, and a group lies within one
    session, which the payload's processes share with nobody since the first of them called setsid.
    """
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if found is None:
            return True
        pid = found.si_pid
        group = os.getpgid(pid)
        if kill_groups and group != os.getpgrp():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        ended(*os.waitpid(pid, 0))


class Killer:
    """Kills this process's children, again whenever new ones were inherited from those that died."""

    def __init__(self) -> None:
        self.immune: set[int] = set()
        """Children that may not be killed by this user: they became another one (`sudo`)."""

    def kill_children(self, spare: Collection[int] = ()) -> set[int]:
        """Kill all children but those to spare; return those that were there.

        Call it again after every SIGCHLD: whoever is inherited later has a living ancestor among the children of
        now, and that one's end makes itself heard.
        """
        found = set(children()).difference(spare)
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:
                self.immune.add(pid)
        return found
