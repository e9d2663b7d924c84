"""The fault matrix's rows of payloads: whatever one does, the server is told, and the pilot goes on to the next."""

from __future__ import annotations

import json
import shlex
import signal
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_core import PilotErrorCode as Code
from pilot_core.testing.outcomes import DOES_NOT_APPLY

FATAL = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS),
    *(signal.SIGFPE, signal.SIGKILL, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2, signal.SIGPIPE, signal.SIGALRM),
    *(signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGSYS),
)
"""Every signal that ends a process, but those of timers and terminals that differ in name only."""


def run_two(site, job, *options, scale=None):
    """Run a job that goes wrong and one after it, which has to finish; returns what the server has of the first."""
    next_job = site.submit(priority=10)
    command = {}
    if scale:
        site.pilot["acquire_budget"] = 60 * scale
        for name in ("connect_timeout", "timeout"):
            site.tables.setdefault("communicator.panda", {})[name] = 60.0 * scale
        command = {"command": ("-m", "pilot_core.testing.pilot", "--clock-scale", scale, "run")}
    ended = site.run("--jobs", 0, *options, **command)
    assert ended.code == 0, ended.text
    assert site.job(next_job).status == "finished"
    return site.job(job)


def watchdog(site, name, **settings):
    """Set a watchdog of the site's queue; it looks ten times a second."""
    site.settings.setdefault("watchdogs", {})[name] = {"interval": 0.1, **settings}


# -- how a payload ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 2, 3, 125, 255])
def test_an_exit_code_is_told_as_it_is(site, code):
    found = run_two(site, site.script(f"echo here; exit {code}"))
    assert found.reported_state == "failed"
    assert found.fields["trans_exit_code"] == str(code)
    assert found.fields["exe_error_code"] == code
    assert found.fields["pilot_error_code"] == Code.PAYLOADEXECUTIONFAILURE
    assert f"the payload exited with {code};" in found.fields["pilot_error_diag"]
    assert site.log_of(found.id)["payload.stdout"] == b"here\n"


def test_an_exit_code_that_tells_of_a_signal_is_explained(site):
    found = run_two(site, site.script("sh -c 'kill -SEGV $$'; exit $?"))
    assert found.fields["trans_exit_code"] == "139"
    assert "the payload exited with 139, by which shells tell of SIGSEGV" in found.fields["pilot_error_diag"]


def test_every_fatal_signal_is_named(site):
    jobs = {number: site.script(f"kill -{number} $$", priority=2000) for number in FATAL}
    ended = site.run("--jobs", 0)
    assert ended.code == 0
    for number, job in jobs.items():
        found = site.job(job)
        assert found.reported_state == "failed", number
        assert f"ended by {number.name} ({number.value})" in found.fields["pilot_error_diag"]
        expected = Code.PAYLOADSIGSEGV if number == signal.SIGSEGV else Code.PAYLOADEXECUTIONFAILURE
        assert found.fields["pilot_error_code"] == expected, number
        assert found.fields["trans_exit_code"] == str(128 + number), number


def test_a_payload_without_memory_left_ends_by_itself(site):
    text = "ulimit -v 200000; exec python3 -c 'held = bytearray(1 << 30)'"
    found = run_two(site, site.script(text))
    assert found.reported_state == "failed"
    assert found.fields["trans_exit_code"] == "1"
    assert b"MemoryError" in site.log_of(found.id)["payload.stderr"]


@pytest.fixture
def little_memory():
    """Words before a command that gives it and its children a control group of 100 MB (version 1 or 2)."""
    name = f"pilot-core-{uuid.uuid4().hex[:12]}"
    tries = (
        (Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes",)),
        (Path("/sys/fs/cgroup"), ("memory.max", "memory.swap.max")),
    )
    for top, limits in tries:
        group = top / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limits[0]).write_text("100000000")
            for other in limits[1:]:
                (group / other).write_text("0")
        except OSError:
            group.rmdir()
            continue
        yield "sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"
        group.rmdir()
        return
    pytest.skip(f"{DOES_NOT_APPLY}: no control group with a limit of memory can be made here")


