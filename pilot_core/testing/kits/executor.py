"""The conformance kit for executors: plugins that run payloads.

An author's test file is one class::

    from pilot_core.testing import ExecutorKit

    class TestSandbox(ExecutorKit):
        @pytest.fixture
        def plugin(self):
            return "executor.sandbox"

The kit's payloads are `/bin/sh` scripts that use `cat`, `env`, `ls`, `dd`, `chmod`, `sleep` and `setsid`, below a
directory of pytest's (`tmp_path`); an executor that runs them elsewhere than on this machine cannot be tried with it.
Their processes are found by a mark in their environment.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.errors import ExecutorError
from pilot_core.testing.kits.executor_bench import Bench, has_ended
from pilot_core.testing.kits.executor_end import ExecutorEnd
from pilot_core.testing.kits.executor_found import ExecutorFound
from pilot_core.testing.kits.executor_given import ExecutorGiven
from pilot_core.testing.kits.executor_told import ExecutorTold
from pilot_core.testing.kits.processes import above, below, eventually
from pilot_core.testing.kits.processes import running as busy
from pilot_core.testing.kits.within import PATIENCE, at_once, within

if TYPE_CHECKING:
    from pilot_core.api.clock import SystemClock
    from pilot_core.api.executor import Executor

__all__ = ["ExecutorKit"]

MANY = 12
"""Payloads in a row after which something would have piled up."""
SOME = MANY // 4
"""What an executor may keep in store, and had not when it was looked at first."""
LOOKS = 20
"""How often it is looked who runs while a payload waits ..."""
PAUSE = 0.02
"""... and the seconds between two looks."""


class ExecutorKit(ExecutorGiven, ExecutorTold, ExecutorEnd, ExecutorFound):
    """What an executor has to do."""

    def test_payloads_side_by_side_are_kept_apart(self, bench: Bench) -> None:
        """Payloads that run at the same time, started from several threads, have each its own outputs and result."""
        specs = [bench.shell("") for _ in range(6)]
        gates = [bench.gate(spec) for spec in specs]
        for number, spec in enumerate(specs):
            script = f"echo out {number}; {gates[number].script}; echo err {number} >&2; exit {number}"
            specs[number] = bench.scripted(spec, script)
        executor = bench.executor  # made before the threads are
        started = at_once([lambda one=spec: bench.start(one, executor) for spec in specs], "start")  # type: ignore[misc]
        for gate, running in zip(gates, started, strict=True):
            bench.reached(gate, running)
        order = (3, 0, 5, 2, 4, 1)
        for place, number in enumerate(order):
            gates[number].open()
            assert bench.result(started[number]).exit_code == number
            early = [other for other in order[place + 1 :] if has_ended(started[other])]
            assert not early, "the end of a payload is told while only another one has ended"
        for number, running in enumerate(started):
            assert running.out == b"out %d\n" % number
            assert running.err == b"err %d\n" % number
            assert bench.result(running).exit_code == number

    def test_waiting_costs_nothing(self, bench: Bench) -> None:
        """While a payload waits, neither the executor's processes nor its threads keep a processor busy."""
        running, gate = bench.at_gate(after="exit 3")
        involved = {os.getpid(), *below(), *above(*bench.living())}
        seen: Counter[int] = Counter()
        for _ in range(LOOKS):
            bench.clock.wait(running, until=bench.clock.monotonic() + PAUSE)
            seen.update(busy(*involved))
        most = max(seen.values(), default=0)
        assert most < LOOKS // 2, (
            f"a thread of the executor runs whenever one looks ({most} times of {LOOKS}): it polls"
        )
        gate.open()
        assert bench.result(running).exit_code == 3

    def test_a_payload_may_be_run_again(self, bench: Bench) -> None:
        """One PandaID may come twice, with another control directory: each run has its own result."""
        first = bench.start(bench.shell("exit 3", job_id=4711))
        assert bench.result(first).exit_code == 3
        again = bench.start(bench.shell("exit 4", job_id=4711))
        assert bench.result(again).exit_code == 4
        late = bench.attach(first.spec, first.handle)
        assert bench.result(late).exit_code == 3, "the second run of a job gave the first one another result"

    def test_closing_leaves_payloads_alone(
        self, bench: Bench, make: Callable[[SystemClock], Executor], clock: SystemClock
    ) -> None:
        """`close` of a payload's watch and of the executor leaves the payload running; another instance finds it."""
        first = make(clock)
        spec = bench.shell("")
        gate = bench.gate(spec)
        running = bench.start(bench.scripted(spec, f"{gate.script}; exit 3"), first)
        bench.reached(gate, running)
        for _ in range(2):
            within(running.payload.close, "close of a payload")
        for _ in range(2):
            within(first.close, "close of the executor", seconds=PATIENCE * 2)
        again = bench.attach(running.spec, running.handle)
        bench.stays(again, "closing the executor, or the watch, ended the payload")
        gate.open()
        assert bench.result(again).exit_code == 3

    def test_closing_frees_what_the_executor_made(
        self, bench: Bench, make: Callable[[SystemClock], Executor], clock: SystemClock
    ) -> None:
        """After `close` no process, thread or descriptor of the executor's own is left, zombies included."""

        def run(count: int) -> None:
            with _unlogged():
                for _ in range(count):
                    executor = make(clock)
                    running = bench.start(bench.shell("exit 0"), executor)
                    bench.result(running)
                    bench.let_go(running)
                    within(executor.close, "close of the executor", seconds=PATIENCE * 2)

        run(1)
        before, held = below(), _held()
        run(3)
        left = eventually(lambda: not set(below()) - set(before))
        assert left, f"processes stay below the pilot: {sorted(set(below()) - set(before))}"
        assert eventually(lambda: not _grown(held)), f"descriptors and threads: {_held()} are left, {held} were there"

    def test_the_pilots_signals_and_children_are_its_own(
        self, bench: Bench, make: Callable[[SystemClock], Executor], clock: SystemClock
    ) -> None:
        """The executor sets no signal handler in the pilot, and waits for no child that it did not start."""
        before, state = _handlers(), _process_state()
        child = subprocess.Popen(["/bin/sh", "-c", "exit 5"], stdin=subprocess.DEVNULL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        executor = make(clock)
        bench.owe(executor)
        running = bench.start(bench.shell("exit 3"), executor)
        assert bench.result(running).exit_code == 3
        within(running.payload.close, "close of a payload")
        within(executor.close, "close of the executor")
        changed = [str(number) for number, handler in _handlers().items() if before[number] != handler]
        assert not changed, f"the executor set handlers for signals of the pilot's process: {', '.join(changed)}"
        now = _process_state()
        changed = [what for what, was in state.items() if now[what] != was]
        assert not changed, f"the executor changed {', '.join(changed)} of the pilot's process"
        code = child.wait()
        assert code == 5, "the executor waited for a child of the pilot's that is none of its own"

    def test_refused_handles_leave_nothing(self, bench: Bench) -> None:
        """An `attach` that raises leaves no descriptor or thread behind in the pilot."""
        running, gate = bench.at_gate()
        held = _held()
        wrong = [replace(running.handle, version=running.handle.version + 1), replace(running.handle, executor="other")]
        wrong += [replace(running.handle, data={**running.handle.data, name: None}) for name in running.handle.data]
        for handle in wrong * 3:
            with _unlogged(), suppress(ExecutorError):
                bench.let_go(bench.attach(running.spec, handle))
        assert eventually(lambda: not _grown(held)), f"descriptors and threads: {_held()} are left, {held} were there"
        gate.open()
        assert bench.result(running).ok

    def test_many_in_a_row_leave_nothing(self, bench: Bench) -> None:
        """A dozen payloads one after the other leave no descriptor, thread or process behind in the pilot."""

        def run(count: int) -> None:
            with _unlogged():
                for number in range(count):
                    running = bench.start(bench.shell(f"exit {number}"))
                    assert bench.result(running).exit_code == number
                    bench.let_go(running)

        run(3)
        before, held = len(below()), _held()
        run(MANY)
        assert eventually(lambda: len(below()) <= before + SOME), f"processes pile up below the pilot: {below()}"
        assert eventually(lambda: not _grown(held, SOME)), (
            f"before {MANY} payloads the pilot had {held[0]} descriptors and {held[1]} threads, now {_held()}"
        )


def _handlers() -> dict[int, object]:
    """Return what this process does about each signal."""
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _process_state() -> dict[str, object]:
    """Return what else of this process is the pilot's own."""
    wakeup = -1
    if threading.current_thread() is threading.main_thread():
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
    status = Path("/proc/self/status").read_text()
    kept = ("NoNewPrivs", "Cpus_allowed")
    return {
        "the wakeup descriptor": wakeup,
        "the priority": os.getpriority(os.PRIO_PROCESS, 0),
        "the limits": [
            resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")
        ],
        "privileges or processors": [line for line in status.splitlines() if line.startswith(kept)],
        "the parent of orphans (PR_SET_CHILD_SUBREAPER)": _subreaper(),
        "the process group or session": (os.getpgid(0), os.getsid(0)),
    }


def _subreaper() -> int:
    """Return whether this process is the parent of its orphaned descendants (prctl(2))."""
    found = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(found), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
    return found.value


@contextmanager
def _unlogged() -> Iterator[None]:
    """Log nothing: pytest keeps what is logged, errors with all that they refer to among it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _held() -> tuple[int, int]:
    """Return how many descriptors and threads this process has."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def _grown(held: tuple[int, int], by: int = 0) -> bool:
    """Say whether this process has more descriptors or threads than it had, by more than some."""
    return any(now > then + by for now, then in zip(_held(), held, strict=True))
