"""Which jobs are handed out, in which order, and each to one pilot only."""

import subprocess
import sys
import threading

import pytest
from pilot_devserver.store_jobs import JobSpec

from pilot_core.api.clock import SystemClock
from pilot_core.api.server import JobFilter, StoreUnavailable


def ids(jobs):
    return [job.id for job in jobs]


def test_jobs_go_out_by_priority_and_then_by_id(store, job):
    store.submit([job(priority=1), job(priority=5), job(priority=5)], first_id=10)
    assert ids(store.dispatch(JobFilter(queue="Q", limit=5))) == [11, 12, 10]


def test_ids_are_counted_on_from_the_first(open_store, job):
    store = open_store(first_id=7_000_000_000)
    assert store.submit([job(), job()]) == [7_000_000_000, 7_000_000_001]
    assert store.submit([job()], first_id=9_000_000_000) == [9_000_000_000]
    assert store.submit([job()]) == [9_000_000_001]
    with pytest.raises(StoreUnavailable):
        store.submit([job(), job()], first_id=8_999_999_999)
    assert store.counts() == {"activated": 4}, "all or none"


def test_a_job_goes_out_once(store, job):
    store.submit([job()])
    assert len(store.dispatch(JobFilter(queue="Q"))) == 1
    assert store.dispatch(JobFilter(queue="Q")) == []


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({}, True),
        ({"queue": "OTHER"}, False),
        ({"limit": 0}, False),
        ({"memory_mb": 16000}, True),
        ({"memory_mb": 15999}, False),
        ({"disk_mb": 5000}, True),
        ({"disk_mb": 100}, False),
        ({"remaining_seconds": 7200}, True),
        ({"remaining_seconds": 600}, False),
        ({"resource_type": "MCORE"}, True),
        ({"resource_type": "SCORE"}, False),
        ({"task_id": 4711}, True),
        ({"task_id": 1}, False),
        ({"user": "/DC=lab/O=x/CN=Jane User/CN=12345"}, True),
        ({"user": "Jane User"}, True),
        ({"user": "Joe User"}, False),
        ({"labels": ("managed", "test")}, True),
        ({"labels": ("user",)}, False),
        ({"processing_types": ("gangarobot",)}, True),
        ({"processing_types": ("simul",)}, False),
        ({"labels": ("user",), "processing_types": ("gangarobot",)}, True),
        ({"background": True}, False),
    ],
)
def test_a_pilot_gets_only_what_it_can_take(store, job, wanted, matches):
    needs = {"memory_mb": 16000, "disk_mb": 5000, "walltime_seconds": 7200, "resource_type": "MCORE", "task_id": 4711}
    store.submit([job(**needs, user="/DC=lab/CN=Jane User", processing_type="gangarobot")])
    assert bool(store.dispatch(JobFilter(**{"queue": "Q", **wanted}))) is matches


def test_a_job_without_a_limit_fits_everywhere(store, job):
    store.submit([job()])
    assert store.dispatch(JobFilter(queue="Q", memory_mb=1, disk_mb=1, remaining_seconds=1))


def test_background_jobs_are_for_those_who_ask(store, job):
    store.submit([job(background=True)])
    assert store.dispatch(JobFilter(queue="Q", background=True))


def test_sent_jobs_are_counted_for_a_while(store, sent, clock):
    sent()
    sent(label="user")
    assert store.sent_count("Q", 60) == 1
    clock.advance(61)
    assert store.sent_count("Q", 60) == 0


def test_a_dispatch_to_a_worker_is_remembered(store, job):
    (job_id,) = store.submit([job()])
    store.dispatch(JobFilter(queue="Q", harvester_id="h", worker_id=17, node="wn1"))
    (worker,) = store.workers()
    assert (worker["worker"], worker["jobs"], worker["node"]) == ("17", [job_id], "wn1")


def test_threads_never_get_the_same_job(tmp_path, open_store):
    store = open_store(tmp_path / "jobs.sqlite", clock=SystemClock())
    store.submit([JobSpec(queue="Q")] * 60)
    got, lock = [], threading.Lock()

    def take():
        while jobs := store.dispatch(JobFilter(queue="Q", limit=2)):
            with lock:
                got.extend(ids(jobs))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(1, 61))


TAKE = """
import sys
from pathlib import Path
from pilot_core.api.clock import SystemClock
from pilot_core.api.server import JobFilter
from pilot_devserver.store import SqliteStore
store = SqliteStore(Path(sys.argv[1]), clock=SystemClock())
print("ready", flush=True)
sys.stdin.readline()
while jobs := store.dispatch(JobFilter(queue="Q")):
    print(*(job.id for job in jobs))
"""


def test_processes_never_get_the_same_job(tmp_path, open_store):
    file = tmp_path / "jobs.sqlite"
    open_store(file, clock=SystemClock()).submit([JobSpec(queue="Q")] * 40)
    command = [sys.executable, "-c", TAKE, str(file)]
    takers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for taker in takers:
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        taker.stdin.write("go\n")
        taker.stdin.flush()
    outputs = [taker.communicate()[0] for taker in takers]
    assert sorted(int(word) for output in outputs for word in output.split()) == list(range(1, 41))
    assert all(taker.returncode == 0 for taker in takers)


def test_a_file_that_is_no_database_is_reported(tmp_path, open_store):
    file = tmp_path / "jobs.sqlite"
    file.write_text("this is no database, and it is long enough to be seen as none" * 20)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_store(file)


@pytest.mark.parametrize("name", ["node", "scheduler_id", "computing_element"])
@pytest.mark.parametrize("text", ["x" * 129, "a\0b"], ids=["long", "nul"])
def test_a_pilot_whose_name_cannot_be_stored_gets_no_job(store, job, name, text):
    store.submit([job()])
    with pytest.raises(StoreUnavailable):
        store.dispatch(JobFilter(queue="Q", **{name: text}))
    assert store.counts() == {"activated": 1}
    assert len(store.dispatch(JobFilter(queue="Q", **{name: "x" * 128}))) == 1
