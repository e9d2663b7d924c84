"""Clauses of the executor kit: how payloads are ended, and that nothing of them stays."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilot_core.testing.kits.executor_base import ExecutorBase
from pilot_core.testing.kits.executor_bench import LONG, QUIET, REASON, SHORT, WAIT, Bench, Gate, Running, has_ended
from pilot_core.testing.kits.processes import eventually, zombies
from pilot_core.testing.kits.within import PATIENCE, within

if TYPE_CHECKING:
    from pilot_core.api.executor import PayloadResult

__all__ = ["ExecutorEnd"]

FAMILY = """trap "" TERM HUP
if [ "$1" -gt 0 ]; then
    while [ -e fuse ]; do
        case $1 in *[24]) setsid sh family $(($1 - 1)) ;; *) sh family $(($1 - 1)) ;; esac
    done
fi
echo here > gate.reached
exec 3<>hold
while :; do read nothing <&3; done
"""
"""Generations of processes that ignore signals; each parent makes its child anew as soon as that dies."""
HOPPER = """[ -e fuse ] || exit 0
echo here > gate.reached
[ "$1" -gt 0 ] || { echo survived > survived; exit 0; }
[ "$1" -gt 1000 ] || sleep 0.5
setsid sh hopper $(($1 - 1)) &
"""
"""A process that is always another one: it starts its successor, in a session of its own, and ends.

The last thousand take their time: who looks for it in all of /proc would else come too late for ever, and be right.
"""
ODD_NAME = "x) Z 1 1 (y"
"""A program's name as /proc/PID/stat shows it between parentheses, and who reads carelessly takes it for a zombie."""
HOPS = 1030
HOPPERS = 16
"""So many at a time that who looks once does not find all of them."""
ATTEMPTS = 4
LATE = 4.0
"""Seconds that killing may take, on a machine that has other things to do."""


