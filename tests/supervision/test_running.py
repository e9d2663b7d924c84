"""Payloads run exactly as they are described, and how they ended is told exactly."""

import errno
import json
import os
import signal
import stat
import sys

import pytest

from pilot_core import ExecutorError
from pilot_core.supervision.procfs import boot_id
from pilot_core.supervision.records import read_ended, read_started


@pytest.mark.parametrize("code", [0, 1, 3, 126, 127, 255])
def test_the_exit_code_is_the_payloads(lab, code):
    result = lab.run("/bin/sh", "-c", f"exit {code}")
    assert (result.exit_code, result.signal, result.error, result.leftovers) == (code, None, "", 0)
    assert result.ok is (code == 0)
    assert result.started <= result.ended


@pytest.mark.parametrize(
    "name", ["HUP", "INT", "QUIT", "ILL", "ABRT", "BUS", "FPE", "KILL", "SEGV", "PIPE", "ALRM", "TERM", "XCPU", "USR1"]
)
def test_a_signal_that_ends_the_payload_is_told_as_such(lab, name):
    result = lab.result(lab.start(lab.shell(f"ulimit -c 0; kill -{name} $$; exit 9")))
    assert (result.exit_code, result.signal) == (None, signal.Signals[f"SIG{name}"])
    assert result.extra["asked_to_end"] is False


def test_output_goes_to_files_that_only_the_account_may_read(lab):
    spec = lab.shell("echo out; echo err >&2; cat")
    assert lab.result(lab.start(spec)).ok
    assert spec.stdout.read_text() == "out\n"
    assert spec.stderr.read_text() == "err\n"
    for path in (spec.stdout, spec.stderr):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_environment_is_exactly_the_given_one(lab, monkeypatch):
    monkeypatch.setenv("OF_THE_PILOT", "secret")
    given = {"PATH": os.environ["PATH"], "A": "", "B": "x=y z\n", "C": "é€", "LATIN": os.fsdecode(b"\xe9\xff")}
    spec = lab.spec("/usr/bin/env", "-0", environment=given)
    assert lab.result(lab.start(spec)).ok
    found = dict(entry.split(b"=", 1) for entry in spec.stdout.read_bytes().split(b"\0") if entry)
    assert found == {os.fsencode(name): os.fsencode(value) for name, value in given.items()}


def test_an_environment_of_100_kb_arrives(lab):
    given = {f"V{number}": "x" * 10_000 for number in range(10)}
    spec = lab.spec("/usr/bin/env", environment=given)
    assert lab.result(lab.start(spec)).ok
    assert sorted(spec.stdout.read_text().splitlines()) == sorted(f"{name}={value}" for name, value in given.items())


def test_arguments_arrive_unchanged(lab):
    arguments = ["", "a b", "$HOME", "`x`", "'", '"', "\\", "\n", "é", "*", os.fsdecode(b"\xff")]
    script = "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    spec = lab.spec(sys.executable, "-S", "-E", "-c", script, *arguments)
    assert lab.result(lab.start(spec)).ok
    assert spec.stdout.read_bytes() == b"\0".join(map(os.fsencode, arguments))


def test_nothing_but_the_three_standard_descriptors_is_open(lab):
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    script = "import os; print(sorted(os.listdir('/proc/self/fd'))); print(os.readlink('/proc/self/fd/0'))"
    spec = lab.python(script)
    assert lab.result(lab.start(spec)).ok
    os.close(inherited)
    # the fourth is that of the listing itself
    assert spec.stdout.read_text() == "['0', '1', '2', '3']\n/dev/null\n"


def test_signals_are_neither_ignored_nor_blocked(lab):
    spec = lab.shell("grep -E '^Sig(Blk|Ign)' /proc/self/status")
    assert lab.result(lab.start(spec)).ok
    # 32 and 33 are glibc's own; posix_spawn, which the tests' fork server went through, has them ignored
    glibcs = 1 << 31 | 1 << 32
    assert {int(line.split()[1], 16) & ~glibcs for line in spec.stdout.read_text().splitlines()} == {0}


