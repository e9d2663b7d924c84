"""A pilot's journal: one SQLite file for all of its jobs, which later pilots read."""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from pilot_core import Job, JobState, OutputFile, SystemClock
from pilot_core.journal import POINTS, SteadyJournal, point_of
from pilot_core.journal.database import APPLICATION, FILE, MIGRATIONS, VERSION, Database
from pilot_core.journal.mounts import _network_type
from pilot_core.journal.owners import PilotProcess
from pilot_core.journal.records import Identity, Taken
from pilot_core.journal.store import KEPT_DAYS, PilotJournal
from pilot_core.testing.clock import FakeClock

NOW = float(round(SystemClock().wall()))
SERVER, QUEUE = "https://panda.example", "Q"
JOB = Job(id=7, attempt=1, transformation="/bin/true", log=OutputFile(lfn="log.tgz"), secrets={"T": "canary-secret"})


@pytest.fixture
def clock():
    return FakeClock(wall=NOW)


@pytest.fixture
def journal(tmp_path, clock):
    made = PilotJournal.open(tmp_path, clock)
    yield made
    made.close()


def take(journal, *jobs, queue=QUEUE, work_dir="/w"):
    taken = [Taken(job=job, job_dir=f"{work_dir}/job-{job.id}") for job in jobs]
    ask = journal.asking(SERVER, queue)
    return journal.acquired(ask, taken, server=SERVER, queue=queue, identity=Identity(batch_id="b.1"))


def died(tmp_path, code=""):
    """Have a pilot that took job 7, did `code` and was killed."""
    text = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from pilot_core import SystemClock\n"
        "from pilot_core.journal.store import PilotJournal\n"
        "from test_pilot_journal import JOB, take\n"
        "journal = PilotJournal.open(Path(sys.argv[1]), SystemClock())\n"
        "(job,) = take(journal, JOB)\n"
        f"{code}\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", text, tmp_path, os.path.dirname(__file__)], check=False)


# -- steps -------------------------------------------------------------------------------------------------------------


