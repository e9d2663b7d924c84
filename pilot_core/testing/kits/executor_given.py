"""Clauses of the executor kit: what a payload is given when it starts, and what it is not."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from pilot_core.testing.kits.canary import CANARY, shows_secret
from pilot_core.testing.kits.executor_base import ExecutorBase
from pilot_core.testing.kits.executor_bench import PATH, Bench
from pilot_core.testing.kits.processes import commands

if TYPE_CHECKING:
    import pytest

__all__ = ["ExecutorGiven"]

WORDS = (
    "",
    " ",
    "a b",
    "$HOME",
    "$(echo x)",
    "`echo x`",
    "'",
    '"',
    "\\",
    "a\nb",
    "\t",
    "*",
    "~",
    "-n",
    "--",
    "%s",
    "$PATH ${PATH}",
    "{} {0} {PATH} %(PATH)s",
    "é€😀",
)
"""Arguments that shells and quoting change."""
VALUES = {
    "EMPTY": "",
    "SPACES": "  a  b  ",
    "EQUALS": "a=b=c",
    "LINES": "one\ntwo\n",
    "SHELL": "$(echo x) `echo x` $HOME ; & | > '\"\\",
    "UNICODE": "é€😀",
    "BYTES": os.fsdecode(b"\xff\xfe"),
    "kit.dotted-name": "names are not only identifiers",
    "BASH_FUNC_kit%%": "() { echo x; }",
    "LONG": "x" * 50_000,
}
"""An environment that shells and quoting change."""
GLIBCS = 1 << 31 | 1 << 32
"""Bits of the signals 32 and 33, which are the C library's own."""


