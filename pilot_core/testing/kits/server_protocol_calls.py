"""Clauses for protocols that name the calls in a request (`NamesCalls`): the server's faults choose by these names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from pilot_core.api.server import NamesCalls, RequestedCall
from pilot_core.testing.kits.communicator_samples import REQUEST, plain_update
from pilot_core.testing.kits.server_protocol_base import PILOT, ServerProtocolBase
from pilot_core.testing.kits.server_protocol_fuzz import BODIES, FEW, HEADERS, QUERIES

if TYPE_CHECKING:
    from pilot_core.testing.kits.server_protocol_base import Counter

__all__ = ["CallClauses"]


class CallClauses(ServerProtocolBase):
    """Names, tasks, jobs and queues of calls."""

    @pytest.fixture
    def names(self, counter: Counter) -> NamesCalls:
        """The protocol, if it names calls."""
        protocol: object = counter.protocol
        if not isinstance(protocol, NamesCalls):
            self.does_not_apply("it does not name the calls in a request")
        return protocol

    def test_an_update_is_named(self, names: NamesCalls, counter: Counter) -> None:
        """The calls in an update are one, with a name, the task update, and the job with the state that is told."""
        update = plain_update(state="running")
        (call,) = names.requested_calls(replace(counter.dialect.update(update), identity=PILOT))
        assert call.name, "a call without a name cannot be chosen"
        assert call.task == "update", f"the task of an update is 'update', not {call.task!r}"
        assert [tuple(job) for job in call.jobs] == [(update.job_id, "running")], f"the jobs are told as {call.jobs!r}"

    def test_a_request_for_jobs_is_named(self, names: NamesCalls, counter: Counter) -> None:
        """The calls in a request for jobs are one, with a name, the task acquire, the queue, and no job."""
        (call,) = names.requested_calls(replace(counter.dialect.acquire(REQUEST), identity=PILOT))
        assert call.name, "a call without a name cannot be chosen"
        assert call.task == "acquire", f"the task of a request for jobs is 'acquire', not {call.task!r}"
        assert call.queue == REQUEST.queue, f"the queue is {REQUEST.queue!r}, not {call.queue!r}"
        assert not call.jobs, f"no job is named in the request, and {call.jobs!r} is told"

    def test_a_question_for_states_is_named(self, names: NamesCalls, counter: Counter) -> None:
        """A question for the states of jobs names these jobs, and has neither of the two tasks."""
        calls = names.requested_calls(replace(counter.dialect.status([5, 6]), identity=PILOT))
        assert {call.task for call in calls} == {""}, "only requests for jobs and updates have a task"
        assert [job_id for call in calls for job_id, _ in call.jobs] == [5, 6]

    @pytest.mark.parametrize("sort", ["acquire", "update"])
    def test_the_calls_of_any_request_can_be_asked_for(self, sort: str, names: NamesCalls, counter: Counter) -> None:
        """Whatever the request says, `calls` raises nothing and returns what it should."""
        dialect = counter.dialect
        request = dialect.acquire(REQUEST) if sort == "acquire" else dialect.update(plain_update())

        @FEW
        @given(body=BODIES, headers=HEADERS, query=QUERIES)
        def name(body: bytes, headers: Mapping[str, str], query: str) -> None:
            for call in names.requested_calls(replace(request, body=body, headers=headers, query=query)):
                values = vars(call)
                assert isinstance(call, RequestedCall)
                assert isinstance(values["name"], str) and isinstance(values["queue"], str)
                assert values["task"] in {"", "acquire", "update"}
                assert all(type(job) is int and isinstance(state, str) for job, state in values["jobs"])

        name()
