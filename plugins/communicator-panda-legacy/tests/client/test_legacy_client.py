"""The form API: recorded answers mean what they mean, requests are what the server takes."""

import json
import logging
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_communicator_panda.retry import AttemptFailed
from pilot_communicator_panda_legacy import LegacySettings, answers, encode, pilot_communicators

from pilot_core import (
    AuthError,
    BearerToken,
    CommunicationError,
    FileReport,
    HandledError,
    Job,
    JobRequest,
    JobUpdate,
    RequestRefused,
    WorkerNode,
    WorkerStatus,
)
from pilot_core.testing.scripted import Answer

ONCE = LegacySettings(retry_budget=0, acquire_retry_budget=0, info_retry_budget=0)
LOG = logging.getLogger("test.legacy")
ASK = JobRequest(queue="LAB_QUEUE", label="managed", node="wn1@host1")
RUNNING = JobUpdate(job_id=103, attempt=1, state="running")
STATUS = WorkerStatus(worker_id=17, harvester_id="lab_harvester", status="finished", site="LAB_QUEUE", node="wn1")


def recorded(exchange):
    return Answer(exchange["response"], status=int(exchange["status"]), fault="chunked")


def of(recordings, method):
    found = [e for e in recordings.values() if e["request"][0].split()[1] == f"/server/panda/{method}"]
    assert found
    return found


def expected_error(exchange):
    """Return the class of error that a recorded answer stands for, or None."""
    text = exchange["response"]
    if any(phrase in text for phrase in ("StatusCode=60", '"StatusCode": 60', "Token auth", "retrieve DN")):
        return AuthError
    if any(phrase in text for phrase in ("required positional", "unexpected keyword", "invalid literal", "Invalid ")):
        return RequestRefused
    if text == '{"StatusCode": 0}' and "updateJob" in exchange["request"][0]:
        return RequestRefused
    return CommunicationError if '"StatusCode": 30' in text else None


def check(exchange, call):
    """Make a call whose answer is recorded; return what it returned, or None after the right error."""
    error = expected_error(exchange)
    if error is None:
        return call()
    with pytest.raises(HandledError) as caught:
        call()
    assert type(caught.value) is error, exchange["id"]
    assert "\n" not in str(caught.value)
    return None


def test_every_recorded_answer_to_get_job(recordings, serve, client, limits):
    exchanges = of(recordings, "getJob")
    ours = client(serve(*(recorded(exchange) for exchange in exchanges)), ONCE)
    found = {}
    for exchange in exchanges:
        jobs = check(exchange, lambda: ours.acquire(ASK, **limits()))
        if jobs:
            found[exchange["id"]] = jobs[0]
            assert isinstance(jobs[0], Job)
        elif jobs is not None:
            assert "20" in exchange["response"]
    assert {name: job.id for name, job in found.items()} == {"legacy-020": 103, "legacy-029": 104}
    # urlencoded: the same job, its blanks, quotes and non-ASCII as they were
    assert found["legacy-020"].parameters == "-i \"a b\" --x='1;2' & | + = % \u00e9\u4e2d \\ \n second line"
    assert [file.size for file in found["legacy-020"].inputs] == [1001, 1002, 1003]
    assert [file.lfn for file in found["legacy-029"].files_out] == ["o.00104.txt", "log.00104.tgz"]


def test_every_recorded_answer_to_update_job(recordings, serve, client, limits):
    exchanges = of(recordings, "updateJob")
    ours = client(serve(*(recorded(exchange) for exchange in exchanges)), ONCE)
    seen = set()
    for exchange in exchanges:
        answer = check(exchange, lambda: ours.update(RUNNING, **limits()))
        if answer is not None:
            assert all(command in exchange["response"] for command in answer.commands)
            assert bool(answer.commands) == ("NULL" not in exchange["response"]), exchange["id"]
            seen.update(answer.commands)
    assert seen == {"tobekilled", "alreadydone"}


