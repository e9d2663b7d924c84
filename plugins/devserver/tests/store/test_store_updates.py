"""What updates of pilots do to jobs, and how the Adder decides them."""

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pilot_devserver.store import SqliteStore
from pilot_devserver.store_jobs import FileSpec, JobSpec

from pilot_core.api.server import JobFilter, StoreUnavailable
from pilot_core.testing.clock import FakeClock

REPORT = json.dumps(
    {name: {"guid": "g", "fsize": 1, "adler32": "00000001", "surl": "file:///x"} for name in ("out.1", "log.1.tgz")}
)


def update(store, job_id, state, attempt=1, **values):
    return store.update(job_id, state, attempt=attempt, values=values)


def test_a_job_goes_through_its_states(store, sent, clock):
    job_id = sent()
    for state in ("starting", "running", "running"):
        clock.advance(10)
        assert update(store, job_id, state).command == "NULL"
    assert update(store, job_id, "finished", job_output_report=REPORT, trans_exit_code=0).command == "NULL"
    assert store.get(job_id).status == "holding"
    assert store.settle() == [job_id]
    job = store.get(job_id)
    assert (job.status, job.reported_state, job.errors) == ("finished", "finished", {})
    assert job.file_status == {"out.1": "ready", "log.1.tgz": "ready"}
    assert [state for _, state in job.history] == ["activated", "sent", "starting", "running", "holding", "finished"]
    assert len(job.heartbeats) == 4
    assert job.heartbeats[1] - job.heartbeats[0] == 10


def test_running_is_not_set_back_to_starting(store, sent):
    job_id = sent()
    update(store, job_id, "running")
    assert update(store, job_id, "starting", node="wn2").command == "NULL"
    assert (store.get(job_id).status, store.get(job_id).node) == ("running", "wn2")


def test_an_update_after_the_final_one_changes_nothing(store, sent):
    job_id = sent()
    update(store, job_id, "finished", job_output_report=REPORT, n_events=5)
    assert update(store, job_id, "running", n_events=7).command == "NULL"
    assert update(store, job_id, "finished", n_events=8).command == "alreadydone"
    assert update(store, job_id, "failed").command == "alreadydone"
    assert store.get(job_id).fields["n_events"] == 5
    store.settle()
    assert update(store, job_id, "finished").command == "tobekilled"
    assert store.get(job_id).status == "finished"


def test_a_job_that_the_pilot_holds_can_still_be_finished(store, sent):
    job_id = sent()
    assert update(store, job_id, "holding").command == "NULL"
    assert update(store, job_id, "holding").command == "NULL"
    assert update(store, job_id, "running").command == "NULL"
    assert store.settle() == []
    assert update(store, job_id, "finished", job_output_report=REPORT).command == "NULL"
    store.settle()
    assert store.get(job_id).status == "finished"


def test_an_unknown_job_or_attempt_is_to_be_killed(store, sent):
    job_id = sent()
    for unknown in (job_id + 1, 10**30, -(10**30)):
        assert update(store, unknown, "running").command == "tobekilled"
    assert update(store, job_id, "running", attempt=2).command == "tobekilled"
    assert update(store, job_id, "running", attempt=None).command == "NULL"


def test_a_final_update_without_an_attempt_stays_in_holding(store, sent):
    job_id = sent()
    assert update(store, job_id, "finished", attempt=None, job_output_report=REPORT).command == "NULL"
    assert store.settle() == []
    assert store.get(job_id).status == "holding"


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [("a", "b", True), ("a", "a", False), ("12.0", "b", False), ("a", "77", False), ("a", "", False), ("", "b", False)],
)
def test_a_batch_id_must_stay_the_same_unless_it_is_a_number(store, sent, first, second, refused):
    job_id = sent()
    update(store, job_id, "running", batch_id=first)
    if refused:
        with pytest.raises(StoreUnavailable):
            update(store, job_id, "running", batch_id=second)
    else:
        assert update(store, job_id, "running", batch_id=second).command == "NULL"


def test_a_value_beyond_its_column_loses_the_whole_update(store, sent):
    job_id = sent()
    with pytest.raises(StoreUnavailable, match="pilot_timing"):
        update(store, job_id, "finished", n_events=3, pilot_timing="1|" * 51, job_output_report=REPORT)
    job = store.get(job_id)
    assert (job.status, job.fields, job.heartbeats) == ("sent", {}, [])
    assert store.settle() == []


def test_the_adder_comes_after_its_delay(open_store, clock, job):
    store = open_store(adder_delay=5.0)
    (job_id,) = store.submit([job()])
    store.dispatch(JobFilter(queue="Q"))
    update(store, job_id, "finished", job_output_report=REPORT)
    assert store.next_settlement() == clock.wall() + 5
    assert update(store, job_id, "finished").command == "alreadydone"
    store.adder_held = True
    clock.advance(5)
    assert (store.get(job_id).status, store.next_settlement()) == ("holding", None)
    store.adder_held = False
    assert update(store, job_id, "finished").command == "tobekilled"
    assert (store.get(job_id).status, store.next_settlement()) == ("finished", None)


