"""Supervisors with one fault each; what the fault is says `faults`."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from contextlib import suppress

from executor.supervisor import Supervisor, below, stat_of


class CodeCutOff(Supervisor):
    def how(self):
        code, number = super().how()
        return code if code is None else code & 0x7F, number


class CodeRaw(Supervisor):
    def how(self):
        code, number = super().how()
        return code if code is None else self.status, number


class CodeBeyond128(Supervisor):
    def how(self):
        code, number = super().how()
        return (None, code - 128) if code is not None and 128 < code < 160 else (code, number)


class SignalAsCode(Supervisor):
    def how(self):
        code, number = super().how()
        return (code, None) if number is None else (128 + number, None)


class SignalAndCode(Supervisor):
    def how(self):
        code, number = super().how()
        return (code, number) if number is None else (-number, number)


class SignalLost(Supervisor):
    def how(self):
        code, _ = super().how()
        return 0 if code is None and not self.error else code, None


class ErrorIsZero(Supervisor):
    def record(self):
        if self.error:
            self.error, self.status = "", 0
        super().record()


class ErrorIs127(Supervisor):
    def record(self):
        if self.error:
            self.error, self.status = "", 127 << 8
        super().record()


class Shell(Supervisor):
    def execute(self, argv, environment):
        super().execute(["/bin/sh", "-c", " ".join(argv)], environment)


class QuotingShell(Supervisor):
    def execute(self, argv, environment):
        super().execute(["/bin/sh", "-c", 'exec "$0" "$@"', *argv], environment)


class WordsCut(Supervisor):
    def execute(self, argv, environment):
        super().execute([word for number, word in enumerate(argv) if word or not number], environment)


class Leaky(Supervisor):
    def environment(self):
        return {**self.order["pilot"], **super().environment()}


class OneMore(Supervisor):
    def environment(self):
        return {**super().environment(), "PILOT_JOB_DIR": self.order["cwd"]}


class Stripped(Supervisor):
    def environment(self):
        return {name: value.strip() for name, value in super().environment().items()}


class Elsewhere(Supervisor):
    def become(self):
        self.order["cwd"] = "/"
        super().become()


class PilotsPath(Supervisor):
    def execute(self, argv, environment):
        found = shutil.which(argv[0]) if argv else None
        os.execve(found or argv[0], argv, environment)


class PilotsInput(Supervisor):
    def input(self):
        os.dup2(self.order["stdin"], 0)


class Ignoring(Supervisor):
    def signals(self):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Masked(Supervisor):
    def signals(self):
        super().signals()
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))


class NoMask(Supervisor):
    def prepare(self):
        super().prepare()
        os.umask(0)


class ForEverybody(Supervisor):
    def output(self, path):
        found = super().output(path)
        os.fchmod(found, 0o666)
        return found


class Merged(Supervisor):
    def outputs(self):
        super().outputs()
        os.dup2(1, 2)


class SharedPosition(Supervisor):
    def output(self, path):
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


class CutOff(Supervisor):
    def record(self):
        with suppress(OSError):
            if os.stat(self.order["stdout"]).st_size > 1 << 20:
                os.truncate(self.order["stdout"], 1 << 20)
        super().record()


class Decoded(Supervisor):
    def record(self):
        with suppress(OSError), open(self.order["stdout"], "r+", errors="replace", newline="") as stream:
            text = stream.read()
            stream.seek(0)
            stream.write(text)
            stream.truncate()
        super().record()


class Late(Supervisor):
    def output(self, path):
        return super().output(os.path.join(self.control, os.path.basename(path)))

    def record(self):
        for name in ("stdout", "stderr"):
            with suppress(OSError):
                shutil.move(os.path.join(self.control, os.path.basename(self.order[name])), self.order[name])
        super().record()


class NullOutput(Supervisor):
    def output(self, path):
        try:
            return super().output(path)
        except FileNotFoundError:
            return os.open(os.devnull, os.O_WRONLY)


class PilotsSession(Supervisor):
    def prepare(self):
        os.setsid = lambda: None
        super().prepare()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


class LeaderAsked(Supervisor):
    def ask(self):
        self.send(self.pid, signal.SIGTERM)


class GroupAsked(Supervisor):
    def ask(self):
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)


class Impatient(Supervisor):
    def ask(self):
        super().ask()
        self.deadline = time.monotonic()


class Rude(Supervisor):
    def ask(self):
        self.deadline = time.monotonic()


class Merciful(Supervisor):
    def kill(self):
        self.ask()
        self.killing = False


class LeaderOnly(Supervisor):
    """Ends when the payload's own process has."""

    def watch(self):
        while self.status is None:
            self.reap()
            if self.deadline is not None and time.monotonic() >= self.deadline:
                self.send(self.pid, signal.SIGKILL)
            if self.status is None and self.wait() == signal.SIGTERM:
                self.begin()


class GroupOnly(LeaderOnly):
    """Kills the payload's process group, which is not all."""

    def watch(self):
        super().watch()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class EnvironmentOnly(LeaderOnly):
    """Kills those that have the payload's environment."""

    def watch(self):
        super().watch()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as stream:
                if self.order["environment"].get("PILOT_KIT_MARK", "none").encode() in stream.read():
                    os.kill(int(name), signal.SIGKILL)


class OneSweep(LeaderOnly):
    """Looks once for what is below it."""

    def watch(self):
        super().watch()
        for pid in below(os.getpid()):
            self.send(pid, signal.SIGKILL)


class ByDirectory(Supervisor):
    """Kills whatever works in the payload's directory."""

    def ask(self):
        super().ask()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if os.readlink(f"/proc/{name}/cwd") == self.order["cwd"]:
                    self.send(int(name), signal.SIGTERM)


