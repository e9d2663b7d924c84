"""Final reports that wait, and what the server has to say before one is done with."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from pilot_core import (
    AuthError,
    CancelToken,
    CommunicationError,
    Job,
    JobStatus,
    JobUpdate,
    RequestRefused,
    ServerAnswer,
)
from pilot_core.journal.records import Identity, Taken
from pilot_core.journal.store import PilotJournal
from pilot_core.reporting import FinalReport
from pilot_core.spool import Spool
from pilot_core.testing.clock import FakeClock

SERVER = "https://panda.example"


class Server:
    """Answers final reports, and says what it believes of jobs."""

    def __init__(self, answer=None, status="finished"):
        self.answer, self.status = answer or ServerAnswer(), status
        self.heard = []

    def update(self, update, *, cancel, deadline):
        self.heard.append(update)
        answer = self.answer.pop(0) if isinstance(self.answer, list) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def job_status(self, job_ids, *, cancel, deadline):
        return [JobStatus(job_id=job_id, status=self.status, attempt=1) for job_id in job_ids]


class Bench:
    def __init__(self, folder):
        self.folder, self.clock = folder, FakeClock()
        self.journal = PilotJournal.open(folder, self.clock)
        self.spool = Spool(folder, self.journal, SERVER)

    def keep(self, job_id=7, server=SERVER, *, record=True):
        """Have a report in the spool; `record`: in the journal, too."""
        update = JobUpdate(job_id=job_id, attempt=1, state="finished", batch_id="b.1", node="first")
        if record:
            taken = [Taken(job=Job(id=job_id, attempt=1), job_dir=Path("/w"))]
            ask = self.journal.asking(server, "Q")
            (job,) = self.journal.acquired(ask, taken, server=server, queue="Q", identity=Identity())
            job.record("spooled")
        return FinalReport(update=update, made=0.0).store(self.folder / "spool")

    def flush(self, server):
        done = self.spool.flush(server, self.clock, budget=1.0, cancel=CancelToken())
        return done.delivered, done.left

    @property
    def waits(self):
        return [int(path.name.partition("-")[0]) for path in self.spool.files()]


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.journal.close()


@pytest.mark.parametrize("record", [True, False])
def test_a_report_is_sent_as_its_pilot_made_it_and_done_with(bench, record):
    bench.keep(record=record)
    server = Server()
    assert bench.flush(server) == (1, 0)
    assert [(update.batch_id, update.node) for update in server.heard] == [("b.1", "first")]
    assert not (bench.folder / "spool").exists()
    assert bench.journal.spooled(7, 1) is None
    assert bench.flush(server) == (0, 0)


@pytest.mark.parametrize(
    ("commands", "status", "done"),
    [
        (("alreadydone",), "running", True),
        (("tobekilled", "alreadydone"), "running", True),
        (("tobekilled",), "running", False),
        (("tobekilled",), "sent", False),
        (("tobekilled",), "unknown", False),
        (("tobekilled",), "cancelled", True),
        (("tobekilled",), "failed", True),
        (("debug",), "running", True),
    ],
)
def test_tobekilled_is_confirmed_before_a_report_is_done_with(bench, commands, status, done):
    bench.keep()
    assert bench.flush(Server(ServerAnswer(commands=commands), status)) == ((1, 0) if done else (0, 1))
    assert bench.waits == ([] if done else [7])


def test_a_report_for_another_server_stays(bench):
    bench.keep(server="https://other.example")
    server = Server()
    assert bench.flush(server) == (0, 1)
    assert not server.heard


@pytest.mark.parametrize("error", [CommunicationError("no server"), AuthError("refused")])
def test_where_there_is_no_server_the_others_are_not_tried(bench, error):
    bench.keep(7)
    bench.keep(8)
    server = Server(error)
    assert bench.flush(server) == (0, 2)
    assert len(server.heard) == 1


def test_a_report_that_the_server_refuses_does_not_hold_up_the_next(bench):
    bench.keep(7)
    bench.keep(8)
    assert bench.flush(Server([RequestRefused("no such job"), ServerAnswer()])) == (1, 1)
    assert bench.waits == [7]


def test_what_is_no_report_stays_and_is_told(bench, caplog):
    (bench.folder / "spool").mkdir()
    (bench.folder / "spool/1-1.json").write_text("{")
    assert bench.flush(Server()) == (0, 1)
    assert "is no report that this pilot can read" in caplog.text


def test_what_another_pilot_is_sending_is_left_to_it(bench):
    file = bench.keep()
    with file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        server = Server()
        assert bench.flush(server) == (0, 0)
        assert not server.heard
    assert bench.flush(server) == (1, 0)