def test_every_recorded_answer_about_workers(recordings, serve, client, limits):
    exchanges = of(recordings, "updateWorkerPilotStatus")
    ours = client(serve(*(recorded(exchange) for exchange in exchanges)), ONCE)
    for exchange in exchanges:
        check(exchange, lambda: ours.worker_status(STATUS, **limits()))


def test_the_recorded_answer_to_get_status(recordings, serve, client, limits):
    server = serve(recorded(recordings["legacy-027"]))
    found = client(server).job_status([103, 999999], **limits())
    assert [(s.job_id, s.status, s.attempt) for s in found] == [(103, "finished", 1), (999999, "not found", None)]
    sent = parse_qs(recordings["legacy-027"]["body"])
    assert server.requests[0].json() == {"ids": sent["ids"][0]}


def test_a_status_in_json(serve, client, limits):
    server = serve(Answer({"StatusCode": 0, "status": "running", "attemptNr": "2"}))
    assert [s.attempt for s in client(server).job_status([5], **limits())] == [2]


def test_a_status_that_does_not_fit_is_asked_for_again(serve, client, limits):
    good = Answer({"StatusCode": 0, "status": "running+failed", "attemptNr": "2+1"})
    server = serve(Answer({"StatusCode": 0, "status": "running", "attemptNr": "2"}), good)
    assert [s.status for s in client(server).job_status([5, 6], **limits())] == ["running", "failed"]


def test_is_alive(recordings, serve, client, limits):
    ours = client(serve(recorded(recordings["legacy-000"]), Answer("alive=no")))
    assert ours.is_alive(**limits()) is True
    assert ours.is_alive(**limits()) is False


def test_the_machine_is_not_sent(serve, client, limits):
    server = serve(Answer("x", status=500))
    client(server).worker_node(WorkerNode(site="S", queue="Q", host_name="h", cpu_model="m"), **limits())
    assert server.requests == []


def test_requests_are_compressed_json_as_pilot_3_sends_them(serve, client, limits):
    server = serve(Answer({"StatusCode": 20}))
    client(server).acquire(ASK, **limits())
    (request,) = server.requests
    assert request.method == "POST"
    assert request.path == "/server/panda/getJob"
    assert request.body.startswith(b"\x1f\x8b")
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"
    assert "content-encoding" not in request.headers
    assert request.json() == {"siteName": "LAB_QUEUE", "prodSourceLabel": "managed", "node": "wn1@host1"}


def recorded_fields(recordings, method):
    forms = [parse_qs(e["body"], keep_blank_values=True) for e in of(recordings, method) if "=" in e["body"]]
    return {name for form in forms for name in form} - {"foo"}


def test_names_are_those_that_the_recorded_server_took(recordings):
    update = JobUpdate(
        job_id=103,
        attempt=1,
        state="finished",
        queue="Q",
        node="n",
        payload_exit_code=0,
        payload_error_code=0,
        payload_error="x",
        pilot_error_code=0,
        pilot_error="x",
        end_time=1.0,
        timing=(1, 2, 3),
        events=10,
        metadata={"a": 1},
        cpu_seconds=1,
        files=(FileReport(lfn="a", guid="g", size=1, checksum="adler32:00000001"),),
    )
    ours = encode.encode_update(update, LOG)
    # two that Pilot 3 sends and that only say what the server knows already
    assert set(ours) == recorded_fields(recordings, "updateJob") - {"timestamp", "token"}
    assert json.loads(ours["xml"]) == {"a": {"guid": "g", "fsize": 1, "adler32": "00000001"}}
    request = JobRequest(queue="Q", label="l", node="n", memory_mb=1, disk_mb=1, computing_element="c")
    assert set(encode.encode_request(request, LOG)) == recorded_fields(recordings, "getJob") - {"cpu"}
    assert set(encode.encode_status(STATUS, LOG)) == recorded_fields(recordings, "updateWorkerPilotStatus")