@pytest.mark.parametrize("program", ["exec {}", "{}; exit $?"])
def test_a_payload_that_the_kernel_kills_for_lack_of_memory_is_told_as_such(site, little_memory, program):
    eater = "python3 -S -c 'held = bytearray(1 << 30)'"
    job = site.script(program.format(eater))
    ended = site.run(prefix=little_memory)
    assert ended.code == 0
    found = site.job(job)
    assert found.fields["trans_exit_code"] == str(128 + signal.SIGKILL)
    assert found.fields["pilot_error_code"] == Code.PAYLOADOUTOFMEMORY
    assert "SIGKILL" in found.fields["pilot_error_diag"]
    assert "killed 1 process here for lack of memory" in found.fields["pilot_error_diag"]


def test_a_payload_that_closes_its_outputs_is_waited_for(site):
    gate = site.gate()
    job = site.script(f"exec > /dev/null 2>&1; exec >&- 2>&- <&-; {gate.script}; exit 4")
    pilot = site.start()
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    gate.open()
    assert pilot.wait().code == 0
    site.check_clean()
    assert site.job(job).fields["trans_exit_code"] == "4"


def test_a_daemon_that_is_left_ends_with_the_job(site):
    site.settings["kill_grace_seconds"] = 0.1
    text = "(trap '' TERM HUP; setsid sleep 1000 & setsid sh -c 'sleep 1000' &) > /dev/null 2>&1 < /dev/null; exit 0"
    found = run_two(site, site.script(text))
    assert found.status == "finished"
    assert json.loads(found.metadata)["pilot"]["payload"]["leftovers"] >= 2


# -- limits ------------------------------------------------------------------------------------------------------------


def failed_by(site, found, code, *words):
    """See that a job failed by a limit: its code, its words in the report and in the job's log."""
    assert found.reported_state == "failed", found
    assert found.fields["pilot_error_code"] == code
    for word in words:
        assert word in found.fields["pilot_error_diag"]
    assert "ending the payload: it passed a limit" in site.log_of(found.id)["pilot.log"].decode()
    # the limit is the cause; how the payload then ended is told where it belongs
    assert found.fields["trans_exit_code"] in {str(128 + signal.SIGTERM), str(128 + signal.SIGKILL)}
    assert "; payload: " not in found.fields["pilot_error_diag"]


def test_a_payload_that_ignores_sigterm_is_killed_after_its_grace(site):
    site.settings["kill_grace_seconds"] = 0.2
    watchdog(site, "wall-time", limit_seconds=1)
    found = run_two(site, site.script("trap '' TERM; while :; do sleep 0.05; done"))
    failed_by(site, found, Code.REACHEDMAXTIME, "wall time", "of 1 s (limit_seconds)")
    assert found.fields["trans_exit_code"] == str(128 + signal.SIGKILL)


def test_a_payload_that_ends_well_when_a_limit_asks_it_to_has_failed_all_the_same(site):
    watchdog(site, "wall-time", limit_seconds=1)
    found = run_two(site, site.script("trap 'echo saved > out.dat; exit 0' TERM; while :; do sleep 0.05; done"))
    assert found.reported_state == "failed"
    assert found.fields["pilot_error_code"] == Code.REACHEDMAXTIME
    assert found.fields["trans_exit_code"] == "0"
    assert site.log_of(found.id)["out.dat"] == b"saved\n"


def test_a_payload_that_writes_for_ever_is_ended(site):
    """Ten GB would take a minute: the limit is smaller, the rest is the same."""
    watchdog(site, "stdout-size", limit_kb=1000)
    found = run_two(site, site.script("exec yes"))
    failed_by(site, found, Code.STDOUTTOOBIG, "payload.stdout", "(limit_kb)")


@pytest.fixture
def impatient(site):
    """A pilot to which nothing done for 20 minutes is too long; they pass in four seconds. The default is two hours."""
    watchdog(site, "looping", limit_seconds=1200, interval=100.0, cpu_percent=0.0)
    return {"scale": 300}


def test_a_payload_that_sleeps_for_ever_is_ended(site, impatient):
    found = run_two(site, site.script("exec sleep 1000000"), **impatient)
    failed_by(site, found, Code.LOOPINGJOB, "nothing done for", "of 1200 s (limit_seconds)")


def test_a_payload_that_works_in_silence_is_left_alone(site, impatient):
    """It calculates for half an hour and writes nothing."""
    text = "while :; do :; done & worker=$!; sleep 6; kill $worker; wait $worker; exit 0"
    found = run_two(site, site.script(text), **impatient)
    assert found.status == "finished", found.fields


