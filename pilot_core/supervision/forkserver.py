"""The fork server: a process with one thread that forks a supervisor for each payload, always one ahead.

It ends when its connection to the pilot does; supervisors go on. While it lives it is the reaper of last resort: if
a supervisor is killed (payloads run as the same user, so they can), what was below it becomes the fork server's child
and is killed.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Sequence
from typing import NoReturn

from pilot_core.supervision.linux import become_subreaper, close_inherited, set_process_name
from pilot_core.supervision.signals import SignalWatch, block_all, set_mask
from pilot_core.supervision.supervisor import supervise
from pilot_core.supervision.tree import Killer, reap
from pilot_core.supervision.wire import DESCRIPTOR, HERE, NEXT

__all__ = ["main", "serve"]


def main() -> None:
    """Serve a pilot that could not fork because it has threads already."""
    serve(socket.socket(fileno=DESCRIPTOR))


def serve(connection: socket.socket) -> None:
    """Turn this process, which has one thread and all signals blocked, into a fork server until the pilot has gone."""
    _detach(connection)
    _ForkServer(connection).run()


def _detach(connection: socket.socket) -> None:
    """Let go of all that belongs to the pilot: terminal, working directory, descriptors. Standard error stays.

    A living supervisor must not keep a file system busy, nor a pipe open that a batch system reads to its end.
    """
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    close_inherited(connection.fileno())
    set_process_name("pilot-forks")
    become_subreaper()
    import gc  # noqa: PLC0415
    import resource  # noqa: F401, PLC0415  (so that no supervisor has to load it)

    # collecting would write to, and so copy, every page that is shared with the pilot
    gc.disable()
    gc.freeze()


class _ForkServer:
    """Keeps the pilot supplied with one supervisor that waits for an order."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        ignored = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2)
        self._watch = SignalWatch((signal.SIGCHLD,), ignored)
        set_mask(())
        self._killer = Killer()
        self._supervisors: set[int] = set()
        self._spare = 0
        """Pid of the supervisor that has no order yet, as far as is known here."""
        self._bereaved = False
        """Whether a supervisor has ended before its payload, so that there may be processes to kill."""

    def run(self) -> None:
        """Serve until the pilot closes the connection or dies, then until nothing bereaved and no spare is left."""
        poll = select.poll()
        poll.register(self._watch, select.POLLIN)
        poll.register(self._connection, select.POLLIN)
        connected = self._supply()
        while connected or self._bereaved or self._spare in self._supervisors:
            ready = {descriptor for descriptor, _ in poll.poll()}
            self._watch.clear()
            self._look_after_children()
            if connected and self._connection.fileno() in ready:
                connected = self._is_asked() and self._supply()
                if not connected:
                    poll.unregister(self._connection)

    def _is_asked(self) -> bool:
        """Read one request; False if there will be no more."""
        try:
            return bool(self._connection.recv(len(NEXT)))
        except ConnectionResetError:  # closed with a supervisor in it that was not fetched
            return False

    def _supply(self) -> bool:
        """Fork a supervisor and hand the pilot its connection, or say why not; False if there is no pilot any more."""
        held_back = block_all()
        theirs, pilots = socket.socketpair()
        with theirs, pilots:
            try:
                pid = os.fork()
            except OSError as error:
                set_mask(held_back)
                return self._send((error.strerror or "").encode(), ())
            if pid == 0:
                pilots.close()
                self._become_supervisor(theirs)
            set_mask(held_back)
            self._supervisors.add(pid)
            self._spare = pid
            return self._send(HERE, (pilots.fileno(),))

    def _send(self, text: bytes, descriptors: Sequence[int]) -> bool:
        """Answer the pilot; False if it has gone."""
        try:
            socket.send_fds(self._connection, [text], descriptors)
        except OSError:
            return False
        return True

    def _become_supervisor(self, pilot: socket.socket) -> NoReturn:
        """Be a supervisor from now on; nothing of the fork server is needed any more."""
        code = 70
        try:
            self._watch.close()
            self._connection.close()
            os.dup2(0, 2)
            code = supervise(pilot)
        finally:
            os._exit(code)

    def _look_after_children(self) -> None:
        """Take leave of supervisors; kill what those that were killed leave behind."""
        reap(self._ended, kill_groups=self._bereaved)
        if self._bereaved:
            self._bereaved = not self._killer.kill_children(self._supervisors) <= self._killer.immune

    def _ended(self, pid: int, status: int) -> None:
        if pid in self._supervisors:
            self._supervisors.remove(pid)
            self._bereaved = self._bereaved or status != 0
