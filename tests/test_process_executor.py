"""The executor `process`: handles that can be stored, payloads that can be found again."""

import json
import logging
import os
import subprocess
import sys
import threading

import pytest

from pilot_core import (
    Cancelled,
    CancelToken,
    Context,
    Deadline,
    ExecutorError,
    FindsPayloads,
    NoSettings,
    PayloadHandle,
    PayloadSpec,
    SystemClock,
    TransferTimeout,
)
from pilot_core.builtin import process_executor
from pilot_core.supervision import Spawner

CLOCK = SystemClock()


def limits(seconds=60.0):
    return {"cancel": CancelToken(), "deadline": Deadline.after(CLOCK, seconds)}


def make(work_dir, **extra):
    """Make the executor as the core does."""
    (provider,) = process_executor.pilot_executors()
    assert provider.name == "process"
    context = Context(clock=CLOCK, log=logging.getLogger("test"), work_dir=work_dir, extra=extra)
    return provider.factory(NoSettings(), context)


@pytest.fixture
def executor(tmp_path):
    with Spawner.start(CLOCK) as spawner:
        executor = make(tmp_path, spawner=spawner)
        yield executor
        executor.close()


def spec(home, *argv):
    control = home / "control"
    control.mkdir()
    return PayloadSpec(
        job_id=7,
        argv=argv,
        cwd=home,
        environment={"PATH": os.environ["PATH"]},
        stdout=home / "stdout",
        stderr=home / "stderr",
        control_dir=control,
    )


def result_of(payload):
    assert CLOCK.wait(payload, until=CLOCK.monotonic() + 60.0)
    return payload.result()


def test_a_payload_whose_handle_was_lost_is_found_by_its_records(executor, tmp_path):
    order = spec(tmp_path, "/bin/sh", "-c", "exit 3")
    handle = executor.start(order, **limits())
    found = executor.find(order.control_dir, **limits())
    assert found == handle
    payload = executor.attach(found, **limits())
    assert result_of(payload).exit_code == 3
    payload.close()
    assert executor.find(order.control_dir, **limits()) == handle


def test_where_no_payload_was_started_none_will_be(executor, tmp_path):
    order = spec(tmp_path, "/bin/true")
    assert isinstance(executor, FindsPayloads)
    for _ in range(2):  # whoever asked first may have been killed
        assert executor.find(order.control_dir, **limits()) is None
    with pytest.raises(ExecutorError, match="was used for a payload before"):
        executor.start(order, **limits())
    assert executor.find(tmp_path / "nowhere", **limits()) is None


def test_a_start_of_which_nothing_is_known_is_not_taken_for_none(executor, tmp_path, monkeypatch):
    """The supervisor died after it had claimed the directory: it may have been killed at any instant."""
    monkeypatch.setattr("pilot_core.supervision.lost.PATIENCE", 0.1)
    order = spec(tmp_path, "/bin/true")
    (order.control_dir / "claim").touch()
    with pytest.raises(ExecutorError, match="nothing says whether it was"):
        executor.find(order.control_dir, **limits())


def test_a_payload_is_found_again_by_its_stored_handle(executor, tmp_path):
    handle = executor.start(spec(tmp_path, "/bin/sh", "-c", "exit 3"), **limits())
    stored = PayloadHandle.from_json(json.loads(json.dumps(handle.to_json())))
    assert stored == handle
    payload = executor.attach(stored, **limits())
    assert result_of(payload).exit_code == 3
    payload.close()
    again = executor.attach(stored, **limits())
    assert result_of(again).exit_code == 3
    again.close()


