"""Executors and payloads, as the pilot sees them, with one fault each; what the fault is says `faults`."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from executor.reference import NAME, Executor, Payload
from executor.supervisor import stat_of

from pilot_core import ExecutorError, PayloadResult
from pilot_core.api.clock import Event

# -- the executor ------------------------------------------------------------------------------------------------


class PassingOn(Executor):
    """Tells its supervisor of the pilot's environment."""

    supervisor = "executor.supervisor_faults:Leaky"

    def order(self, spec):
        return {**super().order(spec), "pilot": dict(os.environ)}


class PilotsInput(Executor):
    supervisor = "executor.supervisor_faults:PilotsInput"

    def give(self, order):
        order["stdin"] = os.dup(0)
        os.set_inheritable(order["stdin"], True)
        self.popen = {**self.popen, "pass_fds": (order["stdin"],)}
        try:
            return super().give(order)
        finally:
            os.close(order["stdin"])


class HoldingOutput(Executor):
    supervisor = "executor.supervisor_faults:HoldsOutput"

    def give(self, order):
        held = os.dup(1)
        os.set_inheritable(held, True)
        self.popen = {**self.popen, "pass_fds": (held,)}
        try:
            return super().give(order)
        finally:
            os.close(held)


class Inheriting(Executor):
    popen = MappingProxyType({**Executor.popen, "close_fds": False})


class InSession(Executor):
    supervisor = "executor.supervisor_faults:PilotsSession"
    popen = MappingProxyType({**Executor.popen, "start_new_session": False})


class Tied(Executor):
    supervisor = "executor.supervisor_faults:TiedToPilot"

    def order(self, spec):
        return {**super().order(spec), "pilot_pid": os.getpid()}


class NotCancelled(Executor):
    def check(self, spec, cancel, deadline):
        deadline.raise_if_passed("start")


class NoDeadline(Executor):
    def check(self, spec, cancel, deadline):
        cancel.raise_if_cancelled()


class CheckedLate(Executor):
    def check(self, spec, cancel, deadline):
        pass

    def start(self, spec, *, cancel, deadline):
        handle = super().start(spec, cancel=cancel, deadline=deadline)
        cancel.raise_if_cancelled()
        deadline.raise_if_passed("start")
        return handle


class Thrown(Executor):
    """Raises where the program is the payload's error."""

    def start(self, spec, *, cancel, deadline):
        if not spec.argv or not Path(spec.argv[0]).exists():
            raise ExecutorError(f"{spec.argv}: no such program")
        return super().start(spec, cancel=cancel, deadline=deadline)


class Waiting(Executor):
    def start(self, spec, *, cancel, deadline):
        handle = super().start(spec, cancel=cancel, deadline=deadline)
        payload = self.attach(handle, cancel=cancel, deadline=deadline)
        self.context.clock.wait(payload, until=self.context.clock.monotonic() + 30.0)
        return handle


class PathInHandle(Executor):
    def handle(self, spec, answer):
        found = super().handle(spec, answer)
        return replace(found, data={**found.data, "where": (1, 2)})


class Nameless(Executor):
    def handle(self, spec, answer):
        return replace(super().handle(spec, answer), executor="process")

    def known(self, handle):
        pass


class WholeSpec(Executor):
    def handle(self, spec, answer):
        found = super().handle(spec, answer)
        return replace(found, data={**found.data, "environment": dict(spec.environment)})


class ByArgument(Executor):
    """Gives the order as an argument, which everybody may read."""

    def give(self, order):
        program = "import io, sys; sys.path[:] = sys.argv[3:]; from executor import supervisor; "
        program += "sys.stdin = io.TextIOWrapper(io.BytesIO(sys.argv[1].encode())); supervisor.main(sys.argv[2])"
        argv = [sys.executable, "-S", "-E", "-c", program, json.dumps(order), self.supervisor, *filter(None, sys.path)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={}, check=False, **self.popen)
        return done.stdout


