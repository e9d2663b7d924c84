"""A site of the end-to-end tests: one queue of a server with its storage, a work directory, jobs and pilots."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import sys
import tarfile
import time
import uuid
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from e2e_processes import PATIENCE, Gate, Pilot, environment, wait_for_process
from pilot_devserver.jobfile import InputTemplate, JobTemplate, Preparation
from pilot_devserver.site import SiteQueue

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
        print(ended.text)  # for whoever reads why a test failed
        self.check_clean(leaves)
        return ended

    def check_clean(self, leaves=()):
        self.no_processes()
        left = [path.name for path in self.work.iterdir() if path.name != "pilot.sqlite"]
        assert sorted(left) == sorted(leaves)

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


@contextmanager
def a_site(panda, folder):
    made = Site(panda, folder, f"Q{uuid.uuid4().hex[:12]}")
    panda.store.set_queue(made.queue, data=SiteQueue(made.queue, made.storage).queuedata())
    try:
        yield made
    finally:
        left = made.close()
    assert not left, f"processes are left: {left}"


SLOW_STAGER = '''
from pathlib import Path

from pilot_core import FetchRequest, Provider, TransferResult, hookimpl

GATE = Path(__file__).parent


class Slow:
    """Brings empty files, after a while: it says that it has begun, and goes on when it is let."""

    def __init__(self, settings, context):
        self.clock = context.clock

    def fetch(self, request, *, cancel, deadline):
        (GATE / "slow.reached").write_text("1\\n")
        with open(GATE / "slow.opened", "rb") as opened:
            self.clock.wait(opened, cancel)
        cancel.raise_if_cancelled()
        request.destination.touch()
        return TransferResult(size=0, checksum="adler32:00000001", url=request.url)

    def stat(self, url, *, cancel, deadline):
        raise NotImplementedError


@hookimpl
def pilot_stagein():
    yield Provider(name="slow", factory=Slow, schemes=frozenset({"slow"}))
'''


def use_slow_stager(site):
    folder = site.folder / "plugins"
    info = folder / "slow-1.dist-info"
    info.mkdir(parents=True)
    (folder / "slow_stager.py").write_text(SLOW_STAGER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pilot-stager-slow\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pilot_core.plugins.v1]\nstager.slow = slow_stager\n")
    site.tables["plugins"] = {"paths": [str(folder)]}
    site.settings["storages"][site.rse]["url"] = "slow://tape/library"
    site.settings["storages"]["LOGS"] = {"url": f"file://{site.storage}"}
    site.settings["write"] = site.settings["log"] = ["LOGS"]
    (site.storage / "in.dat").touch()
    return site.gate("slow", folder=folder)
