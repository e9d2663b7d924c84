"""A correct executor, small: each payload below a Python process that is started for it (`supervisor`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from executor.supervisor import stat_of

from pilot_core import ExecutorError, PayloadHandle, PayloadResult, Provider, hookimpl
from pilot_core.api.clock import Event

NAME = "reference"
VERSION = 1
PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from executor.supervisor import main; main(sys.argv[1])"
FIELDS = {"exit_code", "signal", "started", "ended", "user_seconds", "system_seconds", "max_rss_kb", "leftovers"}


class Payload:
    """A payload, by its supervisor."""

    def __init__(self, control, pid, start, clock):
        self.control, self.pid, self.clock = control, pid, clock
        self.gone = Event()
        self.pidfd = self.open(pid, start)
        if self.pidfd is None:
            self.gone.set()

    def open(self, pid, start):
        """Return a descriptor of exactly this process, None if it has ended."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        if self.same(pid, start):
            return pidfd
        os.close(pidfd)
        return None

    def same(self, pid, start):
        found = stat_of(pid)
        return found is not None and found[2] == start

    def fileno(self):
        return self.gone.fileno() if self.pidfd is None else self.pidfd

    def ended(self):
        return self.clock.wait(self, until=self.clock.monotonic())

    def end(self, reason):
        if self.pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def result(self):
        if not self.ended():
            raise ExecutorError(f"{self.control}: the payload still runs")
        return self.read()

    def read(self):
        try:
            values = json.loads((self.control / "ended.json").read_bytes())
            if not isinstance(values, dict) or not set(values) >= FIELDS:
                raise ValueError("no record of an end")
        except (OSError, ValueError) as error:
            return self.lost(error)
        return PayloadResult(**values)

    def lost(self, error):
        raise ExecutorError(f"{self.control}: it is not known how the payload ended: {error}") from None

    def close(self):
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


class Executor:
    """Starts a supervisor for each payload."""

    supervisor = "executor.supervisor:Supervisor"
    payload = Payload
    popen = MappingProxyType({"close_fds": True, "start_new_session": True})

    def __init__(self, context):
        self.context = context

    def start(self, spec, *, cancel, deadline):
        self.check(spec, cancel, deadline)
        order = self.order(spec)
        answer = self.give(order)
        if not answer:
            raise ExecutorError(f"{spec.control_dir}: the payload's supervisor did not start")
        return self.handle(spec, json.loads(answer))

    def check(self, spec, cancel, deadline):
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(f"job {spec.job_id}")

    def order(self, spec):
        paths = {name: str(getattr(spec, name).absolute()) for name in ("cwd", "stdout", "stderr", "control_dir")}
        return {
            "argv": list(spec.argv),
            "environment": dict(spec.environment),
            "kill_grace": spec.kill_grace,
            **paths,
        }

    def give(self, order):
        """Start a supervisor, give it its order, return its answer."""
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", PROGRAM, self.supervisor, *map(os.path.abspath, filter(None, sys.path))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            **self.popen,
        )
        return process.communicate(json.dumps(order).encode())[0]

    def handle(self, spec, answer):
        data = {"control_dir": str(spec.control_dir.absolute()), "pid": answer["pid"], "start": answer["start"]}
        return PayloadHandle(executor=NAME, version=VERSION, data=data)

    def attach(self, handle, *, cancel, deadline):
        cancel.raise_if_cancelled()
        self.known(handle)
        return self.payload(*self.fields(handle.data), self.context.clock)

    def known(self, handle):
        if (handle.executor, handle.version) != (NAME, VERSION):
            raise ExecutorError(f"this payload is of {handle.executor!r}, layout {handle.version}, not of {NAME!r}")

    def fields(self, data):
        control, pid, start = data.get("control_dir"), data.get("pid"), data.get("start")
        if type(control) is not str or "\0" in control or type(pid) is not int or not 0 < pid < 2**22:
            raise ExecutorError("the handle of a payload is damaged")
        return Path(control), pid, start

    def close(self):
        pass


class Plugin:
    """The plugin, with any such executor."""

    __name__ = "executor.reference"

    def __init__(self, executor=Executor):
        self.executor = executor

    @hookimpl
    def pilot_executors(self):
        return [Provider(name=NAME, factory=lambda settings, context: self.executor(context))]
