"""Processes of the end-to-end tests: pilots, servers, and payloads that wait at a gate."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from pilot_devserver.statedir import StateDir
from pilot_devserver.store import SqliteStore

from pilot_core import SystemClock
from pilot_core.api.credential import ClientCertificate

PATIENCE = 30.0
"""Seconds after which a process that should have done something long ago fails its test."""


def environment():
    """Return an environment in which `pilot-core` is the one that is tested."""
    return {"PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]), "HOME": "/nonexistent"}


class Gate:
    """A named pipe by which a payload says where it is, and another by which it is let go on."""

    def __init__(self, folder, name):
        self.reached, self.opened = folder / f"{name}.reached", folder / f"{name}.opened"
        self._descriptors = []
        self._told = []
        for path in (self.reached, self.opened):
            os.mkfifo(path)
            path.chmod(0o666)
            # both ends, so that nobody waits for the other one
            self._descriptors.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))

    @property
    def script(self):
        """What a shell script does at the gate."""
        return f"echo $$ > {self.reached}; read line < {self.opened}"

    def wait(self):
        """Wait until a script is there; returns the pid that it told."""
        while not self._told:
            poll = select.poll()
            poll.register(self._descriptors[0], select.POLLIN)
            assert poll.poll(PATIENCE * 1000), f"nothing came to {self.reached}"
            self._told += map(int, os.read(self._descriptors[0], 100).split())
        return self._told.pop(0)

    def open(self):
        os.write(self._descriptors[1], b"go\n")

    def close(self):
        for descriptor in self._descriptors:
            os.close(descriptor)


@dataclass
class Ended:
    """A pilot that has ended."""

    code: int
    out: str
    text: str
    """Everything on standard error."""

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def last(self):
        return self.lines[-1]

    def of_level(self, *levels):
        """Return the lines of the log with one of these levels."""
        return [line for line in self.lines if line.split()[1] in levels]

    def says(self, *words):
        """Whether a line has all these words."""
        return any(all(word in line for word in words) for line in self.lines)


class Pilot:
    """A pilot process whose standard error is read while it runs."""

    def __init__(self, argv, environment, folder):
        self.process = subprocess.Popen(
            argv,
            cwd=folder / "cwd",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self._lines = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._lines.append(None)
            self._news.notify_all()

    @property
    def text(self):
        with self._news:
            return "".join(line for line in self._lines if line is not None)

    def until_says(self, *words):
        """Wait for a line of the log with all these words; returns it."""

        def found():
            return next((line for line in self._lines if line is None or all(word in line for word in words)), "")

        with self._news:
            assert self._news.wait_for(lambda: found() != "", PATIENCE), f"no line with {words}:\n{self._lines}"
            line = found()
        assert line is not None, f"no line with {words}:\n{self.text}"
        return line

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, *, bug=False):
        """Wait for the end; returns what is to be known of it. Without `bug` there must be no traceback."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the pilot does not end:\n{self.text}") from None
        self._reader.join()
        ended = Ended(code, self.process.stdout.read(), self.text)
        assert bug or "Traceback" not in ended.text, ended.text
        assert "internal error" not in ended.text, ended.text
        return ended

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def close(self):
        self.kill()
        self.process.stdout.close()
        self.process.stderr.close()


class ServerProcess:
    """A development server as a process of its own, which can be stopped and started again at the same port."""

    def __init__(self, folder):
        self.state = StateDir(folder / "state", SystemClock())
        self.ca_file = self.state.ca_file
        self.port = 0
        self.start()
        self.pilot_proxy = ClientCertificate(cert_file=self.state.pilot_proxy, key_file=self.state.pilot_proxy)
        self.store = SqliteStore(self.state.database, clock=SystemClock(), adder_delay=0.0)

    def start(self):
        read, write = os.pipe()
        words = ["-m", "pilot_core", "serve", "--state-dir", str(self.state.path), "--port", str(self.port)]
        words += ["--adder-delay", "0", "--log-level", "error", "--ready-fd", str(write)]
        self.process = subprocess.Popen(
            [sys.executable, *words], env=environment(), pass_fds=[write], stdout=subprocess.DEVNULL
        )
        os.close(write)
        with os.fdopen(read) as stream:
            ready = stream.readline()
        assert ready, "the server does not start"
        self.url = json.loads(ready)["url"]
        self.port = int(self.url.rpartition(":")[2])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.store.close()


def wait_for_process(pid):
    """Wait for the end of a process that is nobody's child here; raises `ProcessLookupError` if there is none."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        what = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        assert poll.poll(PATIENCE * 1000), f"process {pid} is left: {what!r}"
    finally:
        os.close(descriptor)