def test_another_process_finds_the_payload_by_its_handle(executor, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    handle = executor.start(spec(tmp_path, "/bin/sh", "-c", 'read code < gate; exit "$code"'), **limits())
    script = """
import json, logging, sys
from pathlib import Path
from pilot_core import CancelToken, Context, Deadline, NoSettings, PayloadHandle, SystemClock
from pilot_core.builtin.process_executor import pilot_executors
clock = SystemClock()
context = Context(clock=clock, log=logging.getLogger(), work_dir=Path())
executor = pilot_executors()[0].factory(NoSettings(), context)
handle = PayloadHandle.from_json(json.loads(sys.argv[1]))
payload = executor.attach(handle, cancel=CancelToken(), deadline=Deadline.after(clock, 60))
print("attached", flush=True)
clock.wait(payload)
print(payload.result().exit_code)
executor.close()
"""
    later = subprocess.Popen([sys.executable, "-c", script, json.dumps(handle.to_json())], stdout=-1, text=True)
    assert later.stdout.readline() == "attached\n"
    gate.write_text("4\n")
    assert later.communicate()[0] == "4\n"
    assert later.returncode == 0


def test_a_program_that_does_not_exist_is_the_payloads_result(executor, tmp_path):
    payload = executor.attach(executor.start(spec(tmp_path, "/nonexistent"), **limits()), **limits())
    result = result_of(payload)
    assert result.error == "cannot execute '/nonexistent': No such file or directory"
    assert not result.ok
    payload.close()


def test_the_end_of_a_payload_can_be_asked_for(executor, tmp_path):
    payload = executor.attach(executor.start(spec(tmp_path, "/bin/sleep", "1000"), **limits()), **limits())
    payload.end("test")
    assert result_of(payload).signal == 15
    payload.close()


def test_the_executor_of_a_pilot_without_spawner_makes_its_own_and_ends_it(tmp_path):
    executor = make(tmp_path)
    payload = executor.attach(executor.start(spec(tmp_path, "/bin/true"), **limits()), **limits())
    assert result_of(payload).ok
    payload.close()
    executor.close()
    (tmp_path / "b").mkdir()
    with pytest.raises(ExecutorError, match="no payload can be started"):
        executor.start(spec(tmp_path / "b", "/bin/true"), **limits())


def test_the_pilots_spawner_is_not_the_executors_to_close(tmp_path):
    with Spawner.start() as spawner:
        make(tmp_path, spawner=spawner).close()
        executor = make(tmp_path, spawner=spawner)
        payload = executor.attach(executor.start(spec(tmp_path, "/bin/true"), **limits()), **limits())
        assert result_of(payload).ok
        payload.close()


def test_a_spawner_is_made_beside_other_threads_too(tmp_path):
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        executor = make(tmp_path)
        payload = executor.attach(executor.start(spec(tmp_path, "/bin/true"), **limits()), **limits())
        assert result_of(payload).ok
        payload.close()
        executor.close()
    finally:
        release.set()
        thread.join()


def test_a_handle_that_is_not_ours_is_refused_in_one_line(executor, tmp_path):
    handle = executor.start(spec(tmp_path, "/bin/true"), **limits()).to_json()
    result_of(executor.attach(PayloadHandle.from_json(handle), **limits()))

    def refused(**changes):
        with pytest.raises(ExecutorError, match=r"^[^\n]+$") as caught:
            executor.attach(PayloadHandle.from_json({**handle, **changes}), **limits())
        return str(caught.value)

    data = handle["data"]
    assert "executor 'slurm', layout 1; this is 'process', layout 1" in refused(executor="slurm")
    assert "layout 2" in refused(version=2)
    assert "the machine was restarted since" in refused(data={**data, "boot_id": "another"})
    assert "damaged: KeyError: 'pid'" in refused(data={key: value for key, value in data.items() if key != "pid"})
    assert "damaged: ValueError" in refused(data={**data, "pid": "x"})
    for pid in (0, -1, 2**70):
        assert f"damaged: ValueError: no process has the pid {pid}" in refused(data={**data, "pid": pid})
    assert "damaged: TypeError" in refused(data={**data, "control_dir": None})


def test_nothing_is_started_once_the_work_is_called_off(executor, tmp_path):
    wanted = spec(tmp_path, "/bin/true")
    cancel = CancelToken()
    cancel.cancel("drained")
    with pytest.raises(Cancelled, match="drained"):
        executor.start(wanted, cancel=cancel, deadline=Deadline.after(CLOCK, 60))
    with pytest.raises(TransferTimeout, match="job 7"):
        executor.start(wanted, **limits(-1.0))
    assert list(wanted.control_dir.iterdir()) == []
    assert not wanted.stdout.exists()
