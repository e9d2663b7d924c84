"""Development servers, commands typed beside them, and pilots as processes of their own.

Two ways: the README's lines typed in a shell beside a server that was started with the README's line (`server`,
`shell`), and pilots on one server that all tests share, each with a queue of its own (`site`).
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pilot_devserver.devserver import DevServer
from pilot_devserver.jobfile import InputTemplate, JobTemplate, Preparation
from pilot_devserver.site import SiteQueue
from pilot_devserver.statedir import StateDir
from pilot_devserver.store import SqliteStore

from pilot_core import SystemClock
from pilot_core.api.credential import ClientCertificate


@pytest.fixture
def shell(tmp_path):
    """Run a command line as a reader would, in an empty directory; returns what it printed."""

    def run(line):
        done = subprocess.run(
            ["bash", "-c", line],
            check=False,
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{line}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def environment():
    """Return an environment in which `pilot-core` is the one that is tested."""
    return {"PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]), "HOME": "/nonexistent"}


@pytest.fixture
def documented(checkout):
    """Find the README's one command that begins with some words."""
    commands = [text for fence in checkout.fences() if fence.document == "README.md" for _, text in fence.commands]

    def find(start):
        (command,) = [text for text in commands if text.startswith(start)]
        return command

    return find


@pytest.fixture
def server(documented, tmp_path):
    """A development server, started with the README's line; what it says of itself."""
    line = documented("pilot-core serve")
    read, write = os.pipe()
    process = subprocess.Popen(
        [*shlex.split(line), "--ready-fd", str(write), "--adder-delay", "0"],
        cwd=tmp_path,
        env=environment(),
        pass_fds=[write],
    )
    os.close(write)
    with os.fdopen(read) as stream:
        ready = stream.readline()
    assert ready, f"{line}: exit {process.wait()}"
    yield json.loads(ready)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0


@pytest.fixture
def states(shell, server):
    """Tell the states of the server's jobs."""

    def ask():
        listed = shell(f"pilot-core server jobs --json --state-dir {shlex.quote(server['state_dir'])}")
        return [job["status"] for job in json.loads(listed)["jobs"]]

    return ask


# -- pilots, each test with a queue of its own, on one server for all --------------------------------------------------

PATIENCE = 30.0
"""Seconds after which a process that should have done something long ago fails its test."""
MARK = "E2E_SITE"
"""The variable by which a test finds its processes: pilots have it, and payloads from their queue."""


def toml(value):
    """Return a value in TOML's inline form."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def file_url(path):
    return f"file://{path}"


_WITH_PERMISSIONS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (linux/capability.h)
    if libc.prctl(24, capability, 0, 0, 0) and os.geteuid() == 0:  # PR_CAPBSET_DROP (linux/prctl.h)
        raise OSError(ctypes.get_errno(), "prctl")
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="session")
def unprivileged():
    """Words before a command for which files' permissions count even if the tests run as root."""
    return sys.executable, "-c", _WITH_PERMISSIONS


_ON_SMALL_DISK = """
mount -t tmpfs -o "size=$1" none "$2" || exit 99
test -z "$3" || cat /dev/zero > "$2/filler" 2> /dev/null
folder=$2 listing=$4
shift 4
"$@"
code=$?
ls -A "$folder" > "$listing"
exit $code
"""


@pytest.fixture
def on_small_disk(own_mounts, tmp_path):
    """Make the words before a command that sees a small disk in the place of a folder; `left` tells what is on it."""

    def words(folder, size, *, fill=False):
        return *own_mounts, "sh", "-c", _ON_SMALL_DISK, "sh", size, folder, "fill" if fill else "", tmp_path / "left"

    words.left = lambda: (tmp_path / "left").read_text().split()
    return words


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