class ExecutorGiven(ExecutorBase):
    """Argument vector, environment, directory, descriptors, signals."""

    def test_arguments_arrive_unchanged(self, bench: Bench) -> None:
        """Every argument arrives as it is: spaces, quotes, line breaks, empty words; no shell looks at it."""
        words = [*WORDS, os.fsdecode(b"\xff\xfe")]
        spec = bench.spec("/bin/sh", "-c", 'for word; do printf "%s\\0" "$word"; done', "sh", *words)
        running = bench.start(spec)
        assert bench.result(running).ok
        arrived = [os.fsdecode(word) for word in running.out.split(b"\0")[:-1]]
        assert arrived == words, f"arguments arrived as {arrived}, not as {words}"
        running = bench.start(bench.spec("cat", "/proc/self/cmdline"))
        assert bench.result(running).ok
        assert running.out == b"cat\0/proc/self/cmdline\0", f"the program is told its name is {running.out!r}"

    def test_arguments_of_100_kb_arrive(self, bench: Bench) -> None:
        """A long command line arrives whole."""
        words = [f"{number:05d}" + "x" * 95 for number in range(1000)]
        running = bench.start(bench.spec("/bin/sh", "-c", 'printf "%s\\n" "$@"', "sh", *words))
        assert bench.result(running).ok
        assert running.out.decode().split() == words, "a command line of 100 kB did not arrive whole"

    def test_the_environment_is_exactly_the_specs(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """The payload's environment is the spec's and nothing else; every value arrives as it is."""
        with monkeypatch.context() as patch:
            patch.setenv("KIT_OF_THE_PILOT", "the pilot's own")
            given = {"PATH": PATH, "PILOT_KIT_MARK": bench.mark, **VALUES}
            running = bench.start(bench.spec("/usr/bin/env", "-0", environment=MappingProxyType(given)))
            assert bench.result(running).ok, running.err.decode(errors="replace")
        pairs = [entry.partition(b"=") for entry in running.out.split(b"\0")[:-1]]
        arrived = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
        added, lost = sorted(set(arrived) - set(given)), sorted(set(given) - set(arrived))
        changed = sorted(name for name in set(given) & set(arrived) if given[name] != arrived[name])
        assert not added, f"variables that are not the spec's reach the payload: {', '.join(added)[:300]}"
        assert not lost, f"variables of the spec do not reach the payload: {', '.join(lost)}"
        assert not changed, f"variables of the spec arrive changed: {', '.join(changed)}"

    def test_it_starts_in_its_directory(self, bench: Bench) -> None:
        """The payload starts in `cwd`, and what it writes there is there."""
        running, result = bench.run_shell("echo data > written; pwd -P")
        assert result.ok
        assert (running.spec.cwd / "written").read_bytes() == b"data\n", "the payload did not start in spec.cwd"

    def test_directories_may_have_odd_names(self, bench: Bench) -> None:
        """Blanks, quotes and what shells replace are nothing special in the paths of a spec."""
        spec = bench.shell("echo out; echo err >&2; echo data > written")
        cwd = spec.cwd / "a b'c\"d$HOME $(echo x)é"
        control = spec.control_dir / "a b'c\"d$HOME $(echo x)é"
        for folder in (cwd, control):
            folder.mkdir()
        spec = replace(spec, cwd=cwd, control_dir=control, stdout=cwd / "std out", stderr=cwd / "std'err")
        running = bench.start(spec)
        assert bench.result(running).ok
        assert (running.out, running.err) == (b"out\n", b"err\n")
        assert (cwd / "written").exists(), "the payload did not start in spec.cwd"

    def test_a_program_is_found_by_the_payloads_own_path(self, bench: Bench) -> None:
        """A program's name without a slash is looked for on the PATH of the spec's environment; `./` is `cwd`."""
        spec = bench.spec("kit-prog", environment={"PATH": f"/nonexistent:bin:{PATH}", "PILOT_KIT_MARK": bench.mark})
        other = bench.spec("./kit-prog")
        for path in (spec.cwd / "bin" / "kit-prog", other.cwd / "kit-prog"):
            path.parent.mkdir(exist_ok=True)
            path.write_text("#!/bin/sh\necho found\n")
            path.chmod(0o755)
        spec.environment["PATH"] = f"/nonexistent:{spec.cwd}/bin:{PATH}"  # type: ignore[index]
        for one in (spec, other):
            kept = dict(one.environment)
            running = bench.start(one)
            result = bench.result(running)
            assert result.ok, f"{one.argv[0]!r} was not found: {result}"
            assert running.out == b"found\n"
            assert one.environment == kept, "the executor changed the environment of the spec that it was given"

    def test_standard_input_is_empty(self, bench: Bench) -> None:
        """The payload's standard input is empty, whatever the pilot's is."""
        pilot = bench.second_pilot()
        spec = bench.shell("cat; echo end")
        running = bench.attach(spec, pilot.start(spec))
        assert bench.clock.wait(running, until=bench.clock.monotonic() + 10.0), "the payload reads the pilot's input"
        assert bench.result(running).ok
        assert running.out == b"end\n", f"the payload read {running.out[:-4]!r} from the pilot's standard input"

    def test_no_descriptor_of_the_pilot_reaches_the_payload(self, bench: Bench, tmp_path: Path) -> None:
        """Nothing but standard input, output and error is open in the payload."""
        held = [os.open(tmp_path / "of-the-pilot", os.O_RDWR | os.O_CREAT)]
        os.set_inheritable(held[0], True)
        try:
            executor = bench.make(bench.clock)
            bench.owe(executor)
            held.append(os.open(tmp_path / "of-the-pilot", os.O_RDWR))
            os.set_inheritable(held[1], True)
            running = bench.start(bench.shell("ls -l /proc/self/fd"), executor)
            assert bench.result(running).ok, running.err
        finally:
            for descriptor in held:
                os.close(descriptor)
        listed = [line.split(" -> ") for line in running.out.decode().splitlines() if " -> " in line]
        extra = [target for name, target in listed if int(name.split()[-1]) > 2]
        assert not any("of-the-pilot" in target for _, target in listed), "the payload has a file of the pilot's open"
        assert len(extra) <= 1, f"the payload has open besides its standard descriptors: {extra}"  # 1: of `ls` itself

    def test_signals_are_neither_ignored_nor_blocked(self, bench: Bench) -> None:
        """Every signal has its default effect in the payload, whatever the pilot ignores or holds back."""
        with _signals_held_back():
            executor = bench.make(bench.clock)
            bench.owe(executor)
            running = bench.start(bench.spec("/bin/cat", "/proc/self/status"), executor)
            assert bench.result(running).ok
        words = dict(line.split(":", 1) for line in running.out.decode().splitlines())
        for name, how in (("SigBlk", "blocked"), ("SigIgn", "ignored")):
            numbers = int(words[name], 16) & ~GLIBCS
            names = [str(number) for number in range(1, 65) if numbers >> (number - 1) & 1]
            assert not numbers, f"these signals are {how} in the payload: {', '.join(names)} (Python ignores 13 and 25)"

    def test_the_umask_is_a_sensible_one(self, bench: Bench) -> None:
        """Files that the payload makes are not writable for everybody: the umask is the pilot's, or an ordinary one."""
        pilots = os.umask(0o77)
        os.umask(pilots)
        running, result = bench.run_shell("umask")
        assert result.ok
        mask = int(running.out, 8)
        assert mask in {pilots, 0o022, 0o027, 0o077}, f"the payload's umask is {mask:04o}, the pilot's {pilots:04o}"

    def test_output_files_are_not_for_others_to_write(self, bench: Bench) -> None:
        """Standard output and error, and the executor's records, are files that no other account may write."""
        running, result = bench.run_shell("echo out; echo err >&2")
        assert result.ok
        for path in (running.spec.stdout, running.spec.stderr):
            found = path.lstat()
            assert stat.S_ISREG(found.st_mode), f"{path.name} is no ordinary file"
            assert not found.st_mode & 0o133, f"{path.name} has the mode {stat.S_IMODE(found.st_mode):04o}"
        for path in running.spec.control_dir.rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISLNK(mode) or not mode & 0o022, (
                f"others may write {path.name}: mode {stat.S_IMODE(mode):04o}"
            )

    def test_it_hears_no_signal_meant_for_the_pilot(self, bench: Bench) -> None:
        """A signal to the pilot's process group, such as Ctrl-C at a terminal, does not reach the payload."""
        pilot = bench.second_pilot()
        spec = bench.shell("")
        gate = bench.gate(spec)
        script = f'trap "echo heard" INT HUP TERM; {gate.script}; exit 3'
        spec = bench.scripted(spec, script)
        running = bench.attach(spec, pilot.start(spec))
        bench.reached(gate, running)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            pilot.signal_group(number)
        gate.open()
        result = bench.result(running)
        assert result.exit_code == 3, f"a signal to the pilot's process group ended the payload: {result}"
        assert running.out == b"", "the payload got a signal that was meant for the pilot's process group"

    def test_secrets_of_the_environment_are_told_to_nobody(self, bench: Bench) -> None:
        """A secret in the payload's environment is in no command line, no handle and no repr."""
        variables = {"PATH": PATH, "PILOT_KIT_MARK": bench.mark, "TOKEN": CANARY}
        running, gate = bench.at_gate(environment=variables)
        shown = [command for command in commands() if shows_secret(command)]
        assert not shown, f"the secret is in the command line of a process: {shown[0][:60]}..."
        for path in [path for path in running.spec.control_dir.rglob("*") if path.is_file()]:
            kept = shows_secret(path.read_bytes().decode(errors="replace"))
            assert not kept or not path.stat().st_mode & 0o077, f"{path.name}: others may read the secret in it"
        assert not shows_secret(repr(running.handle.to_json())), "a secret of the environment is in the handle"
        for what, thing in (("executor", bench.executor), ("payload", running.payload)):
            assert not shows_secret(repr(thing)), f"the repr of the {what} shows a secret of the environment"
        gate.open()
        assert bench.result(running).ok

    def test_nothing_else_appears_in_the_jobs_directory(self, bench: Bench) -> None:
        """Records are kept in `control_dir`; beside the two outputs `cwd` holds what the payload wrote."""
        running, result = bench.run_shell("echo x > written")
        assert result.ok
        found = {path.name for path in running.spec.cwd.iterdir()} - {"hold", "payload.stdout", "payload.stderr"}
        assert found == {"written"}, f"the executor left in the job's directory: {sorted(found - {'written'})}"
        beside = {path.name for path in running.spec.cwd.parent.iterdir()}
        assert beside == {"work", "control"}, f"the executor left beside the job's directory: {sorted(beside)}"


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Block a signal, and ignore others where that can be done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2,))
    numbers = (signal.SIGUSR1, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