class ExecutorEnd(ExecutorBase):
    """`end`, the grace, processes that stay behind, and those that have nothing to do with it."""

    def test_end_asks_first_and_returns_at_once(self, bench: Bench) -> None:
        """`end` sends SIGTERM and returns; within the grace a payload may clean up, and exit with its own code."""
        spec = bench.shell("", kill_grace=LONG)
        ready, asked = bench.gate(spec, "ready"), bench.gate(spec, "asked")
        script = f'{WAIT}; trap "{asked.script}; echo clean; exit 5" TERM; {ready.reach}; hold'
        running = bench.start(bench.scripted(spec, script))
        bench.reached(ready, running)
        within(partial(running.payload.end, REASON), "end (which does not wait for the payload)", seconds=3.0)
        bench.reached(asked, running)
        bench.stays(running, "the payload was killed within the grace, or its end told, while it still cleans up")
        asked.open()
        result = bench.result(running)
        told = (result.exit_code, result.signal)
        assert told == (5, None), f"a payload that was asked to end, and exited with 5, is told as {result}"
        assert running.out == b"clean\n"

    def test_every_process_of_the_payload_is_asked(self, bench: Bench) -> None:
        """SIGTERM reaches all processes of the payload, in whatever session and group they are."""
        spec = bench.shell("", kill_grace=LONG)
        ready = bench.gate(spec, "ready")
        (spec.cwd / "child").write_text(f'{WAIT}; trap "echo asked > $1; exit" TERM; {ready.reach}; hold\n')
        script = f'sh child a & setsid sh child b & (setsid sh child c &) ; {WAIT}; trap "wait; exit 6" TERM; hold'
        running = bench.start(bench.scripted(spec, script))
        _count(bench, ready, running, 3)
        running.payload.end(REASON)
        result = bench.result(running)
        asked = {name for name in "abc" if (running.spec.cwd / name).exists()}
        what = {"a": "a child", "b": "a child in its own session", "c": "a grandchild that lost its parent"}
        missed = [text for name, text in what.items() if name not in asked]
        assert not missed, f"SIGTERM did not reach {', '.join(missed)}: {result}"

    def test_a_plain_payload_is_ended_by_sigterm(self, bench: Bench) -> None:
        """A payload that does nothing about it is ended by SIGTERM, which is then its result."""
        running, _ = bench.at_gate(kill_grace=LONG)
        running.payload.end(REASON)
        result = bench.result(running)
        assert (result.exit_code, result.signal) == (None, signal.SIGTERM), f"told as {result}"

    def test_who_ignores_sigterm_is_killed_after_the_grace(self, bench: Bench) -> None:
        """A payload that ignores SIGTERM, with children that do, is killed when the grace is over, and not before."""
        before = f'trap "" TERM HUP INT; {WAIT}; (hold) & (setsid sh -c "{WAIT}; hold" &)'
        running, gate = bench.at_gate(before=before, after="hold", kill_grace=SHORT)
        gate.open()
        bench.stays(running, "the payload ended before anybody asked for it")  # longer than the grace, which begins now
        begun = bench.clock.monotonic()
        running.payload.end(REASON)
        result = bench.result(running)
        took = bench.clock.monotonic() - begun
        assert (result.exit_code, result.signal) == (None, signal.SIGKILL), f"told as {result}"
        assert SHORT * 0.9 <= took < SHORT + LATE, f"it was killed {took:.2f} s after SIGTERM; kill_grace is {SHORT} s"
        _nothing_lives(bench)

    @pytest.mark.parametrize("who", ["payload", "leftovers"])
    def test_the_grace_is_as_long_as_the_spec_says(self, bench: Bench, who: str) -> None:
        """Who ignores SIGTERM has `kill_grace`, no less and not much more: the payload, and what it leaves behind."""
        late = {}
        for _ in range(ATTEMPTS):  # a machine that is busy just now is no fault of the plugin's
            usual = _gone_after(bench, who, "", LONG)
            took = _gone_after(bench, who, 'trap "" TERM; ', SHORT)
            assert took >= SHORT * 0.9, f"the {who} had {took:.2f} s after SIGTERM; kill_grace is {SHORT} s"
            if took - SHORT <= 0.15 + usual * 1.5:
                return
            late[took] = usual
        pytest.fail(f"the {who} was killed after {min(late):.2f} s; kill_grace is {SHORT} s", pytrace=False)

    def test_asking_again_does_not_put_off_the_end(self, bench: Bench) -> None:
        """The grace begins with the first `end`; asking again and again does not make it longer."""
        running, gate = bench.at_gate(before=f'trap "" TERM; {WAIT}', after="hold", kill_grace=QUIET * 3)
        gate.open()
        running.payload.end(REASON)
        for _ in range(20):
            if bench.clock.wait(running, until=bench.clock.monotonic() + QUIET):
                break
            running.payload.end(REASON)
        assert has_ended(running), "each `end` put off the killing of a payload that ignores SIGTERM"
        assert bench.result(running).signal == signal.SIGKILL

    def test_it_is_asked_once(self, bench: Bench) -> None:
        """SIGTERM comes once, however often `end` is called: a second one interrupts many a clean-up."""
        spec = bench.shell("", kill_grace=LONG)
        ready, heard, go = bench.gate(spec, "ready"), bench.gate(spec, "heard"), bench.gate(spec, "go")
        trap = f"n=0; trap 'n=$((n+1)); {heard.reach}' TERM; exec 4<>{go.name}.opened; {ready.reach}"
        running = bench.start(bench.scripted(spec, f"{trap}; until read line <&4; do :; done; exit $n"))
        bench.reached(ready, running)
        running.payload.end(REASON)
        bench.reached(heard, running)
        for _ in range(2):
            running.payload.end(REASON)
        bench.stays(running, "a payload that was asked to end was killed within the grace, or by a second `end`")
        go.open()
        result = bench.result(running)
        assert result.exit_code == 1, f"SIGTERM came more than once, or how it ended is told wrongly: {result}"

    def test_a_payload_that_stops_has_not_ended(self, bench: Bench) -> None:
        """A payload that is stopped (SIGSTOP) and goes on later has not ended meanwhile."""
        spec = bench.shell("")
        gate = bench.gate(spec)
        script = f"({gate.script}; kill -CONT $$) & kill -STOP $$; wait; exit 4"
        running = bench.start(bench.scripted(spec, script))
        bench.reached(gate, running)
        bench.stays(running, "a payload that has stopped is told to have ended")
        gate.open()
        result = bench.result(running)
        assert (result.exit_code, result.signal) == (4, None), f"told as {result}"

    def test_a_stopped_payload_is_ended(self, bench: Bench) -> None:
        """A payload that has stopped itself (SIGSTOP) is ended as well."""
        spec = bench.shell("", kill_grace=SHORT)
        gate = bench.gate(spec)
        running = bench.start(bench.scripted(spec, f"{gate.reach}; kill -STOP $$; exit 0"))
        bench.reached(gate, running)
        running.payload.end(REASON)
        bench.result(running)
        _nothing_lives(bench)

    def test_an_end_right_after_the_start_counts(self, bench: Bench) -> None:
        """`end` is not lost on a payload that has just been started."""
        started = [bench.start(bench.shell(f"{WAIT}; hold", kill_grace=SHORT)) for _ in range(5)]
        for running in started:
            running.payload.end(REASON)
        for running in started:
            bench.result(running)
        _nothing_lives(bench)

    def test_end_may_be_called_again_and_after_the_end(self, bench: Bench) -> None:
        """A second `end` does no harm, nor does one after the end; the result stays the same."""
        running, gate = bench.at_gate(before='trap "" TERM', after="exit 7", kill_grace=LONG)
        for _ in range(2):
            within(partial(running.payload.end, REASON), "end")
            bench.stays(running, "a payload that was asked to end was killed within the grace, or by a second `end`")
        gate.open()
        result = bench.result(running)
        assert result.exit_code == 7, f"told as {result}"
        within(partial(running.payload.end, "too late"), "end, after the payload's end,")
        late = bench.attach(running.spec, running.handle)
        within(partial(late.payload.end, "too late"), "end of a payload that was found when it had ended")
        assert bench.result(running) == result, "the result changed by an `end` that came after the end"

    def test_end_is_for_one_payload(self, bench: Bench) -> None:
        """The end of one payload leaves another one of the same executor alone."""
        one, _ = bench.at_gate(before="setsid cat hold & cat hold &", kill_grace=SHORT)
        other, gate = bench.at_gate(after='trap "" TERM; exit 8')
        one.payload.end(REASON)
        assert bench.result(one).signal == signal.SIGTERM
        bench.stays(other, "the end of one payload ended another one")
        gate.open()
        assert bench.result(other).exit_code == 8

    def test_another_pilot_can_end_it(self, bench: Bench) -> None:
        """A pilot that found the payload by its handle can end it; who started it sees that."""
        pilot = bench.second_pilot()
        running, _ = bench.at_gate(kill_grace=LONG)
        pilot.attach(running.handle)
        pilot.end()
        assert bench.result(running).signal == signal.SIGTERM
        assert pilot.result().signal == signal.SIGTERM

    # -- nothing stays -------------------------------------------------------------------------------------------

    def test_no_process_lives_when_the_end_is_told(self, bench: Bench) -> None:
        """When the descriptor is readable all processes have ended: children, daemons, whatever they are called."""
        before = f"""
            printf '%s\\n' '#!/bin/sh' '{WAIT}; hold' > '{ODD_NAME}'
            chmod 755 '{ODD_NAME}'
            trap "" TERM HUP
            setsid './{ODD_NAME}' &
            cat hold & setsid cat hold & (setsid sh -c "{WAIT}; hold" &)
            env -i PATH=$PATH setsid sh -c ': {bench.mark}; {WAIT}; : > bare; hold' &
            until [ -e bare ]; do :; done  # or it may still have the environment when the payload ends
            (sh -c 'trap "" TERM HUP; setsid sh -c ": {bench.mark}; {WAIT}; (hold) & hold" &' &)
            cd /; cat "$OLDPWD/hold" & cd "$OLDPWD"
        """
        running, gate = bench.at_gate(before=before, after="exit 3", kill_grace=SHORT)
        gate.open()
        result = bench.result(running)
        _nothing_lives(bench)
        assert (result.exit_code, result.signal) == (3, None), f"what it left changed its result: {result}"

    def test_the_end_is_not_told_before_the_last_process_has_ended(self, bench: Bench) -> None:
        """A process that cleans up after the payload's own end is part of the payload: the descriptor waits for it."""
        spec = bench.shell("", kill_grace=LONG)
        ready, asked = bench.gate(spec, "ready"), bench.gate(spec, "asked")
        (spec.cwd / "child").write_text(f'{WAIT}; trap "{asked.script}; echo clean; exit" TERM; {ready.reach}; hold\n')
        gate = bench.gate(spec)
        running = bench.start(bench.scripted(spec, f"setsid sh child & {gate.script}; exit 3"))
        bench.reached(ready, running)
        bench.reached(gate, running)
        gate.open()
        bench.reached(asked, running)
        bench.stays(running, "the descriptor tells of the end while a process of the payload lives")
        asked.open()
        result = bench.result(running)
        assert result.exit_code == 3, f"told as {result}"
        assert running.out == b"clean\n", "a process that was left had no time to clean up within the grace"

    def test_leftovers_are_counted(self, bench: Bench) -> None:
        """`leftovers` is the number of processes that lived on after the payload's own end."""
        spec = bench.shell("")
        there, gate = bench.gate(spec, "there"), bench.gate(spec)
        (spec.cwd / "child").write_text(f"{WAIT}; {there.reach}; hold\n")
        (spec.cwd / "parent").write_text("sh child & wait\n")
        script = f"sh child & setsid sh parent & (setsid sh child &) ; {gate.script}; exit 0"
        running = bench.start(bench.scripted(spec, script))
        _count(bench, there, running, 3)
        bench.reached(gate, running)
        gate.open()
        result = bench.result(running)
        assert result.leftovers == 4, f"four processes outlived the payload's own; told are {result.leftovers}"
        assert result.exit_code == 0

    def test_the_dead_are_no_leftovers(self, bench: Bench) -> None:
        """A process that has ended, and was not waited for by its parent, is not counted as left."""
        spec = bench.shell("")
        child, gate = bench.gate(spec, "child"), bench.gate(spec)
        # `dd` waits for no child; a shell would
        script = f"({child.script}) & {gate.reach}; exec dd if={gate.name}.opened of=/dev/null count=1"
        running = bench.start(bench.scripted(spec, script))
        bench.reached(child, running)
        bench.reached(gate, running)
        child.open()
        assert eventually(lambda: bool(zombies(*bench.living()))), "its child has not become a zombie"
        gate.open()
        result = bench.result(running)
        assert (result.exit_code, result.leftovers) == (0, 0), f"a process that had ended is counted as left: {result}"

    def test_a_family_that_replaces_its_dead_is_gone(self, bench: Bench) -> None:
        """Generations of processes that ignore signals, and replace whoever is killed, are all gone at the end."""
        spec = bench.shell("", kill_grace=0.0)
        gate = bench.gate(spec)
        (spec.cwd / "family").write_text(FAMILY)
        (spec.cwd / "fuse").touch()
        running = bench.start(bench.scripted(spec, "sh family 6 & wait"))
        try:
            bench.reached(gate, running)
            running.payload.end(REASON)
            bench.result(running)
            _nothing_lives(bench)
        finally:
            (spec.cwd / "fuse").unlink(missing_ok=True)

    def test_a_process_that_is_always_another_one_is_gone(self, bench: Bench) -> None:
        """Processes that start their successors and end, over and over, do not escape."""
        spec = bench.shell("", kill_grace=0.0)
        (spec.cwd / "hopper").write_text(HOPPER)
        (spec.cwd / "fuse").touch()
        gate = bench.gate(spec)
        script = f"{gate.script}; " + f"sh hopper {HOPS}; " * HOPPERS + "exit 2"
        running = bench.start(bench.scripted(spec, script))
        try:
            bench.reached(gate, running)
            gate.open()
            result = bench.result(running, seconds=PATIENCE * 3)
            gate.take()
            hops = bench.clock.wait(gate, until=bench.clock.monotonic() + QUIET)
            assert not hops, "the end is told, and a process goes on that is another one each time"
            _nothing_lives(bench)
        finally:
            (spec.cwd / "fuse").unlink(missing_ok=True)
        assert result.exit_code == 2, f"told as {result}"
        assert not (spec.cwd / "survived").exists(), "the process went on to its own end"

    def test_bystanders_are_left_alone(self, bench: Bench) -> None:
        """Processes that are none of the payload's live on: of the same user, program, directory and environment."""
        spec = bench.shell("", kill_grace=SHORT)
        gate = bench.gate(spec)
        script = f'trap "" TERM; cat hold & setsid cat hold & {gate.script}; exit 0'
        spec = bench.scripted(spec, script)
        with _bystanders(spec.cwd, {**spec.environment, "PILOT_KIT_MARK": "bystander"}) as bystanders:
            running = bench.start(spec)
            bench.reached(gate, running)
            running.payload.end(REASON)
            result: PayloadResult = bench.result(running)
            assert result.signal == signal.SIGKILL
            hit = [process.args for process in bystanders if process.poll() is not None]
            assert not hit, f"processes that are none of the payload's were ended: {hit}"

    def test_no_zombie_stays(self, bench: Bench) -> None:
        """When a payload has ended and is closed the pilot has no zombie below it."""
        for script in ("exit 0", "kill -KILL $$", "sh -c 'exit 0' & setsid cat hold & exit 1"):
            running, _ = bench.run_shell(script, kill_grace=SHORT)
            within(running.payload.close, "close")
        assert eventually(lambda: not zombies()), f"zombies stay below the pilot: {sorted(zombies())}"


