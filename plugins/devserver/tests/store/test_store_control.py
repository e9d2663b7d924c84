"""Killing jobs, commands, debug mode, watchers, and who is told of changes."""

import threading

import pytest

from pilot_core.api.clock import SystemClock
from pilot_core.api.server import JobFilter, StoreUnavailable


def update(store, job_id, state, **values):
    return store.update(job_id, state, attempt=1, values=values)


def test_a_running_job_is_told_to_end(store, sent):
    job_id = sent()
    update(store, job_id, "running")
    assert store.kill(job_id, user="/CN=admin")
    assert not store.kill(job_id), "it is being killed already"
    assert update(store, job_id, "running").command == "tobekilled"
    assert update(store, job_id, "failed").command == "tobekilled"
    store.settle()
    assert store.get(job_id).status == "cancelled"


@pytest.mark.parametrize("state", ["", "starting", "holding", "finished"])
def test_a_job_that_does_not_run_is_cancelled_at_once(store, sent, state):
    job_id = sent()
    if state:
        update(store, job_id, state)
    assert store.kill(job_id, user="/CN=admin")
    job = store.get(job_id)
    assert (job.status, job.errors["taskBufferErrorCode"]) == ("cancelled", 100)
    assert job.errors["taskBufferErrorDiag"] == "killed by /CN=admin"
    assert store.settle() == []
    assert update(store, job_id, "running").command == "tobekilled"


def test_a_killed_job_that_finishes_is_finished(store, sent):
    job_id = sent(files=())
    update(store, job_id, "running")
    store.kill(job_id)
    assert update(store, job_id, "finished").command == "tobekilled"
    store.settle()
    assert store.get(job_id).status == "finished"


def test_who_may_kill(store, sent):
    users = sent(label="user", user="/CN=Jane User")
    assert not store.kill(users, production=True), "a production role does not kill users' jobs without a code"
    assert not store.kill(users, production=False, user="/CN=Joe User")
    assert store.kill(users, production=False, user="/O=x/CN=Jane User/CN=123")
    assert store.kill(sent(label="user"), production=True, code=9)
    assert not store.kill(12345)


def test_a_forced_kill_does_not_wait_for_the_pilot(store, sent):
    job_id = sent()
    update(store, job_id, "running")
    assert store.kill(job_id)
    assert store.kill(job_id, code=9)
    assert store.get(job_id).status == "cancelled"


def test_a_command_waits_for_the_pilot(store, sent):
    job_id = sent()
    assert store.set_command(job_id, "tail payload.stdout") == (True, "command received")
    assert store.set_debug(job_id, True) == "Succeeded"
    assert update(store, job_id, "running").command == "debug,tail payload.stdout"
    assert store.set_debug(job_id, True) == "Already set accordingly"
    assert store.set_debug(job_id, False) == "Succeeded"
    assert store.set_command(job_id, "tobekilled") == (True, "command received")
    assert store.set_command(job_id, "softkill") == (False, "job is being killed")
    assert update(store, job_id, "running").command == "tobekilled"


def test_commands_that_are_not_accepted(store, sent):
    job_id = sent(files=())
    assert store.set_command(job_id, "x" * 251) == (False, "command string too long. must be less than 250 chars")
    with pytest.raises(StoreUnavailable):
        store.set_command(job_id, "\0")
    update(store, job_id, "finished")
    assert "holding which is not in one of" in store.set_debug(job_id, True)
    store.settle()
    assert store.set_command(job_id, "x") == (False, f"no active job with PandaID={job_id}")
    assert store.set_debug(job_id, True) == f"PandaID={job_id} not found in active DB"


def test_debug_mode_comes_with_the_pilots_secrets(store, sent):
    job_id = sent(special="us,lc")
    assert store.get(job_id).uses_secrets
    assert update(store, job_id, "running").pilot_secrets is None
    store.set_debug(job_id, True)
    assert update(store, job_id, "running").pilot_secrets == "{}"
    store.set_secret("", "KEY", "value")
    assert update(store, job_id, "running").pilot_secrets == '{"KEY": "value"}'
    assert not store.get(job_id).uses_secrets, "debug mode replaces all special handling"


