"""A payload's run: whatever comes between its start and its end, its processes end."""

from __future__ import annotations

import json
import logging
import os
import select
from types import SimpleNamespace

import pytest

from pilot_core import (
    Cancelled,
    CancelToken,
    Context,
    Job,
    NoSettings,
    PilotErrorCode,
    Queue,
    SystemClock,
    Violation,
)
from pilot_core.builtin import process_executor
from pilot_core.journal import FileJournal, SteadyJournal
from pilot_core.logs import Redactor, job_logger
from pilot_core.payload import fetch_transformation
from pilot_core.payloadrun import PayloadRun
from pilot_core.plugins import Hooks
from pilot_core.reporting import Verdict
from pilot_core.supervision import Spawner
from pilot_core.watching import NamedWatchdog, Watch

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


def test_a_job_that_was_asked_to_end_before_its_payload_starts_none(start, tmp_path):
    run = start("-c 'echo here > started'")
    run.soft.cancel("the server wants the payload to come to its end (softkill)")
    with pytest.raises(Cancelled, match="softkill") as caught:
        run.run(cancel=CancelToken(), running=lambda: pytest.fail("it runs"))
    assert caught.value.error_code == PilotErrorCode.PANDAKILL
    assert not (tmp_path / "payload" / "started").exists()


def test_a_payload_that_is_asked_softly_is_judged_by_what_it_makes_of_it(start, tmp_path):
    run = start(f"-c 'trap \"exit 0\" TERM; echo > {tmp_path}/gate; while :; do sleep 0.01; done'")

    def running():
        with open(tmp_path / "gate", "rb") as gate:
            gate.read()
        run.soft.cancel("softkill")

    result, verdict = run.run(cancel=CancelToken(), running=running), Verdict()
    run.judge(result, verdict)
    assert verdict.state == "finished"


def test_a_limit_that_was_passed_first_stays_the_cause(start, tmp_path):
    """While the payload still ends for it, the server wants the job killed as well."""

    class Dog:
        interval = 0.01

        def check(self, watched):
            return Violation(error_code=1150, message="3 of 2")

    cancel, dog = CancelToken(), Dog()
    run = start(f"-c 'read line < {tmp_path}/gate'", watchdogs=[NamedWatchdog("d", "watchdog.d (p 1)", dog=dog)])
    result, verdict = run.run(cancel=cancel, running=lambda: None), Verdict()
    cancel.cancel("tobekilled")
    run.judge(result, verdict)
    (failure,) = verdict.failures
    assert (failure.task, failure.code, failure.message) == ("payload", 1150, "3 of 2")
    assert result.signal == 15
