"""A correct launcher: pilots as processes of this machine, each under a small keeper that notes how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from pilot_core import ExecutorError, LaunchedPilot, Provider, hookimpl, setting

KEEPER = r"""
import json, os, signal, subprocess, sys
if os.fork():
    os._exit(0)
os.setsid()
folder = sys.argv[1]
def note(name, value):
    with open(os.path.join(folder, name + ".new"), "w") as stream:
        json.dump(value, stream)
    os.rename(os.path.join(folder, name + ".new"), os.path.join(folder, name))
with open(os.path.join(folder, "request")) as stream:
    request = json.load(stream)
os.unlink(os.path.join(folder, "request"))
signal.signal(signal.SIGTERM, lambda *_: signal.alarm(request["grace"]))
signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
with open("/proc/self/stat", "rb") as stream:
    start = int(stream.read().rpartition(b")")[2].split()[19])
note("keeper", [os.getpid(), start])
os.write(1, b"!")
null = os.open(os.devnull, os.O_RDWR)
for descriptor in (0, 1, 2):
    os.dup2(null, descriptor)
try:
    code = subprocess.Popen(request["argv"], env=request["environment"]).wait()
except OSError:
    code = 127
note("exit", code)
"""
"""The program of a keeper: it is the leader of the session and process group of its pilot."""

ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class LocalSettings:
    folder: Path | None = setting(None, help="directory for records; default: below the pilot's work directory")
    grace: int = setting(10, help="seconds between SIGTERM and SIGKILL", minimum=1)


class LocalLauncher:
    """Keeps a folder a pilot; the id is the folder's name."""

    def __init__(self, settings, context):
        self.folder = settings.folder or context.work_dir / "launched"
        self.grace = settings.grace
        self.log = context.log

    def launch(self, request, *, cancel, deadline):
        cancel.raise_if_cancelled()
        deadline.raise_if_passed("launching pilots")
        started = []
        try:
            for _ in range(request.count):
                cancel.raise_if_cancelled()
                started.append(self.start(request))
        except BaseException:
            self.stop(started, cancel=cancel, deadline=deadline)
            raise
        return [LaunchedPilot(id=each, state="running") for each in started]

    def start(self, request):
        """Start one pilot and return its id."""
        name = uuid.uuid4().hex
        folder = self.folder / name
        folder.mkdir(parents=True)
        asked = {"argv": list(request.argv), "environment": self.environment(request), "grace": self.grace}
        file = folder / "request"
        file.touch(mode=0o600)
        file.write_text(json.dumps(asked))
        try:
            self.run_keeper(folder)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ExecutorError(f"{folder}: a pilot cannot be started: {error.strerror}") from None
        self.log.info("pilot %s was started", name)
        return name

    def run_keeper(self, folder):
        keeper = [sys.executable, "-I", "-S", "-c", KEEPER, str(folder)]
        with subprocess.Popen(keeper, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout.read() == b"!"

    def environment(self, request):
        return {"PATH": os.defpath, **request.environment}

    def status(self, ids, *, cancel, deadline):
        cancel.raise_if_cancelled()
        return [LaunchedPilot(id=each, state=self.state(each)) for each in ids]

    def state(self, name):
        if not self.known(name):
            return "unknown"
        keeper = self.keeper(name)
        lives = keeper is not None and self.lives(keeper)
        code = self.read(name, "exit")
        if code is not None:
            return self.state_of(code)
        return "running" if lives else "failed"

    def state_of(self, code):
        return "done" if code == 0 else "failed"

    def stop(self, ids, *, cancel, deadline):
        for name in ids:
            keeper = self.keeper(name) if self.known(name) else None
            if keeper is not None and self.lives(keeper):
                self.end(keeper)

    def end(self, keeper):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(keeper[0], signal.SIGTERM)

    def known(self, name):
        return bool(ID.fullmatch(name)) and (self.folder / name).is_dir()

    def keeper(self, name):
        return self.read(name, "keeper")

    def read(self, name, what):
        try:
            return json.loads((self.folder / name / what).read_text())
        except FileNotFoundError:
            return None

    def lives(self, keeper):
        pid, start = keeper
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return False
        return int(fields[19]) == start and fields[0] != b"Z"


class Plugin:
    """The plugin, as an object; faulty ones have another launcher."""

    def __init__(self, launcher=LocalLauncher):
        self.launcher = launcher

    @hookimpl
    def pilot_launchers(self):
        yield Provider(name="local", factory=self.launcher, settings=LocalSettings)