def test_the_payload_has_a_session_of_its_own_and_starts_in_its_directory(lab):
    spec = lab.python("import os; print(os.getpid() == os.getsid(0) == os.getpgid(0)); print(os.getcwd())")
    assert lab.result(lab.start(spec)).ok
    assert spec.stdout.read_text() == f"True\n{spec.cwd}\n"


def test_relative_paths_are_those_of_the_pilot(lab, monkeypatch, tmp_path):
    spec = lab.spec("/bin/pwd")
    monkeypatch.chdir(tmp_path)
    relative = {name: getattr(spec, name).relative_to(tmp_path) for name in ("cwd", "stdout", "stderr", "control_dir")}
    spec = lab.spec("/bin/pwd", **relative)
    assert lab.result(lab.start(spec)).ok
    assert spec.stdout.read_text() == f"{tmp_path / spec.cwd}\n"


def test_a_program_is_looked_for_on_the_payloads_own_path(lab, tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "prog"
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
    (tmp_path / "first" / "prog").chmod(0o644)
    monkeypatch.setenv("PATH", "/nonexistent")
    spec = lab.spec("prog", environment={"PATH": f"/nonexistent:{tmp_path}/first:{tmp_path}/second"})
    assert lab.result(lab.start(spec)).ok
    assert spec.stdout.read_text() == "second\n"


def test_without_a_path_the_systems_default_is_searched(lab):
    assert lab.run("true", environment={}).ok


@pytest.mark.parametrize(
    ("argv", "environment", "number", "text"),
    [
        (("/nonexistent/prog",), {}, errno.ENOENT, "cannot execute '/nonexistent/prog': No such file or directory"),
        (("prog",), {"PATH": "/a:/b"}, errno.ENOENT, "'prog' (PATH is '/a:/b'): No such file or directory"),
        (("",), {}, errno.ENOENT, "cannot execute ''"),
        ((), {}, None, "the command is empty"),
        (("/etc/passwd",), {}, errno.EACCES, "cannot execute '/etc/passwd': Permission denied"),
        (("/etc",), {}, errno.EACCES, "Permission denied"),
        (("/bin/true", "x" * 200_000), {}, errno.E2BIG, "Argument list too long"),
        (("/bin/true", "a\0b"), {}, None, "null byte"),
        (("/bin/true",), {"A=B": "x"}, None, "illegal environment variable name"),
    ],
)
def test_a_program_that_cannot_be_executed_is_the_result(lab, argv, environment, number, text):
    result = lab.run(*argv, environment=environment)
    assert text in result.error
    assert "\n" not in result.error
    assert (result.exit_code, result.signal, result.ok) == (None, None, False)
    assert result.extra.get("errno") == number


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("echo no first line\n", "a script needs a first line with #!"),
        ("#!/nonexistent/interpreter\n", "the interpreter or loader that it names is not there"),
    ],
)
def test_a_script_that_cannot_be_executed_says_why(lab, tmp_path, content, text):
    (tmp_path / "script").write_text(content)
    (tmp_path / "script").chmod(0o755)
    assert text in lab.run(str(tmp_path / "script")).error


def test_a_missing_directory_is_the_result(lab, tmp_path):
    result = lab.run("/bin/true", cwd=tmp_path / "none")
    assert result.error == f"cannot enter '{tmp_path / 'none'}': No such file or directory"
    assert result.extra["errno"] == errno.ENOENT


@pytest.mark.parametrize("planted", ["link", "dangling", "file", "fifo"])
@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_output_never_goes_to_what_is_there_already(lab, tmp_path, planted, which):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    spec = lab.shell("echo overwritten; echo overwritten >&2")
    path = getattr(spec, which)
    if planted == "fifo":
        os.mkfifo(path)
    elif planted == "file":
        path.write_text("precious")
    else:
        path.symlink_to(victim if planted == "link" else tmp_path / "new")
    result = lab.result(lab.start(spec))
    assert result.error == f"cannot create '{path}': File exists"
    assert victim.read_text() == "precious"
    assert not (tmp_path / "new").exists()