def test_a_job_that_forbids_it_is_not_called_looping(site, impatient):
    found = run_two(site, site.script("sleep 6", special="lc"), **impatient)
    assert found.description["loopingCheck"] is False
    assert found.status == "finished", found.fields


def test_the_jobs_own_wall_time_counts(site):
    found = run_two(site, site.script("exec sleep 1000000", walltime_seconds=300), scale=300)
    failed_by(site, found, Code.REACHEDMAXTIME, "of 300 s (the job's maxWalltime)")


def test_the_jobs_own_cpu_time_counts(site):
    watchdog(site, "cpu-time", grace_percent=0.0)
    job = site.script("while :; do :; done", spec=lambda job: replace(job, cpu_seconds=1))
    found = run_two(site, job)
    failed_by(site, found, Code.SIGXCPU, "CPU time", "maxCpuCount")


def test_memory_counts_once_for_all_processes(site):
    watchdog(site, "memory", limit_mb=150)
    program = (
        "import os, signal, sys\n"
        "held = bytearray(100 << 20)\n"
        "for number in range(4):\n"
        "    os.fork() or signal.pause()\n"
        "open('shared', 'w').close()\n"
        "signal.sigtimedwait([signal.SIGUSR1], 1.0)\n"
        "more = bytearray(100 << 20)\n"
        "signal.pause()\n"
    )
    job = site.script(f"exec python3 -c {shlex.quote(program)}")
    found = run_two(site, job)
    failed_by(site, found, Code.PAYLOADEXCEEDMAXMEM, "memory 2", " of 150")
    assert "shared" in site.log_of(job)


def test_processes_that_multiply_are_stopped_at_the_limit(site):
    site.settings["kill_grace_seconds"] = 0.1
    watchdog(site, "processes", limit=30)
    # a fork bomb with a fuse: it stops by itself at 300
    text = "n=0; while [ $n -lt 300 ]; do n=$((n+1)); sleep 1000 & sleep 0.01; done; wait"
    found = run_two(site, site.script(text))
    failed_by(site, found, Code.RESOURCEUNAVAILABLE, "threads of 30 (limit)")


def test_a_directory_that_grows_is_stopped_at_the_limit(site):
    watchdog(site, "work-dir", limit_mb=3)
    found = run_two(site, site.script("head -c 5000000 /dev/zero > large; exec sleep 1000"))
    failed_by(site, found, Code.USERDIRTOOLARGE, "job directory", "of 3.0 MB (limit_mb)")


def test_an_output_that_is_too_large_is_stopped(site):
    watchdog(site, "output-size", limit_mb=1)
    text = "head -c 2000000 /dev/zero > big.out; exec sleep 1000"
    found = run_two(site, site.script(text, outputs=["big.out"]))
    failed_by(site, found, Code.OUTPUTFILETOOLARGE, "output big.out 1.9 MB of 1.0 MB")


def test_a_disk_that_fills_up_is_seen_before_it_is_full(site, on_small_disk):
    watchdog(site, "disk-space", limit_mb=4)
    job = site.script("head -c 6000000 /dev/zero > large; exec sleep 1000")
    ended = site.run("--jobs", 1, "--min-free-mb", 1, prefix=on_small_disk(site.work, "8m"))
    assert ended.code == 0
    assert on_small_disk.left() == []
    found = site.job(job)
    failed_by(site, found, Code.NOLOCALSPACE, "free disk space", "of 4.0 MB", "make room")


def test_a_disk_with_nothing_left_is_not_fine(site, on_small_disk):
    """A payload that does not mind a full disk: Pilot 3 takes 0 bytes for no answer, and lets it go on."""
    watchdog(site, "disk-space", limit_mb=1)
    job = site.script("cat /dev/zero > large 2> /dev/null; exec sleep 1000")
    ended = site.run("--jobs", 1, "--min-free-mb", 1, prefix=on_small_disk(site.work, "8m"))
    assert ended.code == 0
    found = site.job(job)
    failed_by(site, found, Code.NOLOCALSPACE, "free disk space 0.0 MB of 1.0 MB")


