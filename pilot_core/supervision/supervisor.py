"""The supervisor: one process that starts one payload, waits for it, ends all that it left, and records how it went.

It is forked ahead of time, so that starting a payload takes no fork at all, and waits for its order. From then on it
has no parent to answer to: when the pilot dies it goes on. SIGTERM asks it to end the payload; other signals that can
be ignored are, so that nothing but SIGKILL ends it before the payload's last process. Nothing here polls: a signal or
the end of the grace wakes it.
"""

from __future__ import annotations

import os
import signal
import socket
import traceback
from contextlib import suppress
from typing import Any

from pilot_core.supervision.child import Failure, Unborn
from pilot_core.supervision.linux import become_subreaper, set_process_name
from pilot_core.supervision.oom import OomCount
from pilot_core.supervision.procfs import ProcessId, boot_id, descendants, process_id
from pilot_core.supervision.records import ControlDirectory, Ended, Started
from pilot_core.supervision.rehearsal import rehearse
from pilot_core.supervision.signals import SignalWatch, set_mask
from pilot_core.supervision.tree import Killer, ask_to_end, reap
from pilot_core.supervision.wire import Order, receive, send_json

__all__ = ["supervise"]


def supervise(pilot: socket.socket) -> int:
    """Be a supervisor: wait for one `Order`, carry it out, return the process's exit code.

    Called in a fresh fork with all signals blocked. The answer is `pid` and `start_time` of this process, or `error`.
    No order before the end of the connection: the pilot needs no more.
    """
    os.setsid()
    ignored = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2)
    watch = SignalWatch((signal.SIGCHLD, signal.SIGTERM), ignored)
    set_mask(())
    text = b""
    try:
        set_process_name("pilot-spare")
        become_subreaper()
        unborn = Unborn(pilot.fileno())
        rehearse(process_id(os.getpid()))
        text = receive(pilot)
        if not text:
            unborn.dismiss()
            return 0
        if unborn.has_ended():
            unborn = Unborn(pilot.fileno())
    except OSError as error:
        if text or receive(pilot):
            send_json(pilot, {"error": f"no process for a payload can be made: {error.strerror}; see `ulimit -u`"})
        return 0
    unborn.tell(text)
    set_process_name("pilot-supervise")
    watch.seen.discard(signal.SIGTERM)  # whatever that was meant to end, this payload it was not
    return _carry_out(Order.from_bytes(text), pilot, watch, unborn)


def _carry_out(order: Order, pilot: socket.socket, watch: SignalWatch, unborn: Unborn) -> int:
    """Start the payload, answer the pilot, see the payload to its end; return the process's exit code."""
    where = order.spec.control_dir
    try:
        directory = ControlDirectory(where)
        directory.claim()
    except FileExistsError:
        send_json(pilot, {"error": f"{where}: was used for a payload before; make a new directory for each"})
        return 0
    except OSError as error:
        send_json(pilot, {"error": f"{where}: cannot keep a payload's records: {error.strerror}"})
        return 0
    try:
        supervisor = _Supervisor(order, directory, watch, unborn)
        me = supervisor.start()
        with suppress(OSError):  # the pilot was killed just now; the payload was not
            send_json(pilot, me._asdict())
        pilot.close()
        supervisor.run()
    except BaseException as error:  # noqa: BLE001  (the process ends here; whoever reads the records must know why)
        with suppress(OSError):
            directory.write_traceback(traceback.format_exc())
        with suppress(OSError):
            send_json(pilot, {"error": f"{where}: the payload cannot be started: {error}"})
        return 1
    return 0


