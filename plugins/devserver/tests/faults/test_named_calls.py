"""A protocol that is not PanDA's names its calls itself: faults choose by names, jobs and tasks."""

from __future__ import annotations

import json

import pytest
from pilot_devserver.faults.rules import Rule
from pilot_devserver.faults.subject import subject_of

from pilot_core import RequestedCall, ServerRequest, ServerResponse
from pilot_core.errors import BadInput


class Named:
    """Takes a list of calls as they are; one that it cannot read is its bug."""

    def handles(self, request):
        return request.path == "/calls"

    def respond(self, request, store):
        return ServerResponse()

    def requested_calls(self, request):
        return [
            RequestedCall(name=name, task=task, jobs=tuple(map(tuple, jobs)), queue=queue)
            for name, task, jobs, queue in json.loads(request.body)
        ]


UPDATE = ["work.tell", "update", [[7, "running"]], ""]
ACQUIRE = ["work.get", "acquire", [], "Q"]


def about(*calls, path="/calls", body=None):
    body = json.dumps(calls).encode() if body is None else body
    return subject_of(ServerRequest(method="POST", path=path, body=body), [Named()])


def strikes(subject, **values):
    return Rule.read(values).matches(subject, lambda _: "Q7")


def test_what_is_asked_is_what_the_protocol_says():
    subject = about(UPDATE, ACQUIRE)
    assert subject.calls == ("work.tell", "work.get")
    assert subject.tasks == {"update", "acquire"}
    assert subject.jobs == ((7, "running"),)
    assert subject.queue == "Q"


@pytest.mark.parametrize(
    ("conditions", "struck"),
    [
        ({}, True),
        ({"endpoint": "work.tell"}, True),
        ({"endpoint": "work.*"}, True),
        ({"endpoint": "/calls"}, True),
        ({"endpoint": "work.get"}, False),
        ({"endpoint": "work.tell", "job": 7, "state": "running"}, True),
        ({"endpoint": "work.tell", "job": 8}, False),
        ({"state": "finished"}, False),
        ({"queue": "Q7"}, True),
        ({"queue": "Q8"}, False),
    ],
)
def test_rules_choose_by_it(conditions, struck):
    assert strikes(about(UPDATE), fault="reset-after", **conditions) is struck


@pytest.mark.parametrize(
    ("fault", "call", "struck"),
    [
        ("tobekilled", UPDATE, True),
        ("tobekilled", ACQUIRE, False),
        ("duplicate-dispatch", ACQUIRE, True),
        ("duplicate-dispatch", UPDATE, False),
        ("tobekilled", ["work.else", "", [[7, ""]], ""], False),
    ],
)
def test_a_fault_for_updates_or_requests_for_jobs_strikes_what_is_one(fault, call, struck):
    assert strikes(about(call), fault=fault) is struck


def test_a_name_of_panda_that_cannot_have_the_fault_is_still_refused():
    Rule.read({"fault": "tobekilled", "endpoint": "work.tell"})
    with pytest.raises(BadInput, match="can never have the fault"):
        Rule.read({"fault": "tobekilled", "endpoint": "acquire_jobs"})


def test_a_protocols_bug_is_logged_and_pandas_names_are_tried(caplog):
    subject = about(body=b'{"job_id": 3}')
    assert subject.calls == ()
    assert subject.jobs == ((3, ""),)
    assert "Named failed to name the calls in a request" in caplog.text


def test_another_protocols_request_is_read_as_before():
    subject = about(path="/api/v1/pilot/update_job", body=b'{"job_id": 3, "job_status": "running"}')
    assert (subject.method, subject.jobs, subject.calls) == ("update_job", ((3, "running"),), ())
