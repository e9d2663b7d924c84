"""Processes: those of a job end with it, all others are left alone, and a payload outlives its pilot."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pilot_core import CancelToken, Context, Deadline, PayloadHandle, SystemClock
from pilot_core.builtin.process_executor import pilot_executors
from pilot_core.journal.database import Database


@pytest.fixture
def bystander(site):
    """A process of the same user in the same place that has nothing to do with the pilot."""
    process = subprocess.Popen(["sleep", "1000"], cwd=site.work, start_new_session=True)
    yield process
    assert process.poll() is None, "a process that is none of the pilot's was ended"
    process.kill()
    process.wait()


def lives(pid):
    """Whether a process runs that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_daemon_that_a_payload_leaves_is_ended_and_nobody_else(site, bystander):
    gate = site.gate()
    daemon = f"exec env -i setsid sh -c 'trap \"\" HUP TERM; cd /; echo $$ > {gate.reached}; exec sleep 1000'"
    site.settings["kill_grace_seconds"] = 0.1
    job = site.script(f"({daemon}) > /dev/null 2>&1 < /dev/null & {gate.script}")
    pilot = site.start()
    pids = [gate.wait(), gate.wait()]
    gate.open()
    ended = pilot.wait()
    site.check_clean()
    assert not any(map(lives, pids))
    assert ended.code == 0
    found = site.job(job)
    assert found.status == "finished"
    assert json.loads(found.metadata)["pilot"]["payload"]["leftovers"] == 1
    assert any("left 1 process" in line for line in ended.of_level("WARNING")), ended.text


def test_two_pilots_in_one_place_share_the_jobs_and_leave_each_other_alone(site, bystander):
    gates = [site.gate("first"), site.gate("second")]
    held = [site.script(gate.script, priority=2000) for gate in gates]
    others = [site.script(f"echo {number} > out.{number}", outputs=[f"out.{number}"]) for number in range(6)]
    pilots = [site.start("--jobs", 0) for _ in gates]
    pids = [gate.wait() for gate in gates]
    gates[0].open()
    # one of them now runs all the rest and ends, while the other's payload waits
    site.until(lambda: all(site.job(job).status == "finished" for job in others))
    assert lives(pids[1])
    gates[1].open()
    for pilot in pilots:
        assert pilot.wait().code == 0
    site.check_clean()
    for job in (*held, *others):
        found = site.job(job)
        assert found.status == "finished"
        assert [status for _, status in found.history].count("sent") == 1
    told = [json.loads(site.job(job).metadata)["pilot"]["payload"]["exit_code"] for job in others]
    assert told == [0] * 6


@contextmanager
def attached(folder):
    """Find a payload again as a later pilot would: by the handle in the journal of its job's directory."""
    journal = Database.look(folder.parent)
    steps = [{"step": row["step"], **json.loads(row["details"])} for row in journal.query("SELECT * FROM steps")]
    journal.close()
    (handle,) = [PayloadHandle.from_json(step["handle"]) for step in steps if step["step"] == "payload-started"]
    clock = SystemClock()
    (provider,) = pilot_executors()
    context = Context(clock=clock, log=logging.getLogger(__name__), work_dir=folder)
    with closing(provider.factory(provider.settings(), context)) as executor:
        deadline = Deadline.after(clock, 60.0)
        with closing(executor.attach(handle, cancel=CancelToken(), deadline=deadline)) as payload:
            yield payload


def test_a_payload_outlives_its_pilot_and_its_end_is_recorded(site):
    gate = site.gate()
    job = site.script(f"trap '' HUP; {gate.script}; echo done; exit 7")
    pilot = site.start()
    pid = gate.wait()
    site.until(lambda: site.job(job).status == "running")
    pilot.signal(signal.SIGKILL)
    assert pilot.wait().code == -signal.SIGKILL
    assert lives(pid)
    (folder,) = site.work.glob("job-*")
    with attached(folder) as payload:
        gate.open()
        SystemClock().wait(payload)
        assert payload.result().exit_code == 7
    site.no_processes()
    record = json.loads((folder / "control" / "ended.json").read_text())
    assert record["complete"] is True
    assert record["exit_code"] == 7
    assert (folder / "payload" / "payload.stdout").read_text() == "done\n"
    assert site.job(job).status == "running"


def test_a_pilot_whose_starter_has_gone_works_on(site):
    """Batch systems and terminals go away: neither the end of its output nor SIGHUP of others matters."""
    job = site.submit()
    argv = ["sh", "-c", '"$@" > /dev/full 2>&1 < /dev/null', "sh"]
    ended = site.run(prefix=argv)
    assert ended.code == 0
    assert site.job(job).status == "finished"


def test_no_descriptor_and_no_process_is_left_from_job_to_job(site):
    """After many jobs a pilot has as many of both as after the first."""
    counts = []
    gates = [site.gate("first"), site.gate("last")]
    site.script(gates[0].script, priority=3000)
    for _ in range(20):
        site.submit(priority=2000)
    site.script(gates[1].script, priority=1000)
    pilot = site.start("--jobs", 0)
    for gate in gates:
        gate.wait()
        counts.append((len(os.listdir(f"/proc/{pilot.pid}/fd")), len(site.processes())))
        gate.open()
    assert pilot.wait().code == 0
    site.check_clean()
    # an update may be under way, and the next job's supervisor and payload are forked ahead of it
    assert counts[1][0] < counts[0][0] + 10, counts
    assert counts[1][1] < counts[0][1] + 10, counts
