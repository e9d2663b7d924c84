"""Clauses for the conversation: jobs go out once, updates reach the store with every field, commands come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest

from pilot_core.api.communicator import JobRequest
from pilot_core.testing.kits.communicator_samples import JOB, REQUEST, UPDATE, plain_job, plain_update
from pilot_core.testing.kits.server_protocol_base import PILOT, STRANGER, ServerProtocolBase
from pilot_core.testing.kits.within import at_once
from pilot_core.testing.server_words import UPDATE_NAMES, request_fields

if TYPE_CHECKING:
    from pilot_core.testing.kits.server_protocol_base import Counter
    from pilot_core.testing.memory_store import MemoryStore

__all__ = ["JobClauses"]

EXPIRED = "Invalid token. Signature has expired"
SEEN = tuple(field.name for field in fields(JobRequest) if field.name != "job_type")


class JobClauses(ServerProtocolBase):
    """Jobs, updates, states."""

    # -- jobs ----------------------------------------------------------------------------------------------------

    def test_no_job_is_said(self, counter: Counter) -> None:
        """Without a job in the store the answer says so, and is no refusal."""
        assert counter.acquire() == [], "there is no job, and the answer is another one"

    def test_a_job_goes_out_once(self, counter: Counter, store: MemoryStore) -> None:
        """A job is handed out to the first who asks, marked in the store, and to nobody after."""
        store.offer(plain_job())
        assert counter.acquire() == [plain_job().id], "the one job that there is was not handed out"
        assert store.dispatched == [plain_job().id], "the job went out past the store: use store.dispatch()"
        assert counter.acquire() == [], "the same job was handed out again"
        record = store.get(plain_job().id)
        assert record is not None and record.status == "sent"

    def test_a_job_goes_out_with_what_it_says(self, counter: Counter, store: MemoryStore) -> None:
        """The answer holds the job's description: program, arguments and files."""
        store.offer(plain_job(transformation="/kit/program-4711", parameters="--arguments-0815", inputs=JOB.inputs))
        body = counter.respond(counter.dialect.acquire(JobRequest(queue=REQUEST.queue, label="managed"))).body
        for text in ("program-4711", "arguments-0815", JOB.inputs[0].lfn, "5000000001"):
            assert text.encode() in body, f"{text} of the job is not in the answer"

    def test_as_many_jobs_go_out_as_are_asked_for(self, counter: Counter, store: MemoryStore) -> None:
        """A request for two jobs gets two of three."""
        self.carried("JobRequest.jobs")
        store.offer(plain_job(1))
        store.offer(plain_job(2))
        store.offer(plain_job(3))
        assert counter.acquire(jobs=2) == [plain_job(1).id, plain_job(2).id]
        assert store.dispatched == [plain_job(1).id, plain_job(2).id]

    def test_only_fitting_jobs_go_out(self, counter: Counter, store: MemoryStore) -> None:
        """A pilot of another queue, or with less memory than the job needs, does not get it."""
        store.offer(plain_job(memory_mb=4000))
        assert not counter.acquire(queue="ANOTHER_QUEUE"), (
            "the job went to another queue: pass the queue on to the store"
        )
        if "JobRequest.memory_mb" not in self.dropped:
            assert not counter.acquire(memory_mb=2000), "the job went to a pilot without the memory for it"
        assert counter.acquire(memory_mb=8000) == [plain_job().id]

    @pytest.mark.parametrize("label", ["managed", "user"])
    def test_a_pilot_for_both_kinds_gets_either(self, label: str, counter: Counter, store: MemoryStore) -> None:
        """A pilot that asks for `unified` gets production's jobs and users' alike: no job has that label itself."""
        self.carried("JobRequest.label")
        store.offer(plain_job(label=label))
        assert counter.acquire(label="unified") == [plain_job().id], (
            f"a pilot with the label unified takes {label} jobs: no job has that label, translate it for the store"
        )

    @pytest.mark.parametrize("field", SEEN)
    def test_a_wish_reaches_the_store(self, field: str, counter: Counter, store: MemoryStore) -> None:
        """Each field of a request for jobs reaches the store's filter."""
        self.carried(f"JobRequest.{field}")
        counter.respond(counter.dialect.acquire(REQUEST))
        assert store.filters, "the store was not asked for jobs: use store.dispatch()"
        asked, meant = request_fields(store.filters[-1]).get(field), getattr(REQUEST, field)
        assert asked == meant, f"{field}: {meant!r} was asked for, the store was asked for {asked!r}"

    def test_pilots_at_the_same_time_get_different_jobs(self, counter: Counter, store: MemoryStore) -> None:
        """Eight requests at once get eight jobs."""
        for number in range(8):
            store.offer(plain_job(number))
        found = [ids for ids in at_once([counter.acquire] * 8, "eight requests at once") if ids]
        got = sorted(job_id for ids in found for job_id in ids)
        assert got == [plain_job(number).id for number in range(8)], f"eight jobs for eight pilots became {got}"

    # -- updates -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("field", UPDATE_NAMES)
    def test_a_field_of_an_update_reaches_the_store(self, field: str, counter: Counter, store: MemoryStore) -> None:
        """Each field of an update reaches the store by its v1 name, with its value."""
        self.carried(f"JobUpdate.{field}")
        store.offer(JOB)
        assert counter.update(UPDATE) is not None, "the update was not taken"
        told = store.understood(UPDATE.job_id)
        assert told, "the update was taken, and the store knows nothing of it: use store.update()"
        there, meant = getattr(told[-1], field), getattr(UPDATE, field)
        name = UPDATE_NAMES[field]
        assert there == meant, f"{field} ({name}): {meant!r} was told, the store has {there!r}"

    @pytest.mark.parametrize("state", ["starting", "running", "transferring", "holding", "finished", "failed"])
    def test_states_and_attempt_reach_the_store(self, state: str, counter: Counter, store: MemoryStore) -> None:
        """State and attempt of an update reach the store, once."""
        store.offer(plain_job())
        assert counter.update(plain_update(state=state)) == []
        told = [(one.state, one.attempt) for one in store.understood(plain_job().id)]
        assert told == [(state, 1)], f"{state} of attempt 1 was told; the store has {told}"

    @pytest.mark.parametrize("command", ["tobekilled", "softkill", "something-new"])
    def test_commands_come_back(self, command: str, counter: Counter, store: MemoryStore) -> None:
        """What the store answers an update with goes back to the pilot, whatever it is."""
        store.offer(plain_job())
        store.answer_with(plain_job().id, command)
        assert counter.update(plain_update()) == [command], f"the store answered {command!r}"

    def test_a_second_final_update_is_already_done(self, counter: Counter, store: MemoryStore) -> None:
        """The store's `alreadydone` goes back to the pilot that reports the end again."""
        store.offer(plain_job())
        assert counter.update(plain_update(state="finished")) == []
        assert counter.update(plain_update(state="finished")) == ["alreadydone"], "it was reported before"

    @pytest.mark.parametrize("wrong", ["unknown job", "other attempt"])
    def test_what_the_store_does_not_know_is_told(self, wrong: str, counter: Counter, store: MemoryStore) -> None:
        """An update for an unknown job or another attempt is no plain success, and changes nothing."""
        store.offer(plain_job())
        update = plain_update(5) if wrong == "unknown job" else replace(plain_update(), attempt=7)
        answer = counter.update(update)
        assert answer is None or "tobekilled" in answer, f"{wrong}, and the answer is as if all were well: {answer!r}"
        assert not store.understood(plain_job().id), "the job of somebody else was changed"

    def test_a_state_that_there_is_not_is_told(self, counter: Counter, store: MemoryStore) -> None:
        """An update to a state that PanDA does not have is not taken."""
        store.offer(plain_job())
        assert counter.update(plain_update(state="nonsense")) is None, "there is no state 'nonsense', and it was taken"
        assert not store.understood(plain_job().id)

    def test_updates_at_the_same_time_do_not_mix(self, counter: Counter, store: MemoryStore) -> None:
        """Eight updates at once reach their own jobs."""
        for number in range(8):
            store.offer(plain_job(number))
            store.answer_with(plain_job(number).id, f"command-{number}")
        updates = [plain_update(number, payload_exit_code=number + 1) for number in range(8)]
        calls = [lambda update=update: counter.update(update) for update in updates]
        answers = at_once(calls, "eight updates at once")
        assert answers == [[f"command-{number}"] for number in range(8)], f"the answers were mixed: {answers}"
        if "JobUpdate.payload_exit_code" not in self.dropped:
            codes = [store.understood(plain_job(number).id)[0].payload_exit_code for number in range(8)]
            assert codes == list(range(1, 9)), f"the updates were mixed: exit codes {codes}"

    # -- states --------------------------------------------------------------------------------------------------

    def test_states_of_jobs_are_told(self, counter: Counter, store: MemoryStore) -> None:
        """The states of known and unknown jobs are told."""
        store.offer(plain_job(1))
        store.offer(plain_job(2))
        counter.update(plain_update(2, state="running"))
        told = counter.status(plain_job(1).id, plain_job(2).id, plain_job(9).id)
        right = {plain_job(1).id: "activated", plain_job(2).id: "running", plain_job(9).id: "not found"}
        assert told == right, f"the states are {right}, told is {told}"

    def test_asking_changes_nothing(self, counter: Counter, store: MemoryStore) -> None:
        """A question for states hands nothing out and changes no job."""
        store.offer(plain_job())
        counter.status(plain_job().id)
        record = store.get(plain_job().id)
        assert record is not None and record.status == "activated" and not store.dispatched

    # -- who asks, and a store that is not there -----------------------------------------------------------------

    @pytest.mark.parametrize("who", ["anonymous", "denied", "a stranger"])
    def test_only_pilots_are_served(self, who: str, counter: Counter, store: MemoryStore) -> None:
        """Without a credential, with a denied one, or without the role, no job goes out and no update is taken."""
        if not counter.dialect.needs_role:
            self.does_not_apply("the protocol serves everybody")
        store.offer(plain_job())
        counter.identity = STRANGER if who == "a stranger" else None
        counter.denied = EXPIRED if who == "denied" else ""
        assert not counter.acquire(), f"{who} got a job"
        assert not store.dispatched, f"{who} took a job out of the store"
        assert counter.update(plain_update()) is None, f"the update of {who} was taken"
        assert not store.understood(plain_job().id), f"the update of {who} reached the store"
        counter.identity, counter.denied = PILOT, ""
        assert counter.acquire() == [plain_job().id], "the pilot was served no longer"

    def test_a_store_that_is_down_is_told(self, counter: Counter, store: MemoryStore) -> None:
        """While the store is unavailable no update is taken and no job invented; afterwards all is well again."""
        store.offer(plain_job())
        store.available = False
        assert not counter.acquire(), "a job came out of a store that is down"
        assert counter.update(plain_update(metadata={"a": 1}, log_extract="x", stdout="y")) is None, (
            "the update was taken although the store is down: the pilot will not repeat it"
        )
        states = counter.status(plain_job().id)
        assert states is None or states.get(plain_job().id) == "unknown", f"nobody can know the state; told is {states}"
        store.available = True
        assert counter.acquire() == [plain_job().id], "the store is back, and the job is gone"
        assert counter.update(plain_update()) == []

    def test_a_value_that_the_store_refuses_is_told(self, counter: Counter, store: MemoryStore) -> None:
        """An update with a value that the store cannot hold is not said to be taken when nothing was kept."""
        store.offer(plain_job())
        answer = counter.update(plain_update(cpu_unit="u" * 1000))
        assert answer is None or store.understood(plain_job().id), "it was said to be taken, and nothing was kept"

    def test_it_keeps_nothing_itself(self, another: Callable[[], Counter], store: MemoryStore) -> None:
        """What one instance did another one knows, by the store alone: the server may be restarted at any time."""
        store.offer(plain_job(1))
        store.offer(plain_job(2))
        first, second = another(), another()
        assert first.acquire() == [plain_job(1).id]
        assert second.acquire() == [plain_job(2).id]
        assert first.update(plain_update(state="finished")) == []
        assert second.update(plain_update(state="finished")) == ["alreadydone"], (
            "the end was reported to another instance"
        )
        store.answer_with(plain_job(2).id, "tobekilled")
        assert first.update(plain_update(2)) == ["tobekilled"]