def test_metadata_is_kept_once(store, sent):
    job_id = sent()
    assert store.add_metadata(job_id, "{}", state="failed"), "that of failed jobs is not kept"
    assert store.get(job_id).metadata == ""
    assert store.add_metadata(job_id, "first", state="running")
    assert store.add_metadata(job_id, "second", state="finished")
    assert store.get(job_id).metadata == "first"
    assert not store.add_metadata(job_id + 1, "{}")
    assert not store.add_metadata(sent(), "\0")


def test_log_and_stdout_are_kept_as_far_as_they_fit(store, sent):
    job_id = sent()
    store.add_log(job_id, "x" * 5000)
    store.add_stdout(job_id, "tail")
    for lost in ("y" * 2049, "\0"):
        store.add_stdout(job_id, lost)
    job = store.get(job_id)
    assert (len(job.log), job.stdout) == (4000, "tail")


def test_a_report_that_the_database_cannot_hold_is_lost(store, sent):
    job_id = sent()
    update(store, job_id, "finished", job_output_report="\0")
    assert store.settle() == []
    assert store.get(job_id).status == "holding"


def test_a_database_that_is_down_refuses_everything_and_loses_nothing(store, sent):
    job_id = sent()
    store.available = False
    for action in (
        lambda: store.get(job_id),
        lambda: store.dispatch(JobFilter(queue="Q")),
        lambda: update(store, job_id, "finished"),
        lambda: store.add_metadata(job_id, "{}"),
        lambda: store.kill(job_id),
        lambda: store.secrets(""),
        store.resource_types,
    ):
        with pytest.raises(StoreUnavailable):
            action()
    store.available = True
    assert store.get(job_id).status == "sent"


def test_a_database_in_a_file_is_there_after_a_restart(tmp_path, open_store, job):
    file = tmp_path / "jobs.sqlite"
    first = open_store(file)
    (job_id,) = first.submit([job(parameters="ü 'q' \n", special="dm")])
    first.set_queue("Q", status="test", data={"corecount": 8})
    first.close()
    second = open_store(file)
    assert second.get(job_id).description["jobPars"] == "ü 'q' \n"
    assert second.get(job_id).debug
    assert (second.queue_status("Q"), second.queue_data("Q")["corecount"]) == ("test", 8)


class JobStates(RuleBasedStateMachine):
    """Any order of what pilots, users and the Adder do to one job."""

    def __init__(self):
        super().__init__()
        self.store = SqliteStore(None, clock=FakeClock(), adder_delay=None)
        spec = JobSpec(queue="Q", files=(FileSpec(lfn="out.1", kind="output"), FileSpec(lfn="log.1.tgz", kind="log")))
        (self.id,) = self.store.submit([spec])
        self.final = None
        self.killed = False

    @rule()
    def acquire(self):
        taken = self.store.dispatch(JobFilter(queue="Q"))
        assert not taken or self.final is None

    @rule(
        state=st.sampled_from(["starting", "running", "holding", "transferring", "finished", "failed"]),
        attempt=st.sampled_from([1, 1, 1, 2, None]),
        report=st.sampled_from([REPORT, "", "{}", "nonsense", "[]"]),
        batch=st.sampled_from(["", "a", "b", "12"]),
    )
    def update(self, state, attempt, report, batch):
        try:
            outcome = update(self.store, self.id, state, attempt, job_output_report=report, batch_id=batch)
        except StoreUnavailable:
            assert self.final is None
            return
        if self.final is not None or attempt == 2:
            assert outcome.command == "tobekilled"
        elif not self.killed:
            assert outcome.command in ("NULL", "alreadydone")
        else:
            assert outcome.command in ("tobekilled", "alreadydone")

    @rule()
    def kill(self):
        running = self.store.get(self.id).status == "running"
        done = self.store.kill(self.id)
        assert done == (self.final is None and not self.killed)
        self.killed = self.killed or (done and running)

    @rule()
    def settle(self):
        assert set(self.store.settle()) <= {self.id}

    @invariant()
    def an_archived_job_stays_as_it_is(self):
        job = self.store.get(self.id)
        if self.final is not None:
            assert (job.status, job.errors, tuple(job.history)) == self.final
        elif job.status in ("finished", "failed", "cancelled"):
            self.final = (job.status, job.errors, tuple(job.history))
            assert job.status != "finished" or job.report == REPORT
            assert job.status != "failed" or not self.killed
        else:
            assert job.status in ("activated", "sent", "starting", "running", "holding", "transferring")

    def teardown(self):
        self.store.close()


TestJobStates = JobStates.TestCase
TestJobStates.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
