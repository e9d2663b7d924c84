"""Payloads outlive the pilot, and any later pilot finds them again."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from pilot_core import ExecutorError, SystemClock
from pilot_core.supervision import ProcessId, Spawner, SupervisedPayload
from pilot_core.supervision.procfs import children, descendants, process_id
from pilot_core.supervision.records import read_started

PILOT = """
import json, signal, sys
from pathlib import Path
from pilot_core import PayloadSpec
from pilot_core.supervision import Spawner
home, gate = Path(sys.argv[1]), sys.argv[2]
spawner = Spawner.start()
(home / "control").mkdir()
spec = PayloadSpec(
    job_id=1, argv=("/bin/sh", "-c", 'sleep 1000 & read code < "$GATE"; exit "$code"'), cwd=home,
    environment={"PATH": "/usr/bin:/bin", "GATE": gate}, stdout=home / "out", stderr=home / "err",
    control_dir=home / "control",
)
print(json.dumps([spawner.launch(spec), spawner.pid]), flush=True)
signal.pause()
"""


@pytest.fixture
def dead_pilot(tmp_path):
    """A payload whose pilot was killed: its control directory, supervisor, fork server and gate."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    pilot = subprocess.Popen([sys.executable, "-c", PILOT, tmp_path, gate], stdout=subprocess.PIPE, text=True)
    supervisor, fork_server = json.loads(pilot.stdout.readline())
    pilot.kill()
    # the end of the pipe: nothing that outlives the pilot holds its standard output
    assert pilot.communicate()[0] == ""
    supervisor = ProcessId(*supervisor)
    yield tmp_path / "control", supervisor, fork_server, gate
    payload = SupervisedPayload(tmp_path / "control", supervisor)
    payload.end("the test is over")
    SystemClock().wait(payload)
    payload.close()


def test_a_payload_goes_on_after_its_pilot_was_killed_and_a_later_pilot_gets_its_result(dead_pilot, lab):
    directory, supervisor, fork_server, gate = dead_pilot
    assert lab.gone(fork_server)
    payload = SupervisedPayload(directory, supervisor)
    assert lab.lives(read_started(directory).payload.pid)
    gate.write_text("6\n")
    result = lab.result(payload)
    assert (result.exit_code, result.leftovers) == (6, 1)
    payload.close()


def test_a_fresh_process_reads_the_result_of_a_payload_that_ended_meanwhile(dead_pilot, lab):
    directory, supervisor, _, gate = dead_pilot
    gate.write_text("7\n")
    assert lab.gone(supervisor.pid)
    script = (
        "import sys; from pathlib import Path; from pilot_core import SystemClock;"
        "from pilot_core.supervision import ProcessId, SupervisedPayload;"
        "payload = SupervisedPayload(Path(sys.argv[1]), ProcessId(int(sys.argv[2]), int(sys.argv[3])));"
        "SystemClock().wait(payload); print(payload.result().exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, directory, *map(str, supervisor)], stdout=-1, text=True, check=True
    )
    assert done.stdout == "7\n"


def test_a_later_pilot_can_end_the_payload(dead_pilot, lab):
    directory, supervisor, _, _ = dead_pilot
    payload = SupervisedPayload(directory, supervisor)
    payload.end("called off")
    result = lab.result(payload)
    assert (result.signal, result.extra["asked_to_end"]) == (signal.SIGTERM, True)
    payload.close()


def test_closing_the_spawner_leaves_payloads_alone_and_starts_no_more(lab):
    gate = lab.fifo()
    payload = lab.start(lab.shell(f'read code < "{gate}"; exit "$code"'))
    lab.spawner.close()
    lab.spawner.close()
    with pytest.raises(ExecutorError, match="was told to end"):
        lab.start(lab.spec("/bin/true"))
    gate.write_text("8\n")
    assert lab.result(payload).exit_code == 8