class Chatty(Executor):
    def order(self, spec):
        logging.getLogger("pilot_core.executor").debug("starting %s", spec)
        return super().order(spec)


class FromMemory(Executor):
    def __init__(self, context):
        super().__init__(context)
        self.known_ones = set()

    def handle(self, spec, answer):
        self.known_ones.add(answer["pid"])
        return super().handle(spec, answer)

    def fields(self, data):
        if data.get("pid") not in self.known_ones:
            raise ExecutorError("there is no such payload")
        return super().fields(data)


class LastOne(Executor):
    """Keeps where its payload's records are, as if there was one."""

    last = None

    def order(self, spec):
        self.last = spec.control_dir
        return super().order(spec)

    def fields(self, data):
        control, pid, start = super().fields(data)
        return self.last or control, pid, start


class AnyHandle(Executor):
    def known(self, handle):
        pass


class AnyVersion(Executor):
    def known(self, handle):
        if handle.executor != NAME:
            raise ExecutorError("not of this executor")


class Trusting(Executor):
    def fields(self, data):
        return Path(data["control_dir"]), data["pid"], data["start"]


class Zombies(Executor):
    """Does not wait for the process that it started."""

    def __init__(self, context):
        super().__init__(context)
        self.kept = []

    def give(self, order):
        found = []
        held = subprocess.Popen.communicate

        def communicate(process, data):
            self.kept.append(process)
            process.stdin.write(data)
            process.stdin.close()
            found.append(process.stdout.read())
            process.stdout.close()
            return found[0], None

        subprocess.Popen.communicate = communicate
        try:
            return super().give(order)
        finally:
            subprocess.Popen.communicate = held


class CloseEnds(Executor):
    def __init__(self, context):
        super().__init__(context)
        self.pids = []

    def handle(self, spec, answer):
        self.pids.append(answer["pid"])
        return super().handle(spec, answer)

    def close(self):
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


class Sharing(Executor):
    """Ends all payloads that it has found."""

    def __init__(self, context):
        super().__init__(context)
        self.found = []

    def attach(self, handle, *, cancel, deadline):
        payload = super().attach(handle, cancel=cancel, deadline=deadline)
        alone = payload.end
        self.found.append(alone)
        payload.end = lambda reason: [end(reason) for end in self.found]
        return payload


# -- the payload as the pilot sees it ----------------------------------------------------------------------------


class MadeUp(Payload):
    def result(self):
        if not self.ended():
            return PayloadResult(exit_code=0, signal=None, started=self.clock.wall(), ended=self.clock.wall())
        return super().result()


class Blocking(Payload):
    def result(self):
        self.clock.wait(self, until=self.clock.monotonic() + 30.0)
        return super().result()


class NeverReady(Payload):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.never = Event()

    def fileno(self):
        return self.never.fileno()

    def ended(self):
        return True


class AlwaysReady(Payload):
    def fileno(self):
        return os.open("/dev/null", os.O_RDONLY)


class OwnProcess(Payload):
    """Waits for the payload's own process only."""

    def __init__(self, control, pid, start, clock):
        super().__init__(control, pid, start, clock)
        self.own = None
        with suppress(OSError):
            for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                self.own = self.own or os.pidfd_open(int(name))

    def fileno(self):
        return super().fileno() if self.own is None else self.own

    def close(self):
        super().close()
        if self.own is not None:
            os.close(self.own)
            self.own = None


class EndWaits(Payload):
    def end(self, reason):
        super().end(reason)
        self.clock.wait(self, until=self.clock.monotonic() + 30.0)


class EndRaises(Payload):
    def end(self, reason):
        if self.ended():
            raise ProcessLookupError(self.pid)
        super().end(reason)


class EndTwice(Payload):
    asked = False

    def end(self, reason):
        assert not self.asked, "was asked before"
        self.asked = True
        super().end(reason)


