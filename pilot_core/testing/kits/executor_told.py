"""Clauses of the executor kit: what is told of a payload that ended, and what it wrote."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.errors import Cancelled, ExecutorError, HandledError
from pilot_core.testing.kits.executor_base import ExecutorBase
from pilot_core.testing.kits.executor_bench import PATH, QUIET, Bench
from pilot_core.testing.kits.within import within

if TYPE_CHECKING:
    from pilot_core.api.executor import Executor, PayloadResult, PayloadSpec
    from pilot_core.api.provider import Provider

__all__ = ["ExecutorTold"]

CODES = (0, 1, 2, 3, 63, 64, 77, 100, 125, 126, 127, 128, 129, 130, 137, 143, 192, 254, 255)
"""Exit codes, with all those that shells, containers and pilots give a meaning of their own."""
SIGNALS = ("HUP", "INT", "QUIT", "ABRT", "KILL", "SEGV", "PIPE", "ALRM", "TERM", "USR1", "XCPU")
BURN = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
"""About 0.2 s of CPU."""
TOLERANCE = 1.5
"""Seconds by which times may be off: batch systems tell whole ones."""


class ExecutorTold(ExecutorBase):
    """Exit codes, signals, errors, outputs, times, what was used."""

    def test_exit_codes_are_told_exactly(self, bench: Bench) -> None:
        """Exit codes from 0 to 255 are told as they are; none is a signal, none an error."""
        started = [(code, bench.start(bench.shell(f"exit {code}"))) for code in CODES]
        for code, running in started:
            result = bench.result(running)
            assert result.exit_code == code, f"a payload that exited with {code} is told as {result}"
            assert result.leftovers == 0, f"a payload of one process is said to have left others: {result}"

    def test_signals_are_told_as_signals(self, bench: Bench) -> None:
        """A payload that a signal ended has that signal's number and no exit code (never 128 + n)."""
        started = [(name, bench.start(bench.shell(f"ulimit -c 0; kill -{name} $$; exit 9"))) for name in SIGNALS]
        started.append(("RTMIN+3", bench.start(bench.shell("kill -37 $$; exit 9"))))
        started.append(("ABRT", bench.start(bench.shell("ulimit -c unlimited; kill -ABRT $$; exit 9"))))  # with a core
        for name, running in started:
            result = bench.result(running)
            told = (result.exit_code, result.signal)
            number = 37 if name == "RTMIN+3" else signal.Signals[f"SIG{name}"]
            assert told == (None, number), f"a payload that SIG{name} ended is told as {result}"

    def test_a_shells_word_for_a_signal_is_an_exit_code(self, bench: Bench) -> None:
        """A payload whose child was killed, and that exits with 137 itself, exited with 137: no signal ended it."""
        _, result = bench.run_shell("sh -c 'kill -KILL $$' 2>/dev/null; exit $?")
        assert (result.exit_code, result.signal) == (137, None), f"told as {result}"

    @pytest.mark.parametrize(
        "case", ["missing", "not-on-path", "not-executable", "directory", "interpreter", "empty-name"]
    )
    def test_what_cannot_be_executed_is_the_payloads_error(
        self, bench: Bench, case: str, provider: Provider[Executor]
    ) -> None:
        """A program that cannot be executed is a result with an error and no exit code, and no exception.

        With the capability `shell-exit-codes` exit code 126 or 127 may stand for the error.
        """
        spec = bench.spec()
        (spec.cwd / "plain").write_text("#!/bin/sh\nexit 0\n")
        (spec.cwd / "plain").chmod(0o644)
        (spec.cwd / "bad").write_text("#!/nonexistent/interpreter\nexit 0\n")
        (spec.cwd / "bad").chmod(0o755)
        argv = {
            "missing": ("/nonexistent/kit-prog", "x"),
            "not-on-path": ("kit-prog-that-is-nowhere",),
            "not-executable": (str(spec.cwd / "plain"),),
            "directory": (str(spec.cwd),),
            "interpreter": (str(spec.cwd / "bad"),),
            "empty-name": ("",),
        }[case]
        result = bench.run(replace(spec, argv=argv))
        if "shell-exit-codes" in provider.capabilities and result.exit_code in {126, 127}:
            return
        assert result.error, f"{argv!r} cannot be executed, and that is told as {result}"
        if case in {"missing", "not-on-path"}:
            assert "kit-prog" in result.error, f"the error does not name the program: {result.error!r}"
        assert not result.ok
        assert bench.run(bench.shell("exit 0")).ok, "after that no payload can be started any more"

    def test_what_no_system_could_execute_is_refused_in_one_line(self, bench: Bench) -> None:
        """No command, one that is too long, NUL characters in it or in the environment are an error for the reader."""
        variables = {"PATH": PATH, "PILOT_KIT_MARK": bench.mark, "BAD": "a\0b"}
        wrong = {
            "no command": bench.spec(),
            "a NUL character in the command": bench.spec("/bin/sh", "-c", "exit 0", "a\0b"),
            "a NUL character in the environment": bench.shell("exit 0", environment=variables),
            "an argument that is longer than Linux takes (128 kB)": bench.spec("/bin/true", "x" * 200_000),
        }
        for what, spec in wrong.items():
            result = _refused(lambda one=spec: bench.run(one))  # type: ignore[misc]
            assert result is None or result.error, f"{what} is told as {result}"

    def test_outputs_are_exact_and_apart(self, bench: Bench) -> None:
        """Standard output and standard error hold exactly the bytes that were written, each its own."""
        spec = bench.shell("cat data; cat reverse >&2; cat data reverse")
        data = os.urandom(3 * 1024 * 1024 + 17)
        (spec.cwd / "data").write_bytes(data)
        (spec.cwd / "reverse").write_bytes(data[::-1])
        running = bench.start(spec)
        assert bench.result(running).ok
        _same(running.out, data + data + data[::-1], "standard output")
        _same(running.err, data[::-1], "standard error")

    def test_outputs_keep_their_order(self, bench: Bench) -> None:
        """What is written in turns to both outputs, by several processes, is there in order and whole."""
        script = "i=0; while [ $i -lt 200 ]; do echo out $i; (echo err $i >&2); i=$((i+1)); done; printf end"
        running, result = bench.run_shell(script)
        assert result.ok
        _same(running.out, b"".join(b"out %d\n" % number for number in range(200)) + b"end", "standard output")
        _same(running.err, b"".join(b"err %d\n" % number for number in range(200)), "standard error")

    def test_output_is_there_while_the_payload_runs(self, bench: Bench) -> None:
        """What the payload has written can be read while it runs (heartbeats show it, watchdogs look at it)."""
        running, gate = bench.at_gate(before="echo early; echo warning >&2", after="exit 0")
        assert running.out == b"early\n", f"standard output of the running payload reads {running.out!r}"
        assert running.err == b"warning\n", f"standard error of the running payload reads {running.err!r}"
        gate.open()
        assert bench.result(running).ok

    @pytest.mark.parametrize("which", ["stdout", "stderr"])
    def test_an_output_that_cannot_be_made_is_told(self, bench: Bench, which: str) -> None:
        """Without a place for its outputs a payload is not run; the error says so."""
        spec = bench.shell("echo x > ran")
        spec = replace(spec, **{which: spec.cwd / "none" / "out"})  # type: ignore[arg-type]
        result = _refused(lambda: bench.run(spec))
        assert result is None or result.error, f"its {which} cannot be made, and that is told as {result}"
        assert not (spec.cwd / "ran").exists(), f"the payload ran, although its {which} could not be made"

    @pytest.mark.parametrize("which", ["stdout", "stderr"])
    def test_output_does_not_follow_a_planted_link(self, bench: Bench, tmp_path: Path, which: str) -> None:
        """A symbolic link in the place of an output leads the payload's writing nowhere else."""
        victim, absent = tmp_path / "victim", tmp_path / "absent"
        victim.write_text("precious")
        for target in (victim, absent):
            spec = bench.shell("echo overwritten; echo overwritten >&2")
            getattr(spec, which).symlink_to(target)
            _refused(lambda one=spec: bench.run(one))  # type: ignore[misc]
        assert victim.read_text() == "precious", f"a planted link in the place of {which} was followed"
        assert not absent.exists(), f"a planted link in the place of {which}, to where nothing was, was followed"

    def test_a_payload_may_remove_its_directory(self, bench: Bench) -> None:
        """How a payload ended is known even if it removed its whole directory."""
        running, result = bench.run_shell('rm -rf "$PWD"; exit 3')
        assert result.exit_code == 3, f"told as {result}"
        assert not running.spec.stdout.exists()

    def test_times_are_wall_times_of_start_and_end(self, bench: Bench) -> None:
        """`started` and `ended` are seconds since 1970, of the start and of the end, whoever asks and when."""
        later = bench.second_pilot(wall_step=1000.0)
        before = bench.clock.wall()
        running, gate = bench.at_gate(after="exit 4")
        there = bench.clock.wall()
        gate.open()
        result = bench.result(running)
        after = bench.clock.wall()
        assert before - TOLERANCE <= result.started <= there + TOLERANCE, f"started at {result.started}, not {before}"
        assert there - TOLERANCE <= result.ended <= after + TOLERANCE, f"ended at {result.ended}, not {after}"
        assert result.started <= result.ended
        later.attach(running.handle)
        again = later.result()
        assert replace(result, extra={}) == again, f"who asks later is told something else: {again}, not {result}"

    def test_cpu_time_is_measured(self, bench: Bench) -> None:
        """User and system seconds are those of the payload and of its children that were waited for."""
        running, result = bench.run_shell(f"sh -c '{BURN}' & wait; {BURN}; times")
        user, system = (sum(map(_seconds, running.out.decode().split()[place::2])) for place in (0, 1))
        used = user + system
        told = result.user_seconds + result.system_seconds
        assert told >= used * 0.9 - 0.05, f"the payload used {used:.2f} s of CPU and is told to have used {told:.2f} s"
        assert told <= used * 2 + 10.0, f"the payload used {used:.2f} s of CPU and is told to have used {told:.2f} s"
        swapped = user > 3 * system and result.system_seconds > result.user_seconds
        assert not swapped, f"it used {user:.2f} s in user mode, {system:.2f} s in the kernel; told are {result}"

    def test_memory_is_measured(self, bench: Bench) -> None:
        """`max_rss_kb` is the largest resident set of any of its processes, in kB; no other payload counts."""
        _, result = bench.run_shell("(dd if=/dev/zero of=/dev/null bs=300M count=1 2>/dev/null) ; exit 0")
        assert result.max_rss_kb >= 300_000, f"a process used 307200 kB; told are {result.max_rss_kb} kB"
        assert result.max_rss_kb <= 3_000_000, f"a process used 307200 kB; told are {result.max_rss_kb} kB"
        _, after = bench.run_shell("exit 0")
        assert after.max_rss_kb < 300_000, (
            f"a payload that does nothing is told to have used what another one had: {after}"
        )

    def test_blocks_are_of_512_bytes(self, bench: Bench) -> None:
        """`written_blocks` and `read_blocks`, where they are measured, count 512 bytes each, and each its own way."""
        _, result = bench.run_shell("exec dd if=/dev/zero of=data bs=1M count=16 conv=fsync 2>/dev/null")
        written, read = result.written_blocks * 512, result.read_blocks * 512
        assert written < 64 * 2**20, f"16 MB were written; told are {written} bytes, in blocks of 512"
        assert read < 8 * 2**20, f"16 MB were written and nothing read; told are {read} bytes read"

    def test_a_cancelled_start_starts_nothing(self, bench: Bench) -> None:
        """`start` with a token that is cancelled raises `Cancelled`, and nothing runs."""
        cancel = CancelToken()
        cancel.cancel("called off by a test")
        limits: dict[str, Any] = {"cancel": cancel, "deadline": Deadline.after(bench.clock, 60.0)}
        error = _not_started(bench, lambda spec: bench.executor.start(spec, **limits))
        assert isinstance(error, Cancelled), f"a cancelled start raises Cancelled, not {type(error).__name__}: {error}"
        assert bench.run(bench.shell("exit 0")).ok, "after that no payload can be started any more"

    def test_a_start_past_its_deadline_starts_nothing(self, bench: Bench) -> None:
        """`start` with a deadline that has passed raises an error, and nothing runs."""
        limits: dict[str, Any] = {"cancel": CancelToken(), "deadline": Deadline.after(bench.clock, -1.0)}
        error = _not_started(bench, lambda spec: bench.executor.start(spec, **limits))
        assert not isinstance(error, Cancelled), "nobody cancelled; it is a deadline that passed (TransferTimeout)"


