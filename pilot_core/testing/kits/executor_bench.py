"""What the executor kit's clauses share: payloads to run, gates at which they wait, and seeing to their end."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import SystemClock
from pilot_core.api.executor import Executor, Payload, PayloadHandle, PayloadResult, PayloadSpec
from pilot_core.errors import HandledError
from pilot_core.testing.kits.canary import shows_secret
from pilot_core.testing.kits.processes import living, sweep
from pilot_core.testing.kits.second_pilot import SecondPilot
from pilot_core.testing.kits.within import PATIENCE, within

__all__ = ["LONG", "PATH", "QUIET", "REASON", "SHORT", "WAIT", "Bench", "Gate", "Running", "has_ended"]

PATH = "/usr/bin:/bin"
"""The payloads' PATH. They need a few programs there, and nothing of the pilot's."""
SHORT = 0.3
"""Seconds of grace where a payload is to be killed."""
LONG = 1000.0
"""Seconds of grace that no test lives to see."""
WAIT = "exec 3<>hold; hold() { while :; do read nothing <&3; done; }"
"""The start of a script; its function `hold` waits for ever, in no other process than the shell's, and hears signals.

(Waiting in a `sleep` might lose the signal that comes between its fork and its exec.)
"""
REASON = "called off: 100 %s {of} it"
"""Why payloads are ended: for people, and so with characters that mean something elsewhere."""
QUIET = 0.3
"""Real seconds in which something that should not happen would have shown itself."""
MARK = "PILOT_KIT_MARK"


class Gate:
    """A pipe by which a payload says that it is there, and another by which it is let go on; both in its directory."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._descriptors = []
        for part in ("reached", "opened"):
            path = folder / f"{name}.{part}"
            os.mkfifo(path, 0o600)
            # both ends, so that nobody waits for the other one
            self._descriptors.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))

    @property
    def reach(self) -> str:
        """What a script does to say that it is there."""
        return f"echo here > {self.name}.reached"

    @property
    def script(self) -> str:
        """What a script does at the gate: say that it is there, and wait."""
        return f"{self.reach}; read line < {self.name}.opened"

    def fileno(self) -> int:
        """Return the descriptor that is readable once a payload is there."""
        return self._descriptors[0]

    def take(self) -> bytes:
        """Return what payloads have said since."""
        with suppress(BlockingIOError):
            return os.read(self._descriptors[0], 65536)
        return b""

    def open(self, times: int = 1) -> None:
        """Let one payload, or several, go on."""
        os.write(self._descriptors[1], b"go\n" * times)

    def close(self) -> None:
        """Let go of the pipes."""
        for descriptor in self._descriptors:
            os.close(descriptor)


@dataclass
class Running:
    """A payload that was started and found."""

    spec: PayloadSpec
    handle: PayloadHandle
    payload: Payload

    def fileno(self) -> int:
        """Return the descriptor that tells of its end."""
        return self.payload.fileno()

    @property
    def out(self) -> bytes:
        """What it wrote to standard output."""
        return self.spec.stdout.read_bytes()

    @property
    def err(self) -> bytes:
        """What it wrote to standard error."""
        return self.spec.stderr.read_bytes()