class Children(Payload):
    """Ends all children of the pilot."""

    def end(self, reason):
        super().end(reason)
        for name in filter(str.isdigit, os.listdir("/proc")):
            stat = stat_of(name)
            if stat and stat[1] == os.getpid():
                os.kill(int(name), signal.SIGTERM)


class AnyProcess(Payload):
    def same(self, pid, start):
        return True


class LostIsGood(Payload):
    def lost(self, error):
        return PayloadResult(exit_code=0, signal=None, started=0.0, ended=0.0)


class LostIsBad(Payload):
    def lost(self, error):
        return PayloadResult(exit_code=1, signal=None, started=0.0, ended=0.0)


class LostIsRaised(Payload):
    def lost(self, error):
        raise error


class AskedWhen(Payload):
    def read(self):
        return replace(super().read(), ended=self.clock.wall())


class Leaking(Payload):
    def ended(self):
        os.dup(self.fileno())
        return super().ended()


class Threads(Payload):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class CloseEndsPayload(Payload):
    def close(self):
        self.end("closed")
        super().close()


class CloseOnce(Payload):
    def close(self):
        os.close(self.pidfd if self.pidfd is not None else -1)
        self.pidfd = None


class ResultOnce(Payload):
    """Removes the record with the first reading."""

    def read(self):
        found = super().read()
        (self.control / "ended.json").unlink()
        return found


class FromDirectory(Payload):
    def read(self):
        self.control = self.control.parent / "work"
        try:
            return PayloadResult(**json.loads((self.control / ".ended").read_bytes()))
        except (OSError, ValueError) as error:
            return self.lost(error)


class ChangingSpec(Executor):
    def order(self, spec):
        spec.environment["PILOT_STARTED"] = "1"
        found = super().order(spec)
        del found["environment"]["PILOT_STARTED"]
        return found


class OneFile(Executor):
    """Hands orders over in one file."""

    def order(self, spec):
        path = self.context.work_dir / "order.json"
        path.write_text(json.dumps(super().order(spec)))
        self.context.clock.wait(until=self.context.clock.monotonic() + 0.01)
        return json.loads(path.read_text())


class DeafPilot(Executor):
    """Ignores SIGCHLD, so as to have no zombies."""

    def __init__(self, context):
        super().__init__(context)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


class ReapingAll(Executor):
    """Takes leave of whatever child has ended."""

    def give(self, order):
        found = super().give(order)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return found


class OpenFirst(Executor):
    """Opens what it needs before it looks at the handle."""

    def attach(self, handle, *, cancel, deadline):
        found = os.open("/proc/self/stat", os.O_RDONLY)
        payload = super().attach(handle, cancel=cancel, deadline=deadline)
        os.close(found)
        return payload


class OrderFile(Executor):
    """Keeps the order, with the payload's environment, where everybody may read it."""

    def order(self, spec):
        found = super().order(spec)
        (spec.control_dir / "order.json").write_text(json.dumps(found))
        return found


class PythonsTimeout(Executor):
    def check(self, spec, cancel, deadline):
        cancel.raise_if_cancelled()
        if deadline.passed:
            raise TimeoutError("start")


class PythonsValueError(Executor):
    def check(self, spec, cancel, deadline):
        super().check(spec, cancel, deadline)
        if any("\0" in word for word in (*spec.argv, *spec.environment.values())):
            raise ValueError("embedded null byte")


class Formatting(Payload):
    def end(self, reason):
        logging.getLogger("pilot_core.executor").info("%s", reason % ())
        super().end(reason)


class Unwritable(Payload):
    """Tells something that no journal can hold."""

    def read(self):
        return replace(super().read(), extra={"record": self.control / "ended.json"})


class FreshDescriptor(Payload):
    def fileno(self):
        return os.dup(super().fileno())


class TextTimes(Payload):
    def read(self):
        found = super().read()
        return replace(found, max_rss_kb=str(found.max_rss_kb))
