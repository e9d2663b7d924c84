"""At its end nothing of a payload is left, and nothing else was touched."""

import ctypes  # noqa: F401  (loaded while every file may be read)
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pytest

from pilot_core import ExecutorError, PayloadSpec, SystemClock
from pilot_core.supervision import Spawner, SupervisedPayload, forkserver  # noqa: F401  (likewise)
from pilot_core.supervision.procfs import descendants

DAEMON = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
with open(sys.argv[1], "w") as gate:
    gate.write(str(os.getpid()))
signal.pause()
"""

FOR_EVER = "mkfifo hold; exec 3<>hold; for_ever() { while :; do read nothing <&3; done; }"
"""A shell's function that waits without a process, which might lose a SIGTERM between its fork and its exec."""


@pytest.fixture
def bystander():
    """A process of the same user that is none of the payload's."""
    process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    yield process
    assert process.poll() is None, "a process that is not the payload's was ended"
    process.kill()
    process.wait()


def pid_from(gate):
    """Wait for a process to write its pid into a FIFO."""
    return int(gate.read_text())


def test_a_daemon_that_ignores_sigterm_is_gone_at_the_end(lab, bystander):
    gate = lab.fifo()
    spec = lab.shell('"$PYTHON" -S -E -c "$DAEMON" "$GATE"; cat "$GATE"; exit 3', kill_grace=0.05)
    spec.environment.update(PYTHON=sys.executable, DAEMON=DAEMON, GATE=str(gate))
    result = lab.result(lab.start(spec))
    assert (result.exit_code, result.leftovers) == (3, 1)
    assert not lab.lives(int(spec.stdout.read_text()))


def test_a_polite_leftover_is_not_waited_for_until_the_grace_is_over(lab, bystander):
    spec = lab.shell('sleep 1000 & (sleep 1000 & sleep 1000) & echo "$!"', kill_grace=1e6)
    result = lab.result(lab.start(spec))
    assert result.ok
    assert result.leftovers >= 2  # the third may not have been forked yet when its parent was ended
    assert not lab.lives(int(spec.stdout.read_text()))


def test_leftovers_may_clean_up_within_the_grace(lab):
    gate = lab.fifo()
    script = f'({FOR_EVER}; trap "echo clean; exit" TERM; echo > "$GATE"; for_ever) & cat "$GATE"'
    spec = lab.shell(script, kill_grace=1e6)
    spec.environment["GATE"] = str(gate)
    assert lab.result(lab.start(spec)).ok
    assert spec.stdout.read_text() == "\nclean\n"


def test_zombies_that_the_payload_never_waited_for_are_no_leftovers(lab):
    script = """
import os
child = os.fork()
if child == 0:
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
"""
    result = lab.result(lab.start(lab.python(script)))
    assert (result.exit_code, result.leftovers) == (0, 0)


def test_a_stopped_leftover_is_ended(lab):
    spec = lab.shell("sleep 1000 & kill -STOP $!", kill_grace=1e6)
    result = lab.result(lab.start(spec))
    assert (result.exit_code, result.leftovers) == (0, 1)


def test_a_family_that_replaces_its_dead_is_gone_at_the_end(lab, bystander):
    """Six generations, each of which makes the next one anew as soon as it dies; two of them in their own sessions."""
    gate = lab.fifo()
    script = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def live(generation):
    if generation % 3 == 2:
        os.setsid()
    while generation < 6:
        child = os.fork()
        if child == 0:
            return live(generation + 1)
        os.waitpid(child, 0)
    with open(sys.argv[1], "w") as gate:
        gate.write("!")
    signal.pause()
if os.fork() == 0:
    live(0)
with open(sys.argv[1]) as gate:
    gate.read()
"""
    spec = lab.python(script, kill_grace=0.0)
    payload = lab.start(lab.spec(*spec.argv, str(gate), kill_grace=0.0))
    supervisor = payload._supervisor.pid
    result = lab.result(payload)
    assert result.ok
    assert result.leftovers >= 7
    assert descendants(supervisor) == []


@pytest.mark.needs("root")
def test_a_fork_bomb_is_gone_at_the_end(lab, bystander):
    uid = 60_000 + os.getpid() % 5000  # of nobody else, also beside other runs of this test
    script = """
import os, resource, signal, sys, time
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NPROC, (40, 40))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
main, fuse = os.getpid(), time.monotonic() + 30
while time.monotonic() < fuse:  # whatever becomes of the test, the machine is free again soon
    try:
        os.fork()
    except OSError:
        if os.getpid() == main:
            os._exit(7)