def test_cpu_time_and_memory_of_all_processes_are_counted(lab):
    burn = "x = bytearray(80_000_000)\nimport os\nwhile sum(os.times()[:2]) < 0.2: pass"
    spec = lab.shell('"$PYTHON" -S -E -c "$BURN" & wait', environment={"PYTHON": sys.executable, "BURN": burn})
    result = lab.result(lab.start(spec))
    assert result.ok
    assert 0.2 <= result.user_seconds + result.system_seconds < 5
    assert 80_000 <= result.max_rss_kb < 400_000


def test_written_blocks_are_counted_where_the_disk_was_really_written(lab):
    script = "import os; f = os.open('x', os.O_WRONLY | os.O_CREAT); os.write(f, bytes(1 << 20)); os.fsync(f)"
    result = lab.result(lab.start(lab.python(script)))
    assert result.ok
    assert result.written_blocks in {0, *range(2048, 20_000)}  # a memory file system writes no blocks


def test_the_start_is_recorded_before_the_payloads_first_instruction(lab):
    spec = lab.shell('cat "$CONTROL/started.json"; echo; cut -d" " -f1,22 "/proc/$$/stat"')
    spec.environment["CONTROL"] = str(spec.control_dir)
    payload = lab.start(spec)
    assert lab.result(payload).ok
    text, stat_fields = spec.stdout.read_text().splitlines()
    record = json.loads(text)
    assert record["payload"] == [int(field) for field in stat_fields.split()]
    assert record["boot_id"] == boot_id()
    assert record["job_id"] == spec.job_id
    assert read_started(spec.control_dir).wall == payload.result().started


def test_nothing_but_the_records_stays_in_the_control_directory(lab):
    spec = lab.spec("/bin/true")
    assert lab.result(lab.start(spec)).ok
    assert sorted(path.name for path in spec.control_dir.iterdir()) == ["ended.json", "started.json"]
    assert read_ended(spec.control_dir).complete


def test_a_control_directory_serves_once(lab):
    spec = lab.spec("/bin/true")
    assert lab.result(lab.start(spec)).ok
    with pytest.raises(ExecutorError, match="was used for a payload before"):
        lab.start(spec)
    other = lab.spec("/bin/true")
    (other.control_dir / "claim").touch()
    with pytest.raises(ExecutorError, match="was used for a payload before"):
        lab.start(other)
    assert not other.stdout.exists()
    assert lab.run("/bin/true").ok


def test_a_control_directory_that_is_not_there_is_the_executors_error(lab, tmp_path):
    spec = lab.spec("/bin/true", control_dir=tmp_path / "none")
    with pytest.raises(ExecutorError, match="none: cannot keep a payload's records: No such file"):
        lab.start(spec)
    assert not spec.stdout.exists()


def test_a_result_is_not_there_before_the_end(lab):
    payload = lab.start(lab.spec("/bin/sleep", "1000"))
    with pytest.raises(ExecutorError, match="still runs"):
        payload.result()


def test_payloads_that_run_side_by_side_end_each_by_itself(lab):
    gates = [lab.fifo() for _ in range(4)]
    payloads = [lab.start(lab.shell(f'read code < "{gate}"; exit "$code"')) for gate in gates]
    for code in (2, 0, 3, 1):
        gates[code].write_text(f"{code}\n")
        assert lab.result(payloads[code]).exit_code == code
    assert [payload.result().exit_code for payload in payloads] == [0, 1, 2, 3]


def test_the_supervisor_shows_no_secret_of_the_payload(lab):
    gate = lab.fifo()
    spec = lab.shell(f'cat /proc/$PPID/environ /proc/$PPID/cmdline; read x < "{gate}"')
    spec.environment["TOKEN"] = "canary-4711"
    payload = lab.start(spec)
    gate.write_text("\n")
    assert lab.result(payload).ok
    assert b"canary" not in spec.stdout.read_bytes()
    for path in spec.control_dir.iterdir():
        assert b"canary" not in path.read_bytes()
