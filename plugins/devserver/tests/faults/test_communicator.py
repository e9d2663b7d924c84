"""What the real client of PanDA's REST API makes of each fault: retries, what is harmless, what is said."""

import logging

import pytest
from pilot_communicator_panda.client import PandaCommunicator
from pilot_communicator_panda.settings import PandaSettings

from pilot_core import (
    AuthError,
    BearerToken,
    CancelToken,
    CommunicationError,
    Context,
    Deadline,
    JobRequest,
    JobUpdate,
)
from pilot_core.testing.clock import FakeClock

ASK = JobRequest(queue="Q1")


class Held:
    """A credential source that holds what the test puts in."""

    def __init__(self, credential):
        self.held = credential

    def credential(self, *, cancel, deadline):
        return self.held

    def secrets(self):
        return ()


@pytest.fixture
def clock():
    """The client's; the server's is the real one."""
    return FakeClock()


@pytest.fixture
def client(server, clock, tmp_path):
    """Make clients of the server; they are closed with the test."""
    made = []

    def make(credential=None, **settings):
        context = Context(
            clock=clock,
            log=logging.getLogger("test.faults"),
            work_dir=tmp_path,
            server_url=server.url,
            ca_file=server.ca_file,
            credential=Held(credential or server.pilot_certificate),
        )
        made.append(PandaCommunicator(PandaSettings(**settings), context, jitter=lambda: 1.0))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.fixture
def limits(clock):
    return lambda: {"cancel": CancelToken(), "deadline": Deadline.after(clock, 3600.0)}


@pytest.fixture
def acquired(server, client, limits, one_job):
    """A client that has a job."""
    job = one_job(server)
    talker = client()
    [taken] = talker.acquire(ASK, **limits())
    assert taken.id == job
    return talker, job


def finished(job):
    return JobUpdate(job_id=job, attempt=1, state="finished")


LOSSES = [
    ("reset-before", {}, 1),
    ("reset-after", {}, 3),
    ("truncate", {}, 3),
    ("content-length", {}, 3),
    ("content-length", {"bytes": -5}, 3),
    ("garbage", {"processed": True}, 3),
    ("garbage-body", {}, 1),
    ("html", {}, 1),
    ("html", {"processed": True}, 3),
    ("status", {"status": 500}, 1),
    ("status", {"status": 502, "processed": True}, 3),
    ("retry-after", {}, 1),
    ("database-down", {}, 1),
]


@pytest.mark.parametrize(("fault", "options", "applied"), LOSSES, ids=str)
def test_an_update_is_sent_again_until_it_is_acknowledged(server, acquired, limits, fault, options, applied):
    talker, job = acquired
    struck = server.fault(fault, endpoint="update_job", job=job, count=2, **options)
    talker.update(finished(job), **limits())
    found = server.store.get(job)
    assert struck.fired == 2
    assert found.status == "finished"
    # what was applied before its answer was lost is applied again, and that does no harm
    assert [status for _, status in found.history].count("finished") == 1
    assert 1 <= len(found.heartbeats) <= applied


@pytest.mark.parametrize(("fault", "options"), [(fault, options) for fault, options, _ in LOSSES if fault in {
    "reset-after", "truncate", "content-length", "garbage",
}])  # fmt: skip
def test_a_lost_answer_about_jobs_is_not_asked_for_again(server, client, limits, one_job, fault, options):
    job = one_job(server)
    struck = server.fault(fault, endpoint="acquire_jobs", count=0, **options)
    with pytest.raises(CommunicationError, match=r"may have been given to this pilot .* fails it after 30 minutes"):
        client().acquire(ASK, **limits())
    assert struck.fired == 1
    assert server.store.get(job).status == "sent"


def test_jobs_are_asked_for_again_where_the_server_did_not_take_the_request(server, client, limits, one_job, clock):
    job = one_job(server)
    server.fault("refuse", count=2)
    server.fault("retry-after", endpoint="acquire_jobs", status=429, seconds=7)
    server.fault("retry-after", endpoint="acquire_jobs", seconds=9)
    [taken] = client().acquire(ASK, **limits())
    assert taken.id == job
    assert server.faults.fired == 4
    assert 7.0 in clock.waits
    assert 9.0 in clock.waits


def test_a_date_in_retry_after_is_kept_too(server, acquired, limits, clock):
    talker, job = acquired
    clock.advance(server.clock.wall() - clock.wall())
    server.fault("retry-after", endpoint="update_job", seconds=33, form="date")
    talker.update(finished(job), **limits())
    assert any(31 <= wait <= 35 for wait in clock.waits), clock.waits


def test_a_server_that_hangs_is_given_up_after_the_timeout(server, acquired, limits, clock):
    talker, job = acquired
    clock.patience = 0.2
    struck = server.fault("hang", endpoint="update_job")
    talker.update(finished(job), **limits())
    assert (struck.fired, server.store.get(job).status) == (1, "finished")
    assert max(clock.waits) >= 1


def test_an_answer_that_drips_is_read_to_its_end(server, acquired, limits):
    talker, job = acquired
    struck = server.fault("drip", endpoint="update_job", rate=5000)
    talker.update(finished(job), **limits())
    assert (struck.fired, len(server.store.get(job).heartbeats)) == (1, 1)


def test_a_token_that_expires_in_mid_job_is_told_and_a_new_one_helps(server, client, limits, one_job):
    old = BearerToken(value=server.token(), origin="wlcg.production", source="token file")
    job = one_job(server)
    talker = client(old)
    assert talker.acquire(ASK, **limits())
    server.fault("expired-token", endpoint="update_job")
    with pytest.raises(AuthError, match=r"Signature has expired.*renew the token in token file"):
        talker.update(finished(job), **limits())
    new = BearerToken(value=server.token(seconds=3600), origin="wlcg.production", source="token file")
    client(new).update(finished(job), **limits())
    assert server.store.get(job).status == "finished"


def test_another_certificate_is_told_and_a_good_one_helps(server, acquired, limits, client):
    talker, job = acquired
    fault = server.fault("certificate", endpoint="update_job", kind="expired")
    talker.update(JobUpdate(job_id=job, attempt=1, state="running"), **limits())
    with pytest.raises(CommunicationError, match=r"certificate has expired"):
        client(retry_budget=1.0).update(finished(job), **limits())
    fault.remove()
    talker.update(finished(job), **limits())
    assert server.store.get(job).status == "finished"


@pytest.mark.parametrize("seconds", [-1e6, 1e6])
def test_the_date_of_an_answer_means_nothing_to_the_client(server, acquired, limits, seconds):
    talker, job = acquired
    server.fault("clock-skew", count=0, seconds=seconds)
    talker.update(finished(job), **limits())
    assert server.store.get(job).status == "finished"


def test_a_command_reaches_the_client(server, acquired, limits):
    talker, job = acquired
    server.fault("tobekilled", state="running", after=1)
    running = JobUpdate(job_id=job, attempt=1, state="running")
    answers = [talker.update(running, **limits()) for _ in range(3)]
    assert [answer.commands for answer in answers] == [(), ("tobekilled",), ("tobekilled",)]


def test_a_job_that_is_handed_out_twice_comes_twice(server, acquired, client, limits):
    _, job = acquired
    server.fault("duplicate-dispatch")
    [again] = client().acquire(ASK, **limits())
    assert again.id == job
