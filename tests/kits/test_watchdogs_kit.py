"""The kit on the built-in watchdogs."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from pilot_core import AuthError, BearerToken, ClientCertificate, Context, Queue
from pilot_core.builtin.watchdogs import disk
from pilot_core.testing import WatchdogCase, WatchdogKit
from pilot_core.testing.kits.judging import eventually

CALCULATES = (sys.executable, "-S", "-c", "while True: pass")
HOLDS = (sys.executable, "-S", "-c", "import signal; held = bytearray(60 << 20); signal.pause()")
SPAWNS = ("/bin/sh", "-c", "for n in 1 2 3 4 5 6; do sleep 1000 & done; wait")


class WallTimeCase(WatchdogCase):
    settings: ClassVar = {"limit_seconds": 100}

    def within(self, watched):
        return replace(watched, now=watched.started + 99)

    def at_limit(self, watched):
        return replace(watched, now=watched.started + 100)

    def beyond(self, watched):
        return replace(watched, now=watched.started + 101)


class JobWallTimeCase(WallTimeCase):
    """The job's own limit, which the queue lets it pass by half."""

    settings: ClassVar = {}
    queue = Queue(name="KIT", extra={"params": {"pilot_walltime_grace": 50}})

    def within(self, watched):
        return replace(watched, queue=self.queue, now=watched.started + 1.5 * watched.job.max_wall_seconds - 1)

    def at_limit(self, watched):
        return replace(watched, queue=self.queue, now=watched.started + 1.5 * watched.job.max_wall_seconds)

    def beyond(self, watched):
        return replace(watched, queue=self.queue, now=watched.started + 1.5 * watched.job.max_wall_seconds + 1)


class CpuTimeCase(WatchdogCase):
    """The limit of a job, which is small in one case and large in the other."""

    settings: ClassVar = {"grace_percent": 0.0}
    program = CALCULATES

    def within(self, watched):
        return replace(watched, job=replace(watched.job, max_cpu_seconds=10_000))

    def beyond(self, watched):
        eventually(lambda: replace(watched).processes.cpu_seconds > 1.0, "a second of CPU time", seconds=30)
        return replace(watched, job=replace(watched.job, max_cpu_seconds=1))


class MemoryCase(WatchdogCase):
    """The share of a queue's memory."""

    settings: ClassVar = {}
    program = HOLDS

    def within(self, watched):
        return replace(watched, job=replace(watched.job, memory_mb=0), queue=Queue(name="KIT", max_memory_mb=4000))

    def beyond(self, watched):
        eventually(lambda: replace(watched).processes.rss_kb > 60 << 10, "60 MB of memory", seconds=30)
        return replace(watched, job=replace(watched.job, memory_mb=0), queue=Queue(name="KIT", max_memory_mb=25))


class WorkDirCase(WatchdogCase):
    settings: ClassVar = {"limit_mb": 1}

    def within(self, watched):
        return self.filled(watched, 900)

    def beyond(self, watched):
        return self.filled(watched, 1100)

    def filled(self, watched, size_kb):
        folder = watched.job_dir / "a" / "b"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "large.dat").write_bytes(b"x" * size_kb * 1024)
        # names of the same file, and holes, take no space
        for name in ("again.dat", "sparse.dat"):
            (folder / name).unlink(missing_ok=True)
        os.link(folder / "large.dat", folder / "again.dat")
        with (folder / "sparse.dat").open("wb") as stream:
            stream.truncate(10 << 20)
        return watched


class DiskSpaceCase(WatchdogCase):
    """No disk of a test's can be filled at will: what `statvfs` says is the test's. Real ones are in tests/e2e."""

    settings: ClassVar = {"limit_mb": 10}

    def __init__(self, monkeypatch):
        self.free = {}
        monkeypatch.setattr(disk.os, "statvfs", self.statvfs)

    def statvfs(self, path):
        free = self.free.get(str(path))
        if free is None:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return SimpleNamespace(f_blocks=1 << 20, f_bavail=free, f_frsize=1024)

    def having(self, watched, free):
        self.free[str(watched.job_dir)] = free
        return watched

    def within(self, watched):
        return self.having(watched, 10 * 1024 + 1)

    def at_limit(self, watched):
        return self.having(watched, 10 * 1024)

    def beyond(self, watched):
        return self.having(watched, 0)


class StdoutCase(WatchdogCase):
    settings: ClassVar = {"limit_kb": 10}
    name = "payload.stdout"

    def sized(self, watched, size):
        (watched.job_dir / self.name).write_bytes(b"x" * size)
        return watched

    def within(self, watched):
        return self.sized(watched, 10 * 1024 - 1)

    def at_limit(self, watched):
        return self.sized(watched, 10 * 1024)

    def beyond(self, watched):
        return self.sized(watched, 10 * 1024 + 1)


