"""The other side of a watchdog under test: a payload that really runs, and the two sides of the limit."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import SystemClock
from pilot_core.api.executor import OnThisMachine, PayloadHandle, PayloadSpec
from pilot_core.api.job import InputFile, Job, OutputFile
from pilot_core.api.provider import Context
from pilot_core.api.queue import Queue
from pilot_core.api.watchdog import Watched
from pilot_core.supervision.records import STARTED as STARTED_RECORD
from pilot_core.testing.kits.canary import CANARY
from pilot_core.testing.kits.judging import eventually

__all__ = ["STARTED", "WatchdogCase", "WatchedPayload"]

STARTED = 50_000.0
"""Monotonic time of the payload's start in most clauses; no clock of this machine shows it."""

WALL = 1_700_000_060.0
"""Wall time of the check in most clauses, seconds since 1970."""


class WatchdogCase(ABC):
    """The two sides of one limit, as the author's test brings a payload to them.

    Both methods get a payload that really runs, in a job directory that is its own, and return what the watchdog is to
    be shown: mostly the same with another `now`, or after files were written into `watched.job_dir`.
    """

    settings: ClassVar[Mapping[str, Any]] = {}
    """The plugin's settings: a limit that a test can pass."""
    program: ClassVar[tuple[str, ...]] = ("sleep", "1000")
    """The payload; it has to run on until it is ended."""
    at_first_sight: ClassVar[bool] = True
    """Whether a single check sees that the limit is passed; False for what has to have seen the job before."""

    @abstractmethod
    def within(self, watched: Watched) -> Watched:
        """Bring the payload close to the limit, but not beyond it."""

    @abstractmethod
    def beyond(self, watched: Watched) -> Watched:
        """Bring the payload beyond the limit."""

    def at_limit(self, watched: Watched) -> Watched | None:  # noqa: ARG002  (for those that override it)
        """Bring the payload exactly to the limit, which is not passed yet; None if that cannot be."""
        return None


class WatchedPayload:
    """A payload that really runs, by the executor `process`, and what a watchdog is shown of it."""

    def __init__(self, folder: Path, program: tuple[str, ...], number: int = 1) -> None:
        from pilot_core.builtin.process_executor import pilot_executors  # noqa: PLC0415

        self.clock = SystemClock()
        self.job_dir = folder / f"job-{number}"
        self.control_dir = folder / f"control-{number}"
        for each in (self.job_dir, self.control_dir):
            each.mkdir()
        (self.job_dir / "input.dat").write_bytes(b"in" * 100)
        context = Context(clock=self.clock, log=logging.getLogger("pilot_core.kit"), work_dir=folder)
        (provider,) = pilot_executors()
        self._executor = provider.factory(provider.settings(), context)
        cancel, deadline = CancelToken(), Deadline.after(self.clock, 60.0)
        self.handle: PayloadHandle = self._executor.start(self._spec(program, number), cancel=cancel, deadline=deadline)
        self._payload = self._executor.attach(self.handle, cancel=cancel, deadline=deadline)
        self.process = self._payload.process if isinstance(self._payload, OnThisMachine) else None
        self._number = number
        files = (self.job_dir / "payload.stdout", self.job_dir / "payload.stderr", self.control_dir / STARTED_RECORD)
        runs = lambda: all(file.exists() for file in files) and bool(_processes_in(self.job_dir))  # noqa: E731
        eventually(runs, f"the payload {program[0]} of the case runs", seconds=10)

    def _spec(self, program: tuple[str, ...], number: int) -> PayloadSpec:
        return PayloadSpec(
            job_id=4710 + number,
            argv=program,
            cwd=self.job_dir,
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            stdout=self.job_dir / "payload.stdout",
            stderr=self.job_dir / "payload.stderr",
            control_dir=self.control_dir,
            kill_grace=0.5,
        )

    @property
    def watched(self) -> Watched:
        """What a watchdog is shown a minute after the payload's start."""
        job = Job(
            id=4710 + self._number,
            attempt=1,
            task_id=815,
            inputs=(InputFile(lfn="input.dat", scope="kit", size=200),),
            outputs=(OutputFile(lfn="output.dat", scope="kit"),),
            memory_mb=2000,
            disk_mb=1000,
            max_cpu_seconds=3600,
            max_wall_seconds=3600,
            secrets={"password": CANARY},
            pilot_secrets={"token": CANARY},
        )
        return Watched(
            job=job,
            handle=self.handle,
            job_dir=self.job_dir,
            started=STARTED,
            now=STARTED + 60,
            queue=Queue(name="KIT"),
            wall=WALL,
            process=self.process,
        )

    @property
    def lives(self) -> bool:
        """Whether it still runs, and was not stopped."""
        ended = self.clock.wait(self._payload, until=self.clock.monotonic())
        pids = eventually(lambda: _processes_in(self.job_dir) or ended, "the payload's process", seconds=5)
        return not ended and isinstance(pids, list) and all(_state(pid) in "RSD" for pid in pids)

    def end(self) -> None:
        """End it, and wait for its end."""
        self._payload.end("the kit is done with it")
        self.clock.wait(self._payload, until=self.clock.monotonic() + 20)

    def close(self) -> None:
        """End it and free what it needs."""
        self.end()
        self._payload.close()
        self._executor.close()


def _processes_in(folder: Path) -> list[int]:
    """Return the processes that work in a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cwd").readlink() == folder.resolve():
                found.append(int(entry.name))
        except OSError:
            continue  # it ended, or is somebody else's
    return found


def _state(pid: int) -> str:
    """Return a process's state as the kernel says it, `X` if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return "X"