class _Supervisor:
    """One payload's life."""

    def __init__(self, order: Order, directory: ControlDirectory, watch: SignalWatch, main: Unborn) -> None:
        self._spec = order.spec
        self._clock = order.clock
        self._directory = directory
        self._watch = watch
        self._main = main
        """The payload's own process."""
        self._killer = Killer()
        self._oom = OomCount()
        self._started = 0.0
        self._ended = 0.0
        self._status: int | None = None
        """Wait status of the payload's own process; None while it lives."""
        self._failure: Failure | None = None
        self._asked = False
        """Whether the end was asked for while the payload's own process ran."""
        self._noted = False
        self._leftovers: set[int] = set()
        self._deadline: float | None = None
        """When processes that were asked to end will be killed."""
        self._killing = False

    def start(self) -> ProcessId:
        """Record that the payload starts, and then let it; return this process's identity."""
        me = process_id(os.getpid())
        self._started = self._clock.wall()
        record = Started(
            job_id=self._spec.job_id,
            payload=self._main.id,
            supervisor=me,
            boot_id=boot_id(),
            wall=self._started,
        )
        self._directory.write_started(record)
        self._main.go()
        return me

    def run(self) -> None:
        """Go on until no process of the payload is left, and write the final record."""
        while True:
            self._watch.clear()
            if not reap(self._reaped, kill_groups=self._killing) or not self._advance():
                break
            self._clock.wait(self._watch, until=self._deadline)
        self._record(complete=True)

    def _reaped(self, pid: int, status: int) -> None:
        """Hear that a child has ended."""
        if pid == self._main.pid and self._status is None:
            self._status = status
            self._ended = self._clock.wall()
            self._failure = self._main.failure()
        elif self._noted:
            self._leftovers.add(pid)

    def _advance(self) -> bool:
        """Do what the moment asks for; False if only processes are left that cannot be killed."""
        ending = self._killing or self._deadline is not None
        if self._status is not None and not self._noted:
            self._noted = True
            self._record(complete=False)
            self._leftovers.update(process.pid for process in descendants(os.getpid()) if process.lives)
            if not ending:
                self._begin_to_end()
        elif signal.SIGTERM in self._watch.seen and not ending:
            self._asked = True
            self._begin_to_end()
        if self._deadline is not None and self._clock.monotonic() >= self._deadline:
            self._deadline, self._killing = None, True
        if self._killing:
            found = self._killer.kill_children()
            return not found or not found <= self._killer.immune
        return True

    def _begin_to_end(self) -> None:
        """Ask all processes of the payload to end, and set the time when that is over."""
        self._deadline = self._clock.monotonic() + max(0.0, self._spec.kill_grace)
        asked = ask_to_end(os.getpid())
        if self._noted:
            self._leftovers.update(process.pid for process in asked)

    def _record(self, *, complete: bool) -> None:
        """Write how the payload ended, as far as it is known."""
        import resource  # noqa: PLC0415  (not on every system; the fork server has loaded it)

        # the kernel's sum over everything that was waited for below here; there is nothing else but the payload. Its
        # largest process is never smaller than this one (14 MB), which it was a copy of before it executed anything
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        status, failure = self._status, self._failure
        signalled = status is not None and os.WIFSIGNALED(status)
        extra: dict[str, Any] = {"asked_to_end": self._asked}
        if failure and failure.errno:
            extra["errno"] = failure.errno
        if status is not None and signalled and os.WCOREDUMP(status):
            extra["core_dumped"] = True
        if killed := self._oom.since():
            extra["oom_kills"] = killed
        if complete and self._killer.immune:
            extra["not_ended"] = sorted(self._killer.immune)[:100]
        self._directory.write_ended(
            Ended(
                complete=complete,
                exit_code=None if status is None or signalled or failure else os.WEXITSTATUS(status),
                signal=os.WTERMSIG(status) if status is not None and signalled else None,
                started=self._started,
                ended=self._ended or self._clock.wall(),
                user_seconds=used.ru_utime,
                system_seconds=used.ru_stime,
                max_rss_kb=used.ru_maxrss,
                read_blocks=used.ru_inblock,
                written_blocks=used.ru_oublock,
                leftovers=len(self._leftovers),
                error=self._error(),
                extra=extra,
            )
        )

    def _error(self) -> str:
        """Return why there is neither an exit code nor a signal."""
        if self._failure:
            return self._failure.error
        if self._status is None:
            return f"process {self._main.pid} runs as another user and cannot be ended by the pilot's"
        return ""