class StderrCase(StdoutCase):
    name = "payload.stderr"


class OutputCase(StdoutCase):
    settings: ClassVar = {"limit_mb": 1}
    name = "output.dat"

    def within(self, watched):
        return self.sized(watched, 1 << 20)

    def at_limit(self, watched):
        return self.sized(watched, 1 << 20)

    def beyond(self, watched):
        return self.sized(watched, (1 << 20) + 1)


class LoopingCase(WatchdogCase):
    settings: ClassVar = {"limit_seconds": 100}
    at_first_sight = False

    def within(self, watched):
        return watched

    def at_limit(self, watched):
        return replace(watched, now=watched.now + 100)

    def beyond(self, watched):
        return replace(watched, now=watched.now + 101)


class ProcessesCase(WatchdogCase):
    settings: ClassVar = {"limit": 6}
    program = SPAWNS

    def within(self, watched):
        # another executor's payload: nothing of it is here
        return replace(watched, process=None)

    def beyond(self, watched):
        eventually(lambda: len(replace(watched).processes.below) == 7, "seven processes", seconds=30)
        return watched


class CredentialCase(WatchdogCase):
    settings: ClassVar = {"least_seconds": 3600}
    expires = 2_000_000_000.0

    def within(self, watched):
        return replace(watched, wall=self.expires - 3601)

    def at_limit(self, watched):
        return replace(watched, wall=self.expires - 3600)

    def beyond(self, watched):
        return replace(watched, wall=self.expires - 3599)


class Holder:
    """A source of credentials."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def credential(self, *, cancel, deadline):
        if isinstance(self.held, Exception):
            raise self.held
        return self.held

    def secrets(self):
        return ()


class BuiltIn:
    """Which one, and its case."""

    name = ""
    case_class: type[WatchdogCase]

    @pytest.fixture
    def plugin(self):
        return f"watchdog.{self.name}"

    @pytest.fixture
    def case(self):
        return self.case_class()


class TestWallTime(BuiltIn, WatchdogKit):
    name, case_class = "wall-time", WallTimeCase


class TestWallTimeOfTheJob(BuiltIn, WatchdogKit):
    name, case_class = "wall-time", JobWallTimeCase


class TestCpuTime(BuiltIn, WatchdogKit):
    name, case_class = "cpu-time", CpuTimeCase


class TestMemory(BuiltIn, WatchdogKit):
    name, case_class = "memory", MemoryCase


class TestWorkDir(BuiltIn, WatchdogKit):
    name, case_class = "work-dir", WorkDirCase


class TestDiskSpace(BuiltIn, WatchdogKit):
    name = "disk-space"

    @pytest.fixture
    def case(self, monkeypatch):
        return DiskSpaceCase(monkeypatch)


class TestStdoutSize(BuiltIn, WatchdogKit):
    name, case_class = "stdout-size", StdoutCase


class TestStderrSize(BuiltIn, WatchdogKit):
    name, case_class = "stdout-size", StderrCase


class TestOutputSize(BuiltIn, WatchdogKit):
    name, case_class = "output-size", OutputCase


class TestLooping(BuiltIn, WatchdogKit):
    name, case_class = "looping", LoopingCase


class TestProcesses(BuiltIn, WatchdogKit):
    name, case_class = "processes", ProcessesCase


class TestCredential(BuiltIn, WatchdogKit):
    name, case_class = "credential", CredentialCase

    @pytest.fixture
    def context(self, tmp_path, clock):
        """A context with a credential that lives for long."""
        proxy, work = tmp_path / "proxy.pem", tmp_path / "work"
        work.mkdir()
        held = ClientCertificate(cert_file=proxy, key_file=proxy, expires=CredentialCase.expires)
        log = logging.getLogger("pilot_core.watchdog.credential")
        return Context(clock=clock, log=log, work_dir=work, credential=Holder(held))


@pytest.mark.parametrize("held", [BearerToken(value="t", origin="o", expires=1.0), AuthError("none"), None])
def test_what_is_no_certificate_is_not_watched(held):
    from pilot_core.builtin.watchdogs.lifetime import CredentialLifetime
    from pilot_core.builtin.watchdogs.settings import CredentialSettings
    from pilot_core.testing import FakeClock

    source = Holder(held) if held else None
    context = SimpleNamespace(credential=source, clock=FakeClock(), log=SimpleNamespace(debug=lambda *_: None))
    assert CredentialLifetime(CredentialSettings(), context).check(SimpleNamespace(wall=1e9)) is None
