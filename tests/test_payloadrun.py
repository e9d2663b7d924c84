"""A payload's run: whatever comes between its start and its end, its processes end."""

from __future__ import annotations

import json
import logging
import os
import select
from types import SimpleNamespace

import pytest

from pilot_core import CancelToken, Context, Job, NoSettings, Queue, SystemClock
from pilot_core.builtin import process_executor
from pilot_core.journal import FileJournal, SteadyJournal
from pilot_core.logs import Redactor, job_logger
from pilot_core.payload import fetch_transformation
from pilot_core.payloadrun import PayloadRun
from pilot_core.plugins import Hooks
from pilot_core.supervision import Spawner
from pilot_core.watching import Watch

CLOCK = SystemClock()


class NoPlugins:
    """A registry without plugins that shape a job."""

    def listeners(self, hook):
        return ()


class Meddler:
    """The real executor, with something that happens just after the start of a payload."""

    def __init__(self, executor, then):
        self._executor = executor
        self._then = then
        self.supervisor = -1

    def start(self, spec, *, cancel, deadline):
        handle = self._executor.start(spec, cancel=cancel, deadline=deadline)
        self.supervisor = os.pidfd_open(handle.data["pid"])
        self._then()
        return handle

    def attach(self, handle, *, cancel, deadline):
        return self._executor.attach(handle, cancel=cancel, deadline=deadline)


@pytest.fixture
def start(tmp_path):
    """Run a job that waits for ever, with something that happens just after its start; returns a call for the run."""
    (tmp_path / "payload").mkdir()
    (tmp_path / "control").mkdir()
    os.mkfifo(tmp_path / "gate")
    journal = SteadyJournal(lambda error: pytest.fail(str(error)))
    journal.begin(FileJournal(tmp_path / "journal.jsonl", CLOCK))
    meddlers = []
    with Spawner.start(CLOCK) as spawner:
        (provider,) = process_executor.pilot_executors()
        context = Context(clock=CLOCK, log=logging.getLogger("test"), work_dir=tmp_path, extra={"spawner": spawner})
        executor = provider.factory(NoSettings(), context)

        def start(parameters, then=lambda: None, redactor=None, watchdogs=()):
            meddlers.append(Meddler(executor, then))
            services = SimpleNamespace(
                executor=meddlers[-1],
                clock=CLOCK,
                queue=Queue(name="Q", kill_grace_seconds=60.0),
                hooks=Hooks(NoPlugins()),
                redactor=redactor or Redactor(),
                own_environment={"PATH": os.environ["PATH"]},
                ca_file=None,
                fetch=fetch_transformation,
                watchdogs=watchdogs,
                watch=Watch,
                started=CLOCK.monotonic(),
            )
            job = Job(id=7, transformation="/bin/sh", parameters=parameters)
            return PayloadRun(job, services, tmp_path / "payload", journal, job_logger(7, "job"))

        yield start
        for meddler in (one for one in meddlers if one.supervisor >= 0):
            poll = select.poll()
            poll.register(meddler.supervisor, select.POLLIN)
            assert poll.poll(60_000), "the payload still runs"
            os.close(meddler.supervisor)
    journal.close()


def test_a_job_that_is_called_off_just_after_its_payload_started_ends_it(start, tmp_path):
    cancel = CancelToken()
    run = start(f"-c 'read line < {tmp_path}/gate'", lambda: cancel.cancel("tobekilled"))
    result = run.run(cancel=cancel, running=lambda: None)
    assert not result.ok


def test_a_payload_that_cannot_be_waited_for_is_ended(start, tmp_path):
    """A bug of the pilot's or a plugin's must not leave processes behind."""

    def bug():
        raise RuntimeError("a bug")

    run = start(f"-c 'read line < {tmp_path}/gate'")
    with pytest.raises(RuntimeError, match="a bug"):
        run.run(cancel=CancelToken(), running=bug)


def test_secrets_among_the_arguments_do_not_come_into_the_journal(start, tmp_path):
    redactor = Redactor()
    redactor.add(["canary-of-the-user"])
    run = start("-c 'exit 0' canary-of-the-user", redactor=redactor)
    assert run.run(cancel=CancelToken(), running=lambda: None).ok
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert next(line["argv"] for line in lines if line["step"] == "payload-starting")[:2] == ["/bin/sh", "-c"]
    assert "canary" not in json.dumps(lines)