def test_secrets_are_kept_by_user(store):
    store.set_secret("/O=x/CN=Jane User/CN=99", "a", "1")
    store.set_secret("Jane User", "b", "2")
    assert store.secrets("/O=y/CN=Jane User") == '{"a": "1", "b": "2"}'
    store.set_secret("Jane User", "a", None)
    assert store.secrets("Jane User") == '{"b": "2"}'
    store.set_secret("Jane User", None, None)
    assert (store.secrets("Jane User"), store.secrets("nobody")) == ("{}", "{}")


@pytest.mark.parametrize(
    ("state", "limit", "code", "diag"),
    [
        ("", 1800, 102, "Sent job didn't receive reply from pilot within 30 min"),
        ("starting", 7200, 100, "lost heartbeat : 2023-11-14 22:13:20"),
        ("running", 7200, 100, "lost heartbeat : 2023-11-14 22:13:20"),
        ("holding", 3 * 3600, None, None),
    ],
)
def test_jobs_of_silent_pilots_fail(store, sent, clock, state, limit, code, diag):
    job_id = sent()
    if state:
        update(store, job_id, state)
    clock.advance(limit)
    assert store.watch() == []
    clock.advance(1)
    assert store.watch() == [job_id]
    job = store.get(job_id)
    assert job.status == "failed"
    assert (job.errors.get("jobDispatcherErrorCode"), job.errors.get("jobDispatcherErrorDiag")) == (code, diag)


def test_a_heartbeat_keeps_a_job_alive(store, sent, clock):
    job_id = sent()
    for _ in range(4):
        update(store, job_id, "running")
        clock.advance(7000)
        assert store.watch() == []
    assert store.get(job_id).status == "running"


def test_time_that_passes_for_the_database_counts(store, sent):
    job_id = sent()
    store.pass_time(1801)
    assert store.watch() == [job_id]


def test_changes_are_told_to_those_who_listen(store, job):
    seen = []
    stop = store.subscribe(seen.append)
    event = store.next_change()
    assert not event.is_set()
    store.submit([job(), job()], first_id=5)
    assert event.is_set()
    store.dispatch(JobFilter(queue="Q"))
    stop()
    update(store, 5, "running")
    assert seen == [5, 6, 5]


def test_waiting_for_a_change_ends_with_it(store, sent):
    job_id = sent()
    event = store.next_change()
    pilot = threading.Thread(target=update, args=(store, job_id, "running"))
    pilot.start()
    assert SystemClock().wait(event)
    pilot.join()
    assert store.get(job_id).status == "running"


def test_a_failed_transaction_tells_nobody(store, sent):
    job_id = sent()
    seen = []
    store.subscribe(seen.append)
    with pytest.raises(StoreUnavailable):
        update(store, job_id, "running", n_events=10**30)
    assert seen == []


def test_queues_workers_and_machines_are_kept(store, clock):
    store.set_queue("Q", data={"maxrss": 4000})
    assert store.queue_data("Q") == {"maxrss": 4000, "nickname": "Q", "panda_resource": "Q", "status": "online"}
    assert (store.queue_status("NONE"), store.queue_data("NONE"), store.queues()) == ("", None, ["Q"])
    assert store.worker_status("h", "17", {"status": "started", "node_id": "wn1"})
    assert store.workers()[0]["started"] == clock.wall()
    with pytest.raises(StoreUnavailable):
        store.worker_status("h", "abc", {"status": "started"})
    assert store.worker_node("S", "slot1@wn1", {"cpu_model": "x"}) == (True, "Inserted new worker node.")
    assert [node["host"] for node in store.worker_nodes()] == ["wn1"]
    assert store.worker_node("S" * 129, "wn1", {"cpu_model": "x"})[1].startswith("Another pilot")
    gpu = {"vendor": "V", "model": "M", "count": 1}
    assert store.worker_gpu("S", "wn1", gpu) == (True, "Inserted new worker node GPU.")
    assert store.worker_gpu("S", "slot2@wn1", gpu) == (True, "Updated existing worker node GPU.")