def test_several_jobs_are_asked_for_by_number_only(serve, client, limits):
    job = {"PandaID": 1, "transformation": "x", "StatusCode": 0}
    server = serve(
        Answer({"StatusCode": 0, "jobs": [job, {**job, "PandaID": 2}]}),
        Answer({"StatusCode": 0, "jobs": json.dumps([job])}),
    )
    ours = client(server)
    several = JobRequest(queue="Q", jobs=2)
    assert [made.id for made in ours.acquire(several, **limits())] == [1, 2]
    assert [made.id for made in ours.acquire(several, **limits())] == [1]
    assert server.requests[0].json()["nJobs"] == 2


@pytest.mark.parametrize(
    "broken",
    [
        Answer(fault="close"),
        Answer("StatusCode=30"),
        Answer('{"StatusCode": 30}'),
        Answer('{"StatusCode": 10, "errorDialog": "timeout"}'),
        Answer(""),
        Answer("<html>"),
        Answer("[1]"),
        Answer("{broken"),
        Answer("some words"),
        Answer("StatusCode=x"),
        Answer("{}"),
        Answer("bang", status=500),
    ],
    ids=lambda answer: f"{answer.status}-{answer.fault}-{answer.body!r:.30}",
)
def test_an_update_is_repeated_and_a_request_for_jobs_is_not(serve, client, limits, broken):
    server = serve(broken, Answer("StatusCode=0&command=NULL"))
    assert client(server).update(RUNNING, **limits()).commands == ()
    assert len(server.requests) == 2
    server = serve(broken, Answer("StatusCode=20"))
    with pytest.raises(CommunicationError, match="may have been given to this pilot"):
        client(server).acquire(ASK, **limits())
    assert len(server.requests) == 1


def test_a_server_without_the_form_api_is_told(serve, client, limits):
    server = serve(Answer("ERROR : method getJob is forbidden", status=403))
    with pytest.raises(RequestRefused, match=r"try the communicator panda \(a PanDA server from 1\.0 on\?\)"):
        client(server).acquire(ASK, **limits())


def test_a_token_is_read_again_once(serve, client, limits):
    class Source:
        values = iter(["old", "new", "new"])

        def credential(self, *, cancel, deadline):
            return BearerToken(value=next(self.values), origin="a.b")

        def secrets(self):
            return ()

    server = serve(Answer("ERROR : Token authentication failed. x", status=403), Answer("StatusCode=20"))
    assert client(server, credential=Source()).acquire(ASK, **limits()) == []
    assert [r.headers["authorization"] for r in server.requests] == ["Bearer old", "Bearer new"]


def test_secrets_of_the_pilot_come_with_the_answer(serve, client, limits):
    server = serve(Answer({"StatusCode": 0, "command": "debug", "pilotSecrets": '{"K": "V"}'}))
    answer = client(server).update(RUNNING, **limits())
    assert answer.pilot_secrets == {"K": "V"}
    assert answer.commands == ("debug",)


VALUE = st.none() | st.integers() | st.text(max_size=6) | st.lists(st.integers(), max_size=2)
NAME = st.sampled_from(["StatusCode", "jobs", "status", "attemptNr", "command", "errorDialog"])


@given(st.dictionaries(NAME, VALUE))
def test_any_object_is_an_answer_or_a_handled_error(answer):
    refused = answers.refusal(answer, "getJob", "host:1", str)
    assert refused is None or "\n" not in str(refused).split(":")[0]
    for read in (answers.job_entries, answers.update_answer, lambda value: answers.job_statuses(value, [1, 2])):
        try:
            read(answer)
        except (AttemptFailed, RequestRefused):
            continue


def test_it_is_offered_under_its_name():
    (provider,) = pilot_communicators()
    assert provider.name == "panda-legacy"
    assert provider.settings is LegacySettings