def test_steps_come_back_in_their_order_with_time_and_details(journal, clock, tmp_path):
    (job,) = take(journal, JOB)
    clock.advance(1.5)
    job.record("state", old=JobState.ACQUIRED, new=JobState.STAGE_IN)
    job.export(tmp_path / "journal.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [(line["step"], line["at"]) for line in lines] == [("acquired", NOW), ("state", NOW + 1.5)]
    assert lines[1]["new"] == "stage-in"


def test_a_job_is_recorded_whole_but_for_its_secrets(journal, tmp_path):
    take(journal, JOB)
    record = journal.known(JOB, SERVER)
    assert record.job() == replace(JOB, secrets={})
    assert record.secret is True
    assert record.identity.batch_id == "b.1"
    for path in tmp_path.iterdir():
        assert b"canary-secret" not in path.read_bytes()


def test_another_job_of_the_same_number_is_another_job(journal):
    """A development server that was begun anew counts from one again."""
    take(journal, JOB)
    assert journal.known(replace(JOB, name="other"), SERVER) is None
    assert journal.known(JOB, "https://other.example") is None


def test_a_job_that_is_sent_again_is_the_same_job_whatever_the_server_counts(journal):
    take(journal, JOB)
    again = replace(JOB, extra={"nSent": 1}, priority=7, debug=True)
    assert journal.known(again, SERVER) is not None
    assert journal.known(replace(JOB, attempt=JOB.attempt + 1), SERVER) is None


def test_the_file_is_for_its_owner_only_and_nothing_is_left_beside_it(tmp_path, clock):
    journal = PilotJournal.open(tmp_path, clock)
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    journal.close()
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_every_write_is_a_point_that_is_heard_of_before_and_after_it(tmp_path, clock):
    heard = []
    journal = PilotJournal.open(tmp_path, clock, hook=lambda *what: heard.append(what))
    (job,) = take(journal, JOB)
    job.record("state", new=JobState.STAGE_IN)
    journal.close()
    names = ["pilot-started", "asking", "acquired", "state-stage-in", "pilot-ended"]
    assert heard == [(name, moment) for name in names for moment in ("before", "after", "effect")]
    assert set(names) <= set(POINTS)


def test_all_states_are_points():
    assert {point_of("state", {"new": state}) for state in JobState} - {"state-acquired"} <= set(POINTS)


def test_what_is_old_and_done_is_forgotten(tmp_path, clock):
    journal = PilotJournal.open(tmp_path, clock)
    done, _ = take(journal, JOB, replace(JOB, id=8))
    done.record("closed")
    journal.close()
    clock.advance(KEPT_DAYS * 86400 + 1)
    journal = PilotJournal.open(tmp_path, clock)
    assert journal.known(JOB, SERVER) is None
    assert journal.known(replace(JOB, id=8), SERVER) is not None
    journal.close()


# -- whose a job is ----------------------------------------------------------------------------------------------------


def test_the_job_of_a_pilot_that_was_killed_is_taken_over_by_one(tmp_path, journal, clock):
    died(tmp_path)
    other = PilotJournal.open(tmp_path, clock)
    taken = [*journal.take_over(SERVER, QUEUE), *other.take_over(SERVER, QUEUE)]
    other.close()
    assert [record.job_id for record in taken] == [7]
    assert [step.step for step in taken[0].steps] == ["acquired", "taken-over"]


def test_the_job_of_a_pilot_that_lives_stays_its_own(tmp_path, journal, clock):
    take(journal, JOB)
    other = PilotJournal.open(tmp_path, clock)
    assert other.take_over(SERVER, QUEUE) == []
    other.close()


def test_what_a_pilot_leaves_open_at_its_end_is_anybodys(tmp_path, clock):
    first = PilotJournal.open(tmp_path, clock)
    take(first, JOB)
    first.close()
    second = PilotJournal.open(tmp_path, clock)
    assert [record.job_id for record in second.take_over(SERVER, QUEUE)] == [7]
    second.close()


@pytest.mark.parametrize(
    ("code", "server", "queue", "taken"),
    [
        ("", SERVER, "OTHER", False),
        ("", "https://other.example", QUEUE, False),
        ("", SERVER, None, False),
        ("job.record('state', new='report')", SERVER, None, True),
        ("job.record('closed')", SERVER, QUEUE, False),
        ("job.record('spooled')", SERVER, QUEUE, False),
    ],
)
def test_only_jobs_that_one_can_go_on_with_are_taken_over(tmp_path, journal, code, server, queue, taken):
    died(tmp_path, code)
    assert bool(journal.take_over(server, queue)) is taken


def test_a_pid_alone_names_no_pilot():
    me = PilotProcess.this()
    assert not me.has_ended(me)
    assert me.has_ended(replace(me, start_time=me.start_time - 1))
    assert me.has_ended(replace(me, pid=2**22 + 1))
    assert me.has_ended(replace(me, boot="another boot"))
    assert not me.has_ended(replace(me, boot="another boot", host="another host"))
    assert not me.has_ended(replace(me, pids="pid:[1]", pid=2**22 + 1))


# -- the file ----------------------------------------------------------------------------------------------------------


def test_an_older_layout_is_made_a_newer_one(tmp_path, clock):
    with sqlite3.connect(tmp_path / FILE) as old:
        old.executescript(f"{MIGRATIONS[0]}; PRAGMA application_id={APPLICATION}; PRAGMA user_version=1;")
        old.execute(
            "INSERT INTO pilots(uuid, host, boot, pids, pid, start_time, version, started, ended)"
            " VALUES('u', 'h', 'b', 'p', 1, 2, '0', 1.7e9, 1.7e9)"
        )
        old.execute(
            "INSERT INTO jobs(panda_id, attempt, server, queue, state, phase, owner, job_dir, description, secret,"
            " identity, taken) VALUES(9, 1, ?, ?, 'open', 'acquired', 1, '/w', '{\"id\": 9}', 0, '{}', 1.7e9)",
            (SERVER, QUEUE),
        )
    old.close()
    journal = PilotJournal.open(tmp_path, clock)
    assert [record.job() for record in journal.take_over(SERVER, QUEUE)] == [Job(id=9)]
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def newer(file):
    connection = sqlite3.connect(file)
    connection.executescript(f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION + 1};")
    connection.close()


def foreign(file):
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE bookmarks(url TEXT)")
    connection.close()


def damaged(file):
    PilotJournal.open(file.parent, FakeClock()).close()
    data = bytearray(file.read_bytes())
    data[1024:] = os.urandom(len(data) - 1024)
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (newer, "a newer pilot's"),
        (foreign, "something else's database"),
        (damaged, ""),
        (lambda file: file.write_bytes(b"not a database at all, and long enough to be one\n" * 100), "not a database"),
        (lambda file: file.mkdir(), "no plain file"),
        (lambda file: file.symlink_to("elsewhere"), "no plain file"),
    ],
)
def test_what_cannot_be_used_is_set_aside_with_a_message(tmp_path, clock, caplog, spoil, why):
    spoil(tmp_path / FILE)
    with caplog.at_level(logging.WARNING):
        PilotJournal.open(tmp_path, clock).close()
    (message,) = [record.getMessage() for record in caplog.records]
    assert why in message
    assert f"set aside as {FILE}.aside-1" in message
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "elsewhere") == [FILE, f"{FILE}.aside-1"]
    PilotJournal.open(tmp_path, clock).close()
    assert len(caplog.records) == 1


def test_looking_changes_nothing_and_says_what_is_wrong(tmp_path, clock):
    assert Database.look(tmp_path) is None
    newer(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(OSError, match="a newer pilot's"):
        Database.look(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_file_system_over_a_network_is_known():
    lines = [
        "36 35 0:52 / /mnt/one rw,noatime shared:1 - nfs4 server:/x rw",
        "37 35 0:53 / /mnt/two rw - fuse.sshfs a:/b rw",
        "38 35 8:1 / / rw - ext4 /dev/sda1 rw",
        "garbage",
    ]
    assert [_network_type(lines, device) for device in ("0:52", "0:53", "8:1", "9:9")] == ["nfs4", "fuse.sshfs", "", ""]


def test_over_a_network_no_memory_is_shared(tmp_path, clock, monkeypatch, caplog):
    monkeypatch.setattr("pilot_core.journal.database.network_file_system", lambda folder: "nfs4")
    with caplog.at_level(logging.WARNING):
        journal = PilotJournal.open(tmp_path, clock)
    take(journal, JOB)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    journal.close()
    assert [record.getMessage().count("over a network (nfs4)") for record in caplog.records] == [1]


# -- a disk that is full -----------------------------------------------------------------------------------------------


class Full:
    """A journal that has no room the first time."""

    whole = True

    def __init__(self):
        self.steps = []
        self.left = 1

    def record(self, step, **details):
        if self.left:
            self.left -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self.steps.append(step)

    def close(self):
        pass


def test_a_step_that_had_no_room_is_told_once_and_later_ones_are_kept():
    failures, inner = [], Full()
    journal = SteadyJournal(failures.append)
    journal.begin(inner)
    assert journal.record("payload-starting") is False
    assert journal.record("closed") is True
    inner.left = 1
    assert journal.record("state") is False
    assert len(failures) == 1
    assert inner.steps == ["closed"]
