"""Clauses of the executor kit: handles, and payloads that are found again by them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.api.executor import Executor, PayloadHandle
from pilot_core.errors import ExecutorError
from pilot_core.testing.kits.executor_base import ExecutorBase
from pilot_core.testing.kits.executor_bench import REASON, SHORT, Bench, Running, has_ended
from pilot_core.testing.kits.within import PATIENCE, within

if TYPE_CHECKING:
    from pilot_core.api.provider import Provider

__all__ = ["ExecutorFound"]

WRONG: tuple[Any, ...] = (None, "", "x", "/nonexistent", "a\0b", -1, 2**70, 1.5, True, [], {}, {"x": []})
"""Values that a damaged handle may have in the place of any other."""


class ExecutorFound(ExecutorBase):
    """`attach`, by this pilot and by others; results that wait, records that are lost."""

    def test_start_returns_while_the_payload_runs(self, bench: Bench) -> None:
        """`start` does not wait for the payload, `attach` neither, and the descriptor is quiet while it runs."""
        running, gate = bench.at_gate(after="exit 3")
        assert not has_ended(running), "the descriptor is readable while the payload runs"
        assert running.fileno() == running.fileno(), "the descriptor is another one each time"
        gate.open()
        assert bench.result(running).exit_code == 3
        assert has_ended(running), "the descriptor is no longer readable once the result was asked for"
        assert bench.result(running) == bench.result(running), "the result is another one each time"

    def test_there_is_no_result_before_the_end(self, bench: Bench) -> None:
        """`result` of a payload that runs is an `ExecutorError`, at once; it works when the end has come."""
        running, gate = bench.at_gate(after="exit 3")
        with pytest.raises(ExecutorError):
            within(running.payload.result, "result, of a payload that runs,", seconds=3.0)
        gate.open()
        assert bench.result(running).exit_code == 3

    def test_a_handle_is_plain_json(self, bench: Bench, provider: Provider[Executor]) -> None:
        """A handle survives JSON unchanged, names the executor, and is small."""
        running, gate = bench.at_gate()
        handle = running.handle
        plain = handle.to_json()
        try:
            text = json.dumps(plain, allow_nan=False)
        except (TypeError, ValueError) as error:
            pytest.fail(f"the handle is no plain JSON: {error}: {plain}", pytrace=False)
        assert json.loads(text) == plain, f"the handle comes out of JSON changed (tuples? numbers as keys?): {plain}"
        assert handle.executor == provider.name, f"the handle is of {handle.executor!r}; this is {provider.name!r}"
        assert type(handle.version) is int, f"the version of the handle is no int: {handle.version!r}"
        assert len(text) < 16_384, f"the handle has {len(text)} bytes: it goes into every journal"
        again = bench.attach(running.spec, PayloadHandle.from_json(json.loads(text)))
        gate.open()
        assert bench.result(again) == bench.result(running)

    def test_another_process_finds_a_payload_that_runs(self, bench: Bench) -> None:
        """With nothing but the handle another pilot process waits for the payload, and gets its result."""
        pilot = bench.second_pilot()
        running, gate = bench.at_gate(after="exit 3")
        pilot.attach(running.handle)
        gate.open()
        told = pilot.result()
        assert told == replace(bench.result(running), extra={}), "the other pilot process is told something else"
        assert told.exit_code == 3

    def test_another_process_finds_a_payload_that_has_ended(self, bench: Bench) -> None:
        """The end of a payload is told to a pilot process that comes later, too."""
        pilot = bench.second_pilot()
        running, result = bench.run_shell("kill -TERM $$")
        within(running.payload.close, "close")
        pilot.attach(running.handle)
        assert pilot.result() == replace(result, extra={})
        assert bench.result(bench.attach(running.spec, running.handle)) == result

    def test_a_payload_outlives_its_pilot(self, bench: Bench) -> None:
        """When the pilot is killed the payload goes on; a later pilot finds it, and gets its result."""
        pilot = bench.second_pilot()
        spec = bench.shell("", kill_grace=SHORT)
        gate = bench.gate(spec)
        spec = bench.scripted(spec, f"{gate.script}; echo still here; setsid cat hold & exit 6")
        handle = pilot.start(spec)
        pilot.kill()
        running = bench.attach(spec, handle)
        bench.reached(gate, running)
        bench.stays(running, "the payload was ended with its pilot")
        gate.open()
        assert bench.result(running).exit_code == 6
        assert running.out == b"still here\n"
        assert not bench.living(), f"processes of the payload live: {bench.living()}"

    def test_a_pilot_may_leave_while_its_payload_runs(self, bench: Bench) -> None:
        """A pilot that closes its executor and exits is held by no thread; the payload goes on, and is told."""
        pilot = bench.second_pilot()
        spec = bench.shell("")
        gate = bench.gate(spec)
        running = bench.attach(spec, pilot.start(bench.scripted(spec, f"{gate.script}; exit 6")))
        bench.reached(gate, running)
        pilot.leave()
        bench.stays(running, "the payload was ended when its pilot left")
        gate.open()
        assert bench.result(running).exit_code == 6

    def test_a_payload_that_ended_after_its_pilot_is_told(self, bench: Bench) -> None:
        """A payload that ends while no pilot lives is told to the one that comes then."""
        pilot = bench.second_pilot()
        spec = bench.shell("")
        gate, last = bench.gate(spec), bench.gate(spec, "last")
        handle = pilot.start(bench.scripted(spec, f"{gate.script}; {last.reach}; exit 7"))
        assert bench.clock.wait(gate, until=bench.clock.monotonic() + PATIENCE * 2), "the payload did not start"
        pilot.kill()
        gate.open()
        assert bench.clock.wait(last, until=bench.clock.monotonic() + PATIENCE * 2), "the payload died with its pilot"
        assert bench.result(bench.attach(spec, handle)).exit_code == 7

    def test_nothing_holds_the_pilots_output(self, bench: Bench) -> None:
        """A pilot that died while its payload runs leaves its outputs closed: who reads them sees the end."""
        pilot = bench.second_pilot()
        spec = bench.shell("")
        gate = bench.gate(spec)
        running = bench.attach(spec, pilot.start(bench.scripted(spec, gate.script)))
        bench.reached(gate, running)
        pilot.kill()
        text = within(lambda: os.read(pilot.stdout, 1000), "reading the dead pilot's standard output to its end")
        assert text == b"", f"something was written to the pilot's standard output: {text!r}"
        within(lambda: list(iter(lambda: os.read(pilot.stderr, 1000), b"")), "reading its standard error to its end")
        gate.open()
        assert bench.result(running).ok

    def test_two_may_watch_one_payload(self, bench: Bench) -> None:
        """A payload may be found more than once at a time; closing one watch leaves the other and the payload alone."""
        running, gate = bench.at_gate(before="exec <&- >&- 2>&-", after="exit 3")
        other = bench.attach(running.spec, running.handle)
        within(running.payload.close, "close")
        bench.stays(other, "the payload was ended, or its end told, when one watch, and its own outputs, were closed")
        gate.open()
        assert bench.result(other).exit_code == 3

    # -- handles that are wrong ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", ["executor", "version", "data"])
    def test_a_handle_of_another_is_refused(self, bench: Bench, what: str) -> None:
        """A handle of another executor, of another version, or with nothing in it is refused, in one line."""
        running, _ = bench.run_shell("exit 0")
        changed: Mapping[str, Any] = {
            "executor": f"other-than-{running.handle.executor}",
            "version": running.handle.version + 1,
            "data": {},
        }
        with pytest.raises(ExecutorError) as caught:
            bench.attach(running.spec, replace(running.handle, **{what: changed[what]}))
        assert "\n" not in str(caught.value)
        assert str(caught.value), "the error says nothing"

    def test_a_damaged_handle_is_an_error_for_the_reader(self, bench: Bench) -> None:
        """Whatever is missing or wrong in a handle: the right result, or an `ExecutorError`, and nothing else."""
        running, result = bench.run_shell("exit 3")
        data = dict(running.handle.data)
        damaged = [{name: data[name] for name in data if name != lost} for lost in data]
        damaged += [{**data, name: value} for name in data for value in WRONG]
        for values in damaged:
            _right_or_refused(bench, running, replace(running.handle, data=values), result.exit_code)

    def test_a_number_that_is_another_process_now_is_not_believed(self, bench: Bench) -> None:
        """A process that has the number of one in the handle by now is neither waited for nor ended."""
        running, result = bench.run_shell("exit 3")
        with _bystander(bench) as bystander:
            for name in [name for name, value in running.handle.data.items() if type(value) is int]:
                handle = replace(running.handle, data={**running.handle.data, name: bystander.pid})
                with suppress(ExecutorError):
                    found = bench.attach(running.spec, handle)
                    within(lambda one=found: one.payload.end(REASON), "end")  # type: ignore[misc]
                _right_or_refused(bench, running, handle, result.exit_code)
            assert bystander.poll() is None, "a process that is none of the payload's was ended by its number"

    def test_a_lost_record_is_no_result(self, bench: Bench) -> None:
        """With the records of its end lost or cut short, a payload has the right result or an `ExecutorError`."""
        running, result = bench.run_shell("exit 3")
        files = [path for path in running.spec.control_dir.rglob("*") if path.is_file() and not path.is_symlink()]
        for path in files:
            data = path.read_bytes()
            for damaged in (b"", data[: len(data) // 2], b"\0" * len(data), b"[]"):
                path.write_bytes(damaged)
                _right_or_refused(bench, running, running.handle, result.exit_code)
            path.write_bytes(data)
        shutil.rmtree(running.spec.control_dir)
        _right_or_refused(bench, running, running.handle, result.exit_code)

    def test_a_payload_that_never_was_has_no_result(self, bench: Bench) -> None:
        """A pilot that asks for a payload which never was is told so: no result is made up."""
        running, _ = bench.run_shell("exit 0")
        empty = bench.spec("/bin/true")
        old, new = str(running.spec.control_dir), str(empty.control_dir)
        data = json.loads(json.dumps(dict(running.handle.data)).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))
        if data == running.handle.data:
            self.does_not_apply("its handles do not name the control directory")
        _right_or_refused(bench, running, replace(running.handle, data=data), None)


def _right_or_refused(bench: Bench, running: Running, handle: PayloadHandle, exit_code: int | None) -> None:
    """See that a handle leads to the right result or to an `ExecutorError` in one line."""
    try:
        found = bench.attach(running.spec, handle)
        try:
            ready = bench.clock.wait(found, until=bench.clock.monotonic() + PATIENCE)
            assert ready, f"a payload that has ended is waited for with the handle {handle.data}"
            result = within(found.payload.result, "result")
        finally:
            within(found.payload.close, "close")
    except ExecutorError as error:
        assert "\n" not in str(error), f"an error is one line: {error}"
        return
    except Exception as error:  # noqa: BLE001  (which is what is tested)
        pytest.fail(f"{type(error).__name__}: {error}: an ExecutorError says it; handle {handle.data}", pytrace=False)
    assert exit_code is not None, f"there was no such payload, and its result is {result}"
    assert result.exit_code == exit_code, f"the payload exited with {exit_code}, and its result is {result}"


@contextmanager
def _bystander(bench: Bench) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that is none of a payload's."""
    bench.root.mkdir(exist_ok=True)
    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