def test_a_credential_that_is_about_to_end_ends_the_payload_in_time(site):
    watchdog(site, "credential", least_seconds=10_000_000_000)
    found = run_two(site, site.script("exec sleep 1000"))
    failed_by(site, found, Code.VOMSPROXYABOUTTOEXPIRE, "(least_seconds)", "renew it")


# -- configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watchdogs", "words"),
    [
        ({"memmory": {}}, ("watchdogs.memmory", "did you mean 'memory'")),
        ({"memory": {"limit": 3}}, ("watchdogs.memory.limit", "unknown key")),
        ({"memory": {"limit_mb": -3}}, ("watchdogs.memory.limit_mb", "below 0")),
        ({"memory": {"enabled": "no"}}, ("watchdogs.memory.enabled",)),
    ],
)
def test_a_mistake_is_told_before_a_job_is_taken(site, watchdogs, words):
    job = site.submit()
    site.settings["watchdogs"] = watchdogs
    ended = site.run()
    assert ended.code == 2
    assert all(word in ended.last for word in words), ended.last
    assert site.job(job).status == "activated"


FILES = """
from pathlib import Path

from pilot_core import Provider, Violation, hookimpl


class Files:
    interval = 0.1

    def __init__(self, settings, context):
        pass

    def check(self, watched):
        if "break" in watched.job.parameters:
            raise RuntimeError("a bug")
        count = len(list(watched.job_dir.iterdir()))
        return Violation(error_code=1104, message=f"{count} files of 5") if count > 5 else None


@hookimpl
def pilot_watchdogs():
    yield Provider(name="files", factory=Files)
"""


@pytest.fixture
def foreign(site):
    """A watchdog of somebody else's, which is installed."""
    folder = site.folder / "plugins"
    info = folder / "files-1.dist-info"
    info.mkdir(parents=True)
    (folder / "files_watchdog.py").write_text(FILES)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pilot-watchdog-files\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pilot_core.plugins.v1]\nwatchdog.files = files_watchdog\n")
    site.tables["plugins"] = {"paths": [str(folder)]}


MANY = "touch 1 2 3 4 5 6; exec sleep {}"


def test_a_watchdog_that_is_installed_and_not_named_does_not_look(site, foreign):
    assert run_two(site, site.script(MANY.format(1))).status == "finished"


@pytest.mark.parametrize("everywhere", [True, False])
def test_one_that_is_named_looks(site, foreign, everywhere):
    if everywhere:
        site.tables["watchdog.files"] = {}
    else:
        site.settings["watchdogs"] = {"files": {}}
    found = run_two(site, site.script(MANY.format(1000)))
    failed_by(site, found, Code.USERDIRTOOLARGE, "8 files of 5")


def test_one_that_is_broken_ends_no_job(site, foreign):
    site.tables["watchdog.files"] = {}
    job = site.script("sleep 1; : break", priority=2000)
    ended = site.run(bug=True)
    assert ended.code == 0
    assert site.job(job).status == "finished"
    assert ended.says("ERROR", "watchdog.files (pilot-watchdog-files 1) failed and does not watch this job any more")


def test_settings_for_every_queue_give_way_to_those_of_one(site):
    site.tables["watchdog.wall-time"] = {"interval": 0.1, "limit_seconds": 1000}
    site.settings["watchdogs"] = {"wall-time": {"limit_seconds": 1}}
    found = run_two(site, site.script("exec sleep 1000"))
    failed_by(site, found, Code.REACHEDMAXTIME, "of 1 s")


# -- the pilot's own time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "value", "word"), [("maxtime", 1, "maxtime"), ("timefloor", 1 / 60, "timefloor")])
def test_a_pilot_whose_time_is_over_takes_no_more_jobs(site, key, value, word):
    """What CRIC says; here by queuedata in a file, for a queue that the configuration does not know."""
    queuedata = site.folder / "queuedata.json"
    queuedata.write_text(json.dumps({"nickname": site.queue, "status": "online", "state": "ACTIVE", key: value}))
    jobs = [site.submit("/bin/sleep", "1.2", log=False, priority=1000 - number) for number in range(3)]
    site.tables["queue-source.cric"] = {"file": queuedata}
    site.pilot["queue_sources"] = ["cric"]
    ended = site.run("--jobs", 0)
    assert ended.code == 0
    assert [site.job(job).status for job in jobs] == ["finished", "activated", "activated"]
    assert ended.says("no more jobs are taken", word)