def _gone_after(bench: Bench, who: str, trap: str, grace: float) -> float:
    """Return the seconds after which somebody was gone who was asked to end."""
    script = f"{trap}{WAIT}"
    # a leftover has to be deaf before its parent goes
    left = f"({script}; : > deaf; hold) & until [ -e deaf ]; do :; done"
    before, after = (script, "hold") if who == "payload" else (left, "exit 3")
    running, gate = bench.at_gate(before=before, after=after, kill_grace=grace)
    begun = bench.clock.monotonic()
    gate.open()
    if who == "payload":
        running.payload.end(REASON)
    bench.result(running)
    return bench.clock.monotonic() - begun


def _nothing_lives(bench: Bench) -> None:
    """Fail if a payload's process lives."""
    found = bench.living()
    assert not found, f"the end was told, and these processes of the payload live: {found}"


def _count(bench: Bench, gate: Gate, running: Running, count: int) -> None:
    """Wait until several processes have come to a gate."""
    end = bench.clock.monotonic() + PATIENCE * 2
    seen = 0
    while seen < count and bench.clock.wait(gate, running, until=end):
        seen += gate.take().count(b"\n")
        assert seen or not has_ended(running), "the payload ended before its processes were there"


@contextmanager
def _bystanders(folder: Path, environment: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run processes that look like the payload's and are not."""
    argv = ["/bin/sh", "-c", "exec 3<>hold; exec cat <&3"]
    made = [
        subprocess.Popen(argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, start_new_session=alone)
        for alone in (False, True)
    ]
    try:
        yield made
    finally:
        for process in made:
            process.kill()
            process.wait()
