"""The store in memory. That it answers as the development server's is tested with that one."""

import pytest

from pilot_core import InputFile, Job, JobFilter, OutputFile, StoreUnavailable
from pilot_core.testing import MemoryStore
from pilot_core.testing.kits.communicator_samples import JOB, UPDATE, plain_job
from pilot_core.testing.server_words import UPDATE_NAMES, described, understood_update

QUEUE = "KIT_QUEUE"


@pytest.fixture
def store():
    store = MemoryStore()
    store.offer(plain_job())
    return store


def send(store, state="running", *, attempt=1, **values):
    return store.update(plain_job().id, state, attempt=attempt, values=values).command


@pytest.mark.parametrize("available", [True, False])
def test_a_request_may_find_the_database_down(store, available):
    with store.request(available=available):
        if available:
            assert send(store) == "NULL"
        else:
            with pytest.raises(StoreUnavailable):
                send(store)
    assert send(store) == "NULL"


def test_what_a_request_says_of_a_job_is_one_update(store):
    with store.request():
        store.add_log(plain_job().id, "the log")
        send(store, "finished", trans_exit_code=3)
        assert store.add_metadata(plain_job().id, '{"a": 1}')
    (told,) = store.understood(plain_job().id)
    assert (told.state, told.payload_exit_code, told.log_extract, told.metadata) == ("finished", 3, "the log", {"a": 1})


def test_a_job_goes_to_its_queue_label_and_memory():
    store = MemoryStore()
    store.offer(Job(id=1, label="user", memory_mb=4000, task_id=7))
    for wrong in ({"queue": "X"}, {"labels": ("managed",)}, {"memory_mb": 2000}, {"task_id": 8}, {"limit": 0}):
        assert store.dispatch(JobFilter(**{"queue": QUEUE, **wrong})) == [], wrong
    right = JobFilter(queue=QUEUE, labels=("user",), memory_mb=4000, task_id=7)
    assert [job.id for job in store.dispatch(right)] == store.dispatched == [1]


def test_secrets_are_kept_and_forgotten(store):
    store.set_secret("Jane", "a", "1")
    store.set_secret("Jane", "b", "2")
    store.set_secret("Jane", "a", None)
    assert store.secrets("Jane") == '{"b": "2"}'
    store.set_secret("Jane", None, None)
    assert store.secrets("Jane") == "{}"


def test_a_value_that_cannot_be_read_is_left_as_it_is():
    told = understood_update(1, "running", 1, {"start_time": "soon", "job_output_report": "[", "pilot_timing": "a|b"})
    assert (told.start_time, told.files, told.timing) == ("soon", "[", "a|b")


def test_every_name_of_an_update_has_its_field():
    assert set(UPDATE_NAMES) == set(UPDATE.to_json()) - {"job_id", "attempt", "state"}


def test_a_job_is_described_as_panda_does():
    told = described(JOB)
    assert told["inFiles"] == "EVNT.1._000001.pool.root.1,empty+file~2.root,unknown.root"
    assert told["fsize"] == "5000000001,0,NULL"
    assert told["checksum"] == "ad:0a1b2c3d,md5:d41d8cd98f00b204e9800998ecf8427e,NULL"
    assert told["outFiles"].endswith("," + told["logFile"])
    assert told["scopeOut"] == "mc23_13p6TeV,mc23_13p6TeV"
    assert (told["debug"], told["loopingCheck"]) == ("True", False)
    small = described(Job(id=1, inputs=(InputFile(lfn="a"),), outputs=(OutputFile(lfn="b"),)))
    assert (small["transformation"], small["logFile"], small["maxWalltime"]) == ("NULL", "", "NULL")
    assert not {"debug", "allowNoOutput"} & set(small)
