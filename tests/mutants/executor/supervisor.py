"""The process that looks after one payload of the reference executor; needs the standard library only."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
HEARD = (signal.SIGCHLD, signal.SIGTERM)


def main(name):
    """Be a supervisor of the class `module:Class`; the order comes on standard input, the answer goes to output."""
    order = json.loads(sys.stdin.buffer.read())
    module, _, cls = name.partition(":")
    supervisor = getattr(importlib.import_module(module), cls)(order)
    if os.fork():
        os._exit(0)
    code = 1
    try:
        supervisor.run()
        code = 0
    finally:
        os._exit(code)


def stat_of(pid):
    """Return (state, parent, start time) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[19])


def below(root):
    """Return the pids of all processes below one that live, parents first."""
    stats = {int(name): stat_of(name) for name in os.listdir("/proc") if name.isdigit()}
    tree = [root]
    for pid in tree:
        tree += [one for one, stat in stats.items() if stat and stat[1] == pid]
    return [pid for pid in tree[1:] if stats[pid][0] not in "ZX"]


class Supervisor:
    """One payload's life."""

    def __init__(self, order):
        self.order = order
        self.control = order["control_dir"]
        self.pid = self.status = self.deadline = None
        self.error = ""
        self.started = self.ended = 0.0
        self.killing = self.ending = self.noted = False
        self.left = set()

    # -- the payload's start

    def run(self):
        self.prepare()
        self.started = self.now()
        self.start()
        self.answer()
        self.watch()
        self.record()

    def prepare(self):
        os.setsid()
        os.chdir("/")
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        assert ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0) == 0

    def start(self):
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.become()
            except (OSError, ValueError) as error:
                os.write(writing, f"{self.order['argv'][:1]}: {error}".encode())
            finally:
                os._exit(127)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            self.error = stream.read().decode()

    def become(self):
        os.setsid()
        self.signals()
        self.input()
        self.outputs()
        os.chdir(self.order["cwd"])
        self.execute(self.order["argv"], self.environment())

    def signals(self):
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with suppress(OSError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def input(self):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def outputs(self):
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(self.output(self.order[name]), number)

    def output(self, path):
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)

    def environment(self):
        return self.order["environment"]

    def execute(self, argv, environment):
        if not argv:
            raise ValueError("no command")
        os.execvpe(argv[0], argv, environment)

    def answer(self):
        """Tell the pilot who to wait for, and let go of what is its."""
        os.write(1, json.dumps({"pid": os.getpid(), "start": stat_of("self")[2], "payload": self.pid}).encode())
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)

    # -- its end

    def watch(self):
        while self.reap():
            if self.status is not None and not self.noted:
                self.noted = True
                self.left |= set(below(os.getpid()))
                self.begin()
            if self.deadline is not None and time.monotonic() >= self.deadline:
                self.deadline, self.killing = None, True
            if self.killing:
                self.kill()
            if self.wait() == signal.SIGTERM:
                self.begin()

    def wait(self):
        """Wait for a signal or the end of the grace; return the signal."""
        left = 60.0 if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        found = signal.sigtimedwait(HEARD, left)
        return found.si_signo if found else None

    def reap(self):
        """Take leave of the dead; say whether there is anybody else."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.pid:
                    self.status, self.ended = status, self.now()
        return False

    def begin(self):
        if not self.ending:
            self.ending = True
            self.deadline = time.monotonic() + self.order["kill_grace"]
            self.ask()

    def ask(self):
        for pid in below(os.getpid()):
            self.send(pid, signal.SIGTERM)
            self.send(pid, signal.SIGCONT)

    def kill(self):
        """Kill the children; theirs become ours."""
        for pid in os.listdir("/proc"):
            if pid.isdigit() and (stat := stat_of(pid)) and stat[1] == os.getpid():
                self.send(int(pid), signal.SIGKILL)

    def send(self, pid, number):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    # -- what is told

    def now(self):
        return time.time()

    def record(self):
        self.write(json.dumps(self.result()).encode())

    def result(self):
        usage = self.usage()
        exit_code, number = self.how()
        return {
            "exit_code": exit_code,
            "signal": number,
            "started": self.started,
            "ended": self.ended,
            "user_seconds": usage.ru_utime,
            "system_seconds": usage.ru_stime,
            "max_rss_kb": usage.ru_maxrss,
            "leftovers": len(self.left),
            "error": self.error,
        }

    def usage(self):
        return resource.getrusage(resource.RUSAGE_CHILDREN)

    def how(self):
        """Return exit code and signal."""
        if self.error:
            return None, None
        if os.WIFSIGNALED(self.status):
            return None, os.WTERMSIG(self.status)
        return os.WEXITSTATUS(self.status), None

    def write(self, text):
        path = os.path.join(self.control, "ended.json")
        with open(path + ".new", "wb") as stream:
            stream.write(text)
        os.rename(path + ".new", path)
