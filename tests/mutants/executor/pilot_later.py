"""More executors and payloads with one fault each, as the pilot sees them; what the fault is says `faults`."""

from __future__ import annotations

import atexit
import ctypes
import errno
import os
import threading
from dataclasses import replace

from executor.reference import Executor, Payload
from executor.supervisor import SUBREAPER

from pilot_core import ExecutorError


class HeldByThread(Executor):
    """Has a thread that waits for the payload, and that Python waits for."""

    def start(self, spec, *, cancel, deadline):
        handle = super().start(spec, cancel=cancel, deadline=deadline)
        payload = self.attach(handle, cancel=cancel, deadline=deadline)
        threading.Thread(target=self.watch, args=(payload,), daemon=False).start()
        return handle

    def watch(self, payload):
        self.context.clock.wait(payload)
        payload.close()


class EndingAtExit(Executor):
    def start(self, spec, *, cancel, deadline):
        handle = super().start(spec, cancel=cancel, deadline=deadline)
        payload = self.attach(handle, cancel=cancel, deadline=deadline)
        atexit.register(payload.end, "the pilot leaves")
        return handle


class ByJob(Executor):
    """Keeps its records below a directory of its own, by PandaID."""

    def start(self, spec, *, cancel, deadline):
        control = self.context.work_dir / str(spec.job_id)
        control.mkdir(exist_ok=True)
        return super().start(replace(spec, control_dir=control), cancel=cancel, deadline=deadline)


class DictWanted(Executor):
    def order(self, spec):
        return {**super().order(spec), "environment": spec.environment}


class TooLong(Executor):
    def check(self, spec, cancel, deadline):
        super().check(spec, cancel, deadline)
        if any(len(word) >= 131_072 for word in spec.argv):
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))


class Subreaper(Executor):
    def __init__(self, context):
        super().__init__(context)
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


class WaitingAWhile(Payload):
    """Waits some seconds for the end before it says that there is none."""

    def result(self):
        self.clock.wait(self, until=self.clock.monotonic() + 5.0)
        return super().result()


class HoldingErrors(Executor):
    """Leaves its supervisor the pilot's standard error."""

    supervisor = "executor.supervisor_later:HoldsErrors"

    def give(self, order):
        held = os.dup(2)
        os.set_inheritable(held, True)
        self.popen = {**self.popen, "pass_fds": (held,)}
        try:
            return super().give(order)
        finally:
            os.close(held)


class NothingToEnd(Payload):
    def __init__(self, control, pid, start, clock):
        super().__init__(control, pid, start, clock)
        self.was_gone = self.ended()

    def end(self, reason):
        if self.was_gone:
            raise ExecutorError(f"{self.control}: the payload has ended")
        super().end(reason)


class Cumulative(Executor):
    """Tells the memory of the largest payload so far."""

    def __init__(self, context):
        super().__init__(context)
        largest = [0]

        class Remembering(Payload):
            def read(self):
                found = super().read()
                largest[0] = max(largest[0], found.max_rss_kb)
                return replace(found, max_rss_kb=largest[0])

        self.payload = Remembering
