"""The kits' store in memory keeps PanDA's rules: what a pilot can meet of them is the same as with our server."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pilot_devserver.store import SqliteStore
from pilot_devserver.store_jobs import FileSpec, JobSpec

from pilot_core import JobFilter, StoreUnavailable
from pilot_core.testing import FakeClock, MemoryStore
from pilot_core.testing.kits.communicator_samples import plain_job

QUEUE = "KIT_QUEUE"
STATES = ("starting", "running", "transferring", "holding", "finished", "failed")

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["update", "dispatch", "command", "kill", "get", "other job", "other attempt", "no attempt", "NUL", "long"]
        ),
        st.sampled_from(STATES),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_it_answers_as_the_development_servers_store(steps):
    ours, theirs = MemoryStore(QUEUE), SqliteStore(None, clock=FakeClock(), adder_delay=None)
    try:
        ours.offer(plain_job())
        log = (FileSpec(lfn="log.tgz", kind="log"),)
        theirs.submit([JobSpec(queue=QUEUE, transformation="/bin/true", files=log)], first_id=plain_job().id)
        for number, (step, state) in enumerate(steps):
            told = [outcome(store, step, state) for store in (ours, theirs)]
            assert told[0] == told[1], f"step {number} of {steps}"
    finally:
        theirs.close()


def outcome(store, step, state):
    """Return what can be seen of a step."""
    job_id, attempt, values = plain_job().id, 1, {"trans_exit_code": 0}
    try:
        if step == "dispatch":
            return [job.id for job in store.dispatch(JobFilter(queue=QUEUE, labels=("managed",)))]
        if step == "command":
            return store.set_command(job_id, "softkill")
        if step == "kill":
            return store.kill(job_id) and store.get(job_id).status
        if step == "get":
            return store.get(job_id).status, store.get(job_id + 1)
        if step == "other job":
            job_id += 1
        elif step == "other attempt":
            attempt = 2
        elif step == "no attempt":
            attempt = None
        elif step == "NUL":
            values = {"pilot_error_diag": "a\0b"}
        elif step == "long":
            values = {"scheduler_id": "s" * 200}
        return store.update(job_id, state, attempt=attempt, values=values).command
    except StoreUnavailable:
        return "unavailable"