class Site:
    """One queue of the server, its storage, a work directory, and pilots for it."""

    def __init__(self, server, folder, queue):
        self.server, self.folder, self.queue = server, folder, queue
        self.rse = f"{queue}_DISK"
        self.storage, self.work = folder / "storage", folder / "work"
        for path in (self.storage, self.work, folder / "cwd", folder / "home"):
            path.mkdir()
        self.pilot = {
            "server": server.url,
            "queue": queue,
            "ca_file": server.ca_file,
            "cert": server.pilot_proxy.cert_file,
            "work_dir": self.work,
        }
        """The table `[pilot]`; None takes a key out."""
        self.settings = {
            **{activity: [self.rse] for activity in ("read", "write", "log")},
            "storages": {self.rse: {"url": file_url(self.storage)}},
            "environment": {MARK: queue},
        }
        """The table of the queue."""
        self.tables = {}
        """Further tables, by name."""
        self.environment = {**environment(), MARK: queue, "HOME": str(folder / "home"), "TMPDIR": str(folder)}
        self.pilots = []
        self.gates = []

    # -- jobs -------------------------------------------------------------------------------------------------------

    def submit(self, transformation="/bin/true", parameters="", *, inputs=(), spec=None, **values):
        """Submit a job, return its id; `inputs` name files on the storage, `spec` changes the specification."""
        template = JobTemplate(
            transformation=transformation,
            parameters=parameters,
            inputs=tuple(
                item if isinstance(item, InputTemplate) else InputTemplate(path=self.storage / item) for item in inputs
            ),
            queue=self.queue,
            **values,
        )
        queue = SiteQueue(self.queue, self.storage)
        prepared = Preparation([queue], self.server.state.transformations, self.server.url, copy=False).specs(template)
        found = [replace(job, files=tuple(replace(file, endpoint=self.rse) for file in job.files)) for job in prepared]
        (job_id,) = self.server.store.submit([spec(job) if spec else job for job in found])
        return job_id

    def script(self, text, **values):
        """Submit a job that is a shell script; arguments as `submit`."""
        return self.submit("/bin/sh", shlex.join(["-c", text]), **values)

    def job(self, job_id):
        return self.server.store.get(job_id)

    def jobs(self):
        return self.server.store.jobs(queue=self.queue)

    def until(self, condition):
        """Wait for a change of the server's jobs that makes `condition()` true."""
        end = time.monotonic() + PATIENCE
        while True:
            change = self.server.store.next_change()
            if condition():
                return
            poll = select.poll()
            poll.register(change.fileno(), select.POLLIN)
            assert poll.poll(max(0.0, end - time.monotonic()) * 1000), [(j.id, j.status) for j in self.jobs()]

    def log_of(self, job_id):
        """Return the files in a job's log tarball on the storage, by name."""
        with tarfile.open(self.storage / self.job(job_id).description["logFile"]) as tar:
            members = {member.name.partition("/")[2]: member for member in tar.getmembers()}
            return {name: tar.extractfile(member).read() for name, member in members.items() if member.isfile()}

    # -- pilots -----------------------------------------------------------------------------------------------------

    def gate(self, name="gate", *, folder=None):
        self.gates.append(Gate(folder or self.folder, name))
        return self.gates[-1]

    def write_config(self):
        """Write the pilot's configuration; returns its file."""
        tables = {"pilot": self.pilot, f"queues.{self.queue}": self.settings, **self.tables}
        lines = []
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items() if value is not None)]
        file = self.folder / "pilot.toml"
        file.write_text("\n".join([*lines, ""]))
        return file

    def start(
        self,
        *options,
        config=True,
        prefix=(),
        program=sys.executable,
        command=("-m", "pilot_core", "run"),
        env=None,
    ):
        """Start a pilot with the configuration; `prefix` are words before the program. Returns the `Pilot`."""
        words = [*prefix, program, *command]
        words += ["--config", self.write_config()] if config else []
        surroundings = {**self.environment, **(env or {})}
        self.pilots.append(Pilot([*map(str, (*words, *options))], surroundings, self.folder))
        return self.pilots[-1]

    def run(self, *options, leaves=(), bug=False, **values):
        """Run a pilot to its end, and see that nothing is left of it but `leaves` in the work directory."""
        ended = self.start(*options, **values).wait(bug=bug)
        self.check_clean(leaves)
        return ended

    def check_clean(self, leaves=()):
        self.no_processes()
        assert sorted(path.name for path in self.work.iterdir()) == sorted(leaves)

    def processes(self):
        """Return the pids of this test's processes that run."""
        mark = f"{MARK}={self.queue}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def no_processes(self):
        """See that all processes of this test end by themselves."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                wait_for_process(pid)

    def close(self):
        """End whatever a failed test left."""
        for pilot in self.pilots:
            pilot.close()
        left = self.processes()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for gate in self.gates:
            gate.close()
        return left


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


@pytest.fixture
def own_server(tmp_path):
    """A server for this test alone, in a process of its own."""
    server = ServerProcess(tmp_path)
    yield server
    server.close()


@pytest.fixture
def own_site(own_server, tmp_path):
    """A queue of that server."""
    with a_site(own_server, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def panda(tmp_path_factory):
    """One development server for all tests, over TLS, in a thread of this process."""
    with DevServer(tmp_path_factory.mktemp("panda") / "state", adder_delay=0.0) as server:
        yield server


@contextmanager
def a_site(panda, folder):
    made = Site(panda, folder, f"Q{uuid.uuid4().hex[:12]}")
    panda.store.set_queue(made.queue, data=SiteQueue(made.queue, made.storage).queuedata())
    try:
        yield made
    finally:
        left = made.close()
    assert not left, f"processes are left: {left}"


@pytest.fixture
def site(panda, tmp_path):
    """A queue of the test's own, and pilots for it."""
    with a_site(panda, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def module_site(panda, tmp_path_factory):
    """One for all tests of a module."""
    with a_site(panda, tmp_path_factory.mktemp("site")) as made:
        yield made