"""
    result = lab.result(lab.start(lab.spec(*lab.python(script).argv, str(uid), kill_grace=0.0)))
    assert result.exit_code == 7
    assert result.leftovers > 0
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and uid_of(pid) == uid]


def uid_of(pid):
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return None


def test_payloads_side_by_side_end_only_their_own_trees(lab, bystander):
    gates = [lab.fifo() for _ in range(3)]
    script = 'sleep 1000 & echo "$!" > "$GATE"; read x < "$GATE"'
    payloads = []
    for gate in gates:
        spec = lab.shell(script)
        spec.environment["GATE"] = str(gate)
        payloads.append(lab.start(spec))
    sleepers = [pid_from(gate) for gate in gates]
    for number, gate in enumerate(gates):
        gate.write_text("\n")
        result = lab.result(payloads[number])
        assert (result.exit_code, result.leftovers) == (0, 1)
        assert [lab.lives(pid) for pid in sleepers] == [False] * (number + 1) + [True] * (2 - number)


def test_a_payload_that_is_asked_to_end_may_clean_up(lab, bystander):
    gate = lab.fifo()
    spec = lab.shell(f'{FOR_EVER}; trap "echo clean; exit 5" TERM; echo > "$GATE"; for_ever')
    spec.environment["GATE"] = str(gate)
    payload = lab.start(spec)
    gate.read_text()
    payload.end("test")
    payload.end("a second time does no harm")
    result = lab.result(payload)
    assert (result.exit_code, result.signal) == (5, None)
    assert result.extra["asked_to_end"] is True
    assert spec.stdout.read_text() == "clean\n"


def test_a_payload_that_ignores_sigterm_is_killed_after_the_grace(lab):
    gate = lab.fifo()
    spec = lab.shell('trap "" TERM; sleep 1000 & echo "$!" > "$GATE"; wait', kill_grace=0.05)
    spec.environment["GATE"] = str(gate)
    payload = lab.start(spec)
    sleeper = pid_from(gate)
    payload.end("test")
    result = lab.result(payload)
    assert (result.exit_code, result.signal) == (None, signal.SIGKILL)
    assert not lab.lives(sleeper)


def test_the_grace_follows_the_pilots_clock(tmp_path, lab):
    """An hour of a clock that runs 100 000 times faster."""

    clock = SystemClock(scale=100_000.0, wall_step=7200.0)
    gate = lab.fifo()
    spec = lab.shell('trap "" TERM; echo > "$GATE"; while :; do sleep 1000; done', kill_grace=3600.0)
    spec.environment["GATE"] = str(gate)
    before = clock.wall()
    with Spawner.start(clock) as spawner:
        payload = SupervisedPayload(spec.control_dir, spawner.launch(spec))
        gate.read_text()
        payload.end("test")
        result = lab.result(payload)
        payload.close()
    assert result.signal == signal.SIGKILL
    assert before <= result.started <= result.ended - 3600.0
    assert result.ended <= clock.wall()


def test_every_process_of_the_tree_is_asked_once_and_others_are_not(lab, bystander):
    gate = lab.fifo()
    script = """
import os, signal, sys
count = 0
def note(*_):
    global count
    count += 1
    os.write(1, b"asked\\n")
signal.signal(signal.SIGTERM, note)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
with open(sys.argv[1], "a") as gate:
    gate.write("!")
while True:
    signal.pause()
"""
    spec = lab.spec(*lab.python(script).argv, str(gate), kill_grace=0.3)
    payload = lab.start(spec)
    with gate.open("r+b", buffering=0) as reader:  # for writing too, so that it never ends
        count = 0
        while count < 8:
            count += len(reader.read(8))
    payload.end("test")
    assert lab.result(payload).signal == signal.SIGKILL
    assert spec.stdout.read_text() == "asked\n" * 8


def test_an_end_after_the_end_does_nothing(lab):
    payload = lab.start(lab.spec("/bin/true"))
    before = lab.result(payload)
    payload.end("too late")
    assert payload.result() == before


def test_a_payload_that_kills_its_supervisor_is_killed_with_all_that_it_started(lab, bystander):
    gate = lab.fifo()
    spec = lab.shell('sleep 1000 & echo "$!" > "$GATE"; read x < "$GATE"; kill -KILL "$PPID"; sleep 1000')
    spec.environment["GATE"] = str(gate)
    payload = lab.start(spec)
    sleeper = pid_from(gate)
    gate.write_text("\n")
    with pytest.raises(ExecutorError, match=r"supervisor \(pid \d+\) was killed; the payload was started as pid"):
        lab.result(payload)
    assert lab.gone(sleeper)
    assert lab.run("/bin/true").ok


def test_what_was_recorded_before_the_supervisor_was_killed_is_told(lab):
    ready, asked = lab.fifo(), lab.fifo()
    spec = lab.shell(
        f'({FOR_EVER}; trap "echo > $ASKED" TERM; echo > "$READY"; for_ever) & cat "$READY"; exit 3',
        kill_grace=1e6,
    )
    spec.environment.update(READY=str(ready), ASKED=str(asked))
    payload = lab.start(spec)
    asked.read_text()  # the first record is written before anything is asked to end
    signal.pidfd_send_signal(payload.fileno(), signal.SIGKILL)
    with pytest.raises(ExecutorError, match="own process exited with 3, but others of it may still run"):
        lab.result(payload)


@pytest.mark.parametrize("name", ["INT", "HUP", "QUIT", "USR1", "USR2", "PIPE"])
def test_the_supervisor_is_not_ended_by_other_signals_than_sigterm(lab, name):
    result = lab.result(lab.start(lab.shell(f"kill -{name} $PPID; exit 4")))
    assert (result.exit_code, result.extra["asked_to_end"]) == (4, False)


@pytest.mark.needs("bin:unshare")
def test_how_a_payload_ended_is_told_when_the_disk_is_full(tmp_path):
    script = """
