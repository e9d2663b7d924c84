"""What the tests of supervision share: payloads to run, and waiting for real processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pilot_core import PayloadSpec, SystemClock
from pilot_core.supervision import Spawner, SupervisedPayload
from pilot_core.supervision.procfs import read_stat

PATIENCE = 60.0
"""Seconds after which a test gives up waiting; never waited for where all is well."""


class Descriptor:
    """Something to wait for."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number


@dataclass
class Lab:
    """Runs payloads below one directory."""

    root: Path
    spawner: Spawner
    clock: SystemClock = field(default_factory=SystemClock)
    started: list[SupervisedPayload] = field(default_factory=list)
    number: int = 0

    def spec(self, *argv, **changes):
        """Describe a payload with a directory of its own."""
        self.number += 1
        home = self.root / str(self.number)
        control = home / "control"
        control.mkdir(parents=True)
        (home / "work").mkdir()
        values = {
            "job_id": self.number,
            "argv": argv,
            "cwd": home / "work",
            "environment": {"PATH": os.environ["PATH"]},
            "stdout": home / "work" / "stdout",
            "stderr": home / "work" / "stderr",
            "control_dir": control,
        }
        return PayloadSpec(**{**values, **changes})

    def start(self, spec):
        payload = SupervisedPayload(spec.control_dir, self.spawner.launch(spec))
        self.started.append(payload)
        return payload

    def result(self, payload):
        assert self.clock.wait(payload, until=self.clock.monotonic() + PATIENCE), "the payload did not end"
        return payload.result()

    def run(self, *argv, **changes):
        return self.result(self.start(self.spec(*argv, **changes)))

    def shell(self, script, **changes):
        """Describe a payload that is a shell script."""
        return self.spec("/bin/sh", "-c", script, **changes)

    def python(self, script, **changes):
        """Describe a payload that is a Python script."""
        return self.spec(sys.executable, "-S", "-E", "-c", script, **changes)

    def fifo(self):
        """Make a FIFO through which payloads tell that they have come so far."""
        self.number += 1
        path = self.root / f"fifo{self.number}"
        os.mkfifo(path)
        return path

    @staticmethod
    def lives(pid):
        """Say whether there is a process that is no zombie."""
        found = read_stat(pid)
        return found is not None and found.lives

    def gone(self, pid):
        """Wait until a process has ended; False if it does not."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return self.clock.wait(Descriptor(descriptor), until=self.clock.monotonic() + PATIENCE)
        finally:
            os.close(descriptor)


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    with Spawner.start() as spawner:
        yield spawner


@pytest.fixture
def lab(tmp_path, spawner) -> Iterator[Lab]:
    lab = Lab(tmp_path, spawner)
    yield lab
    for payload in lab.started:
        payload.end("the test is over")
        if not lab.clock.wait(payload, until=lab.clock.monotonic() + PATIENCE):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(payload.fileno(), signal.SIGKILL)
        payload.close()