@dataclass
class Bench:
    """Runs payloads below one directory, and sees that nothing of them stays, whatever the executor does."""

    make: Callable[[SystemClock], Executor]
    """Makes another instance of the executor."""
    root: Path
    clock: SystemClock
    mark: str = field(default_factory=lambda: f"kit-{secrets.token_hex(8)}")
    """In the environment of every payload, so that its processes are found."""
    _running: list[Running] = field(default_factory=list)
    _closing: list[Any] = field(default_factory=list)
    _number: int = 0

    @cached_property
    def executor(self) -> Executor:
        """The instance that most clauses use, made when it is first asked for."""
        return self.make(self.clock)

    # -- descriptions of payloads --------------------------------------------------------------------------------

    def spec(self, *argv: str, environment: Mapping[str, str] | None = None, **changes: Any) -> PayloadSpec:
        """Describe a payload that has a directory of its own, with a pipe `hold` that nobody writes to."""
        self._number += 1
        home = self.root / str(self._number)
        for name in ("work", "control"):
            (home / name).mkdir(parents=True, mode=0o755)
        os.mkfifo(home / "work" / "hold")
        variables = {"PATH": PATH, MARK: self.mark} if environment is None else environment
        spec = PayloadSpec(
            job_id=6_000_000_000 + self._number,
            argv=argv,
            cwd=home / "work",
            environment=variables,
            stdout=home / "work" / "payload.stdout",
            stderr=home / "work" / "payload.stderr",
            control_dir=home / "control",
        )
        return replace(spec, **changes)

    def shell(self, script: str, **changes: Any) -> PayloadSpec:
        """Describe a payload that is a shell script."""
        return self.spec("/bin/sh", "-c", script, **changes)

    @staticmethod
    def scripted(spec: PayloadSpec, script: str) -> PayloadSpec:
        """Describe a payload that runs another shell script in the same directory."""
        return replace(spec, argv=("/bin/sh", "-c", script))

    def gate(self, spec: PayloadSpec, name: str = "gate") -> Gate:
        """Make a gate in a payload's directory."""
        gate = Gate(spec.cwd, name)
        self._closing.append(gate)
        return gate

    def at_gate(self, before: str = "", after: str = "", **changes: Any) -> tuple[Running, Gate]:
        """Start a script that does something, waits at a gate, goes on; return it when it is at the gate."""
        spec = self.shell("", **changes)
        gate = self.gate(spec)
        script = "\n".join(filter(None, [before, gate.script, after]))
        running = self.start(self.scripted(spec, script))
        self.reached(gate, running)
        return running, gate

    # -- running them --------------------------------------------------------------------------------------------

    def limits(self, seconds: float = 60.0) -> dict[str, Any]:
        """Return a token that nobody cancels and a deadline that is far away."""
        return {"cancel": CancelToken(), "deadline": Deadline.after(self.clock, seconds)}

    def start(self, spec: PayloadSpec, executor: Executor | None = None) -> Running:
        """Start a payload and find it."""
        chosen = executor or self.executor
        handle = within(lambda: chosen.start(spec, **self.limits()), "start", seconds=PATIENCE)
        return self.attach(spec, handle, chosen)

    def attach(self, spec: PayloadSpec, handle: PayloadHandle, executor: Executor | None = None) -> Running:
        """Find a payload that was started."""
        chosen = executor or self.executor
        payload = within(lambda: chosen.attach(handle, **self.limits()), "attach")
        running = Running(spec, handle, payload)
        self._running.append(running)
        return running

    def result(self, running: Running, *, seconds: float = PATIENCE) -> PayloadResult:
        """Wait for the end and return how it came."""
        ready = self.clock.wait(running, until=self.clock.monotonic() + seconds)
        assert ready, "the payload ended, and its descriptor (fileno) did not become readable"
        result = within(running.payload.result, "result, after the descriptor was readable,")
        _judge(result)
        return result

    def stays(self, running: Running, why: str) -> None:
        """Fail, with the reason, if a payload ends that should go on."""
        assert not self.clock.wait(running, until=self.clock.monotonic() + QUIET), why

    def run(self, spec: PayloadSpec) -> PayloadResult:
        """Start a payload, wait for its end, return how it came."""
        return self.result(self.start(spec))

    def run_shell(self, script: str, **changes: Any) -> tuple[Running, PayloadResult]:
        """Run a shell script to its end."""
        running = self.start(self.shell(script, **changes))
        return running, self.result(running)

    def reached(self, gate: Gate, running: Running) -> None:
        """Wait until a payload is at a gate."""
        end = self.clock.monotonic() + PATIENCE
        self.clock.wait(gate, running, until=end)
        if not gate.take():
            told: object = "it neither ended nor got there"
            if has_ended(running):
                with suppress(HandledError):
                    told = within(running.payload.result, "result")
            pytest.fail(f"the payload did not come so far as {gate.name!r}: {told}", pytrace=False)

    def second_pilot(self, *, wall_step: float = 0.0) -> SecondPilot:
        """Make a second pilot process."""
        pilot = SecondPilot(self.make, wall_step=wall_step)
        self._closing.append(pilot)
        return pilot

    def let_go(self, running: Running) -> None:
        """Close a payload's watch and forget it."""
        within(running.payload.close, "close of a payload")
        self._running.remove(running)

    def owe(self, thing: Any) -> None:
        """See that something is closed at the end."""
        self._closing.append(thing)

    def living(self) -> dict[int, str]:
        """Return the processes of payloads that live, with their command lines."""
        return living(self.mark)

    def close(self) -> None:
        """End everything that was started."""
        for running in self._running:
            with suppress(Exception):
                if not has_ended(running):
                    within(partial(running.payload.end, REASON), "end")
            with suppress(Exception):
                within(running.payload.close, "close")
        for thing in reversed(self._closing):
            with suppress(Exception):
                thing.close()
        sweep(self.mark)
        if "executor" in vars(self):
            within(self.executor.close, "close of the executor", seconds=PATIENCE * 2)


def has_ended(running: Running) -> bool:
    """Say whether the descriptor tells of the end."""
    clock = SystemClock()
    return clock.wait(running, until=clock.monotonic())


def _judge(result: PayloadResult) -> None:
    """Check what holds for every result."""
    ways = [result.exit_code is not None, result.signal is not None, bool(result.error)]
    assert sum(ways) == 1, f"exit code, signal and error exclude each other, and one of them is there: {result}"
    if result.exit_code is not None:
        assert type(result.exit_code) is int, f"the exit code is no int: {result}"
        assert 0 <= result.exit_code <= 255, f"an exit code is 0 to 255 (see os.waitstatus_to_exitcode): {result}"
    if result.signal is not None:
        assert isinstance(result.signal, int), f"the signal is no number: {result}"
        assert 1 <= result.signal <= 64, f"no such signal: {result}"
    assert "\n" not in result.error, f"an error is one line: {result.error!r}"
    assert result.ok is (result.exit_code == 0)
    numbers = ("started", "ended", "user_seconds", "system_seconds", "max_rss_kb", "leftovers")
    for name in (*numbers, "read_blocks", "written_blocks"):
        value = getattr(result, name)
        assert isinstance(value, (int, float)), f"{name} is no number: {value!r}"
        assert value >= 0, f"{name} is negative: {value!r}"
    try:
        json.dumps(asdict(result), allow_nan=False)
    except (TypeError, ValueError) as error:
        pytest.fail(f"the result (see extra) is no plain JSON, which the journal needs: {error}", pytrace=False)
    assert not shows_secret(repr(result)), "a secret shows in the result"