import sys
from pathlib import Path
from pilot_core import PayloadSpec, SystemClock
from pilot_core.supervision import Spawner, SupervisedPayload
home = Path(sys.argv[1])
(home / "control").mkdir()
spec = PayloadSpec(
    job_id=1, argv=("/bin/sh", "-c", "sleep 1000 & cat /dev/zero > big; exit 3"), cwd=home,
    control_dir=home / "control",
    environment={"PATH": "/usr/bin:/bin"}, stdout=home / "out", stderr=home / "err",
)
with Spawner.start() as spawner:
    payload = SupervisedPayload(spec.control_dir, spawner.launch(spec))
    SystemClock().wait(payload)
    print(payload.result().exit_code, sorted(path.name for path in spec.control_dir.iterdir()))
"""
    home = tmp_path / "small"
    home.mkdir()
    namespace = ["unshare", "-rm", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=1m none "$0"'
    if subprocess.run([*namespace, mount, home], capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    command = f'{mount.replace("$0", "$3")} && exec "$1" -c "$2" "$3"'
    done = subprocess.run([*namespace, command, "sh", sys.executable, script, home], stdout=-1, text=True, check=True)
    assert done.stdout == "3 ['ended.json', 'started.json']\n"


@pytest.mark.needs("root")
def test_a_process_that_became_another_user_is_told_and_not_waited_for():
    home = Path(tempfile.mkdtemp(prefix="setuid-"))
    try:
        home.chmod(0o777)
        program = home / "python"
        shutil.copy(Path("/usr/bin/python3").resolve(), program)
        program.chmod(0o4755)
        if os.statvfs(home).f_flag & os.ST_NOSUID:
            pytest.skip("the directory for temporary files is mounted nosuid")
        as_nobody(lambda: run_setuid(home))
        exit_code, error, (immune,) = json.loads((home / "result").read_text())
        os.kill(immune, signal.SIGKILL)
        assert exit_code is None
        assert error == f"process {immune} runs as another user and cannot be ended by the pilot's"
    finally:
        shutil.rmtree(home)


def run_setuid(home):
    """Be a pilot without privileges, one of whose payloads gets some."""
    (home / "control").mkdir()
    os.mkfifo(home / "gate")
    os.umask(0)
    root = f"import os, signal; os.setuid(0); open('{home}/gate', 'w').close(); signal.pause()"
    spec = PayloadSpec(
        job_id=1,
        argv=(str(home / "python"), "-I", "-S", "-c", root),
        cwd=home,
        environment={},
        stdout=home / "out",
        stderr=home / "err",
        control_dir=home / "control",
        kill_grace=0.0,
    )
    with Spawner.start() as spawner:
        payload = SupervisedPayload(spec.control_dir, spawner.launch(spec))
        (home / "gate").open().close()
        payload.end("test")
        SystemClock().wait(payload)
        result = payload.result()
    (home / "result").write_text(json.dumps([result.exit_code, result.error, result.extra["not_ended"]]))


def as_nobody(subject):
    """Have a child process without privileges do something."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    code = 1
    try:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(60018)
            os.setuid(60018)
        subject()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def test_a_limit_of_processes_is_one_clear_error_and_passes():
    home = Path(tempfile.mkdtemp(prefix="limit-"))
    home.chmod(0o777)
    try:
        as_nobody(lambda: run_limited(home))
    finally:
        shutil.rmtree(home)


def run_limited(home):
    """Be a pilot that may have no more processes for a while."""
    specs = []
    for number in range(3):
        control = home / str(number)
        control.mkdir()
        paths = {"stdout": control / "out", "stderr": control / "err", "control_dir": control}
        specs.append(PayloadSpec(job_id=number, argv=("/bin/true",), cwd=home, environment={}, **paths))

    def run(spec):
        payload = SupervisedPayload(spec.control_dir, spawner.launch(spec))
        SystemClock().wait(payload)
        assert payload.result().ok
        payload.close()

    with Spawner.start() as spawner:
        spawner._connection.recv(1, socket.MSG_PEEK)  # the first supervisor is there
        unlimited = resource.prlimit(spawner.pid, resource.RLIMIT_NPROC)
        resource.prlimit(spawner.pid, resource.RLIMIT_NPROC, (0, unlimited[1]))
        run(specs[0])
        with pytest.raises(ExecutorError, match="no payload can be started: fork: Resource temporarily unavailable"):
            spawner.launch(specs[1])
        resource.prlimit(spawner.pid, resource.RLIMIT_NPROC, unlimited)
        for spec in specs[1:]:
            run(spec)