def test_a_dead_fork_server_is_one_clear_error_and_payloads_go_on(lab):
    gate = lab.fifo()
    payload = lab.start(lab.shell(f'read code < "{gate}"; exit "$code"'))
    os.kill(lab.spawner.pid, signal.SIGKILL)
    assert lab.gone(lab.spawner.pid)
    os.waitid(os.P_PID, lab.spawner.pid, os.WEXITED | os.WNOWAIT)
    # the next supervisor may be there already; the one after it never will
    specs = [lab.spec("/bin/true") for _ in range(2)]
    with pytest.raises(ExecutorError, match="was ended; start the pilot again"):
        [lab.start(spec) for spec in specs]
    gate.write_text("9\n")
    assert lab.result(payload).exit_code == 9


def test_a_waiting_supervisor_that_was_killed_is_replaced(lab):
    assert lab.run("/bin/true").ok
    for generation in range(2):
        lab.spawner._connection.recv(1, 2)  # MSG_PEEK: the next supervisor is there
        victim = lab.spawner.pid
        for _ in range(generation + 1):
            victim = child_of(victim)
        os.kill(victim, signal.SIGKILL)
        assert lab.gone(victim)
        result = lab.run("/bin/sh", "-c", "exit 2")
        assert (result.exit_code, result.error) == (2, "")


def child_of(pid):
    """Wait for a process to have one living child and return that."""
    found = []
    while len(found) != 1:
        os.sched_yield()
        found = [process.pid for process in descendants(pid) if process.parent == pid and process.lives]
    return found[0]


def test_nothing_of_the_spawner_stays_when_it_is_closed(lab):
    assert lab.run("/bin/true").ok
    below = descendants(lab.spawner.pid)
    lab.spawner.close()
    assert not [process for process in below if process_now(process.pid) == process.id]
    assert lab.spawner.pid not in children()


def process_now(pid):
    try:
        return process_id(pid)
    except ProcessLookupError:
        return None


def test_a_process_with_threads_starts_a_fresh_interpreter_instead_of_forking(lab):
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with Spawner.start() as spawner:
            lab.spawner, former = spawner, lab.spawner
            spec = lab.python("import os; print(sorted(os.listdir('/proc/self/fd')))")
            assert lab.result(lab.start(spec)).ok
            assert spec.stdout.read_text() == "['0', '1', '2', '3']\n"
            lab.spawner = former
    finally:
        release.set()
        thread.join()


def test_any_thread_may_start_payloads(lab):
    specs = [lab.shell(f"exit {number}") for number in range(6)]
    payloads = {}

    def start(number):
        payloads[number] = lab.start(specs[number])

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [lab.result(payloads[number]).exit_code for number in range(6)] == list(range(6))


def test_a_spawner_works_where_standard_input_and_output_are_closed(tmp_path):
    script = """
import os
from pathlib import Path
from pilot_core import PayloadSpec, SystemClock
from pilot_core.supervision import Spawner, SupervisedPayload
os.close(0)
os.close(1)
home = Path(os.environ["HOME"])
(home / "control").mkdir()
spec = PayloadSpec(
    job_id=1, argv=("/bin/sh", "-c", "cat; echo written"), cwd=home, environment={"PATH": "/usr/bin:/bin"},
    stdout=home / "out", stderr=home / "err", control_dir=home / "control",
)
with Spawner.start() as spawner:
    payload = SupervisedPayload(spec.control_dir, spawner.launch(spec))
    SystemClock().wait(payload)
    assert payload.result().ok, payload.result()
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_text() == "written\n"


def test_a_supervisor_that_is_no_more_reads_as_ended_even_if_its_pid_is_used_again(lab, tmp_path):
    mine = process_id(os.getpid())
    for other in (ProcessId(mine.pid, mine.start_time + 1), ProcessId(2**22 + 1, 1)):
        payload = SupervisedPayload(tmp_path, other)
        assert lab.clock.wait(payload, until=lab.clock.monotonic())
        payload.end("must not reach this process")
        with pytest.raises(ExecutorError, match=r"no record of the payload's end.*the payload was not started"):
            payload.result()
        payload.close()