def _not_started(bench: Bench, start: Callable[[PayloadSpec], object]) -> HandledError:
    """Return the error of a start that has to fail, and see that nothing runs."""
    spec = bench.shell("")
    gate = bench.gate(spec)
    spec = bench.scripted(spec, gate.reach)
    try:
        within(lambda: start(spec), "start")
    except HandledError as error:
        found = bench.clock.wait(gate, until=bench.clock.monotonic() + QUIET)
        assert not found, f"start raised {type(error).__name__}, and the payload ran"
        assert not bench.living(), f"start raised {type(error).__name__}, and left processes: {bench.living()}"
        return error
    return pytest.fail("start did not raise, although it was called off", pytrace=False)


def _refused(run: Callable[[], PayloadResult]) -> PayloadResult | None:
    """Return the result of a payload that has to be refused, or None if an `ExecutorError` did that."""
    try:
        return run()
    except ExecutorError as error:
        assert "\n" not in str(error), f"an error is one line: {error}"
        return None


def _same(found: bytes, written: bytes, what: str) -> None:
    """Compare an output with what was written."""
    assert len(found) == len(written), f"{what} has {len(found)} bytes; {len(written)} were written"
    assert found == written, f"{what} has other bytes than were written"


def _seconds(word: str) -> float:
    """Read what the shell's `times` says: `0m0.210000s`."""
    minutes, _, seconds = word.rstrip("s").partition("m")
    return int(minutes) * 60 + float(seconds.replace(",", "."))