class TiedToPilot(Supervisor):
    def wait(self):
        while stat_of(self.order["pilot_pid"]):
            found = signal.sigtimedwait((signal.SIGCHLD, signal.SIGTERM), 0.05)
            if found or (self.deadline is not None and time.monotonic() >= self.deadline):
                return found.si_signo if found else None
        return signal.SIGTERM


class Monotonic(Supervisor):
    def now(self):
        return time.monotonic()


class OwnUsage(Supervisor):
    def usage(self):
        return resource.getrusage(resource.RUSAGE_SELF)


class MainUsage(Supervisor):
    """Tells what the payload's own process used, without its children."""

    own = (0.0, 0.0)

    def reap(self):
        if self.pid and self.status is None:
            with suppress(OSError), open(f"/proc/{self.pid}/stat", "rb") as stream:
                fields = stream.read().rpartition(b")")[2].split()
                self.own = int(fields[11]) / 100, int(fields[12]) / 100
        return super().reap()

    def result(self):
        return {**super().result(), "user_seconds": self.own[0], "system_seconds": self.own[1]}


class Milliseconds(Supervisor):
    def result(self):
        found = super().result()
        return {**found, "user_seconds": found["user_seconds"] * 1000}


class Bytes(Supervisor):
    def result(self):
        found = super().result()
        return {**found, "max_rss_kb": found["max_rss_kb"] * 1024}


class Megabytes(Supervisor):
    def result(self):
        found = super().result()
        return {**found, "max_rss_kb": found["max_rss_kb"] // 1024}


class NoneLeft(Supervisor):
    def result(self):
        return {**super().result(), "leftovers": 0}


class SomeLeft(Supervisor):
    def result(self):
        found = super().result()
        return {**found, "leftovers": min(1, found["leftovers"])}


class OneTooMany(Supervisor):
    def result(self):
        found = super().result()
        return {**found, "leftovers": found["leftovers"] + 1}


class LongError(Supervisor):
    def result(self):
        found = super().result()
        return {**found, "error": found["error"] and f"Traceback:\n{found['error']}"}


class PidFile(Supervisor):
    def start(self):
        super().start()
        with open(os.path.join(self.order["cwd"], ".pid"), "w") as stream:
            stream.write(str(self.pid))


class RecordsInDirectory(Supervisor):
    def write(self, text):
        super().write(b"{}")
        with open(os.path.join(self.order["cwd"], ".ended"), "wb") as stream:
            stream.write(text)


class HoldsOutput(Supervisor):
    def answer(self):
        os.write(1, json.dumps({"pid": os.getpid(), "start": stat_of("self")[2], "payload": self.pid}).encode())
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)


class LeftoversResult(Supervisor):
    """Tells how the last process ended, not the payload's own."""

    def reap(self):
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.pid or self.status is not None:
                    self.status, self.ended = status, self.now()
        return False


class EndIsASignal(Supervisor):
    """Tells of whatever was asked to end that SIGTERM ended it."""

    asked = False

    def begin(self):
        self.asked = self.asked or self.status is None
        super().begin()

    def how(self):
        return (None, int(signal.SIGTERM)) if self.asked else super().how()


class PutOff(Supervisor):
    def begin(self):
        self.ending = self.ending and self.status is not None
        super().begin()


class SecondKills(Supervisor):
    def begin(self):
        self.killing = self.ending and self.status is None
        super().begin()
        if self.killing:
            self.kill()


class FixedGrace(Supervisor):
    def begin(self):
        self.order["kill_grace"] = 5.0
        super().begin()


class FirstWord(Supervisor):
    def execute(self, argv, environment):
        found = shutil.which(argv[0], path=environment.get("PATH")) if argv else None
        super().execute([found, *argv[1:]] if found else argv, environment)


class EarlyEndLost(Supervisor):
    def wait(self):
        found = super().wait()
        return None if found == signal.SIGTERM and time.time() < self.started + 0.2 else found


class Expanding(Supervisor):
    def become(self):
        self.order = {"HOME": "/", **self.order}
        for name in ("cwd", "stdout", "stderr"):
            self.order[name] = self.order[name].replace("$HOME", "/")
        super().become()


class NamedSignals(Supervisor):
    def how(self):
        code, number = super().how()
        return code, None if number is None else signal.Signals(number).value


class StoppedIsEnded(Supervisor):
    def reap(self):
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if pid == 0:
                    return True
                if pid == self.pid:
                    self.status, self.ended = status, self.now()
        return False

    def how(self):
        return (None, os.WSTOPSIG(self.status)) if os.WIFSTOPPED(self.status) else super().how()


class DeadLeft(Supervisor):
    """Counts whoever was its child once."""

    def reap(self):
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.pid:
                    self.status, self.ended = status, self.now()
                else:
                    self.left.add(pid)
        return False


class Vague(Supervisor):
    def record(self):
        self.error = self.error and "the payload could not be started"
        super().record()


class ShellFallback(Supervisor):
    def execute(self, argv, environment):
        try:
            super().execute(argv, environment)
        except PermissionError:
            os.execve("/bin/sh", ["sh", *argv], environment)


class LeftoversKilled(Supervisor):
    def begin(self):
        super().begin()
        if self.status is not None:
            self.deadline = time.monotonic()


class LeftoversWaitedFor(Supervisor):
    def begin(self):
        if self.status is None:
            super().begin()


class TwoSweeps(LeaderOnly):
    """Looks twice for what is below it, deepest first, and takes its time."""

    def watch(self):
        super().watch()
        for _ in range(2):
            for pid in reversed(below(os.getpid())):
                self.send(pid, signal.SIGKILL)
                time.sleep(0.02)
