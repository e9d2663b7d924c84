"""Recorded answers of a real server mean what they mean; the client's requests are like the recorded ones."""

import json

import pytest
from pilot_communicator_panda.settings import PandaSettings

from pilot_core import (
    AuthError,
    CommunicationError,
    FileReport,
    Job,
    JobRequest,
    JobUpdate,
    RequestRefused,
    WorkerNode,
    WorkerStatus,
)
from pilot_core.testing.scripted import Answer

ONCE = PandaSettings(retry_budget=0, acquire_retry_budget=0, info_retry_budget=0)


def recorded(exchange):
    """Return a recorded response as a scripted answer."""
    headers = dict(line.split(": ", 1) for line in exchange["response_headers"][1:] if ": " in line)
    wanted = {name: value for name, value in headers.items() if name in {"Content-Type", "Server"}}
    return Answer(exchange["response"], status=int(exchange["status"]), headers=wanted, fault="chunked")


def of(recordings, method):
    """Return the recorded exchanges of one API method, by their own way of asking (POST for what is posted)."""
    found = [e for e in recordings.values() if f"/{method}" in e["request"][0] and e["status"] != "-"]
    assert found
    return found


def expected_error(exchange):
    """Return the class of error that a recorded answer to acquire_jobs stands for, or None."""
    text = exchange["response"]
    if '"success": true' in text or ('"success"' in text and "No jobs in PanDA" in text):
        return None
    if any(phrase in text for phrase in ("SSL secure", "role in VOMS", "Token authentication failed")):
        return AuthError
    ours = ("Argument error", "Type error", "expecting POST", "received invalid JSON", "is forbidden")
    return RequestRefused if any(phrase in text for phrase in ours) or text.startswith("<") else CommunicationError


def test_every_recorded_answer_to_acquire_jobs(recordings, serve, client, limits):
    exchanges = of(recordings, "acquire_jobs")
    server = serve(*(recorded(exchange) for exchange in exchanges))
    ours = client(server, ONCE)
    for exchange in exchanges:
        error = expected_error(exchange)
        if error is None:
            data = json.loads(exchange["response"])["data"] or {}
            jobs = ours.acquire(JobRequest(queue="Q"), **limits())
            assert [job.id for job in jobs] == [entry["PandaID"] for entry in data.get("jobs", [])], exchange["id"]
            assert all(isinstance(job, Job) for job in jobs), exchange["id"]
        else:
            with pytest.raises((CommunicationError, AuthError)) as caught:
                ours.acquire(JobRequest(queue="Q"), **limits())
            assert type(caught.value) is error, exchange["id"]
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("exchange", "error", "text"),
    [
        ("api1-004", AuthError, "saw neither a certificate nor a token: give --cert or --token-file"),
        ("api1-006", AuthError, "use a proxy with the VOMS role production"),
        ("api1-009", RequestRefused, "does not understand our acquire_jobs: Argument error: missing"),
        ("api1-012", RequestRefused, "Type error: 'memory' must be of type int, got str"),
        ("api1-022", RequestRefused, "received invalid JSON"),
        ("api1-016", CommunicationError, "Python instead of JSON"),
        ("api1-021", CommunicationError, "failed with HTTP 500"),
        ("api1-025", RequestRefused, "try the communicator panda-legacy"),
        ("api1-034", AuthError, "Token authentication failed"),
        ("api1-038", AuthError, "Signature has expired"),
        ("api1-041", AuthError, "saw neither"),
        ("api2-068", RequestRefused, "HTTP 411"),
        ("api2-070", RequestRefused, "HTTP 403.*an HTML page"),
    ],
)
def test_a_refusal_says_what_to_do(recordings, serve, client, limits, exchange, error, text):
    server = serve(recorded(recordings[exchange]))
    with pytest.raises(error, match=text) as caught:
        client(server, ONCE).acquire(JobRequest(queue="Q"), **limits())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_every_recorded_answer_to_update_job(recordings, serve, client, limits):
    exchanges = of(recordings, "pilot/update_job ")
    server = serve(*(recorded(exchange) for exchange in exchanges))
    ours = client(server, ONCE)
    seen = set()
    for exchange in exchanges:
        said = json.loads(exchange["response"])
        data = said["data"] or {}
        update = JobUpdate(job_id=1, attempt=1, state="running")
        if said["success"] and data["StatusCode"] == 0:
            answer = ours.update(update, **limits())
            commands = data["command"].replace("NULL", "")
            assert ",".join(answer.commands) == commands, exchange["id"]
            assert answer.kill == ("tobekilled" in commands)
            assert answer.already_done == (commands == "alreadydone")
            assert answer.pilot_secrets == json.loads(data.get("pilotSecrets", "{}"))
            seen.add(commands)
        elif "role" in said["message"] or "SSL" in said["message"]:
            with pytest.raises(AuthError):
                ours.update(update, **limits())
        else:
            with pytest.raises(CommunicationError) as caught:
                ours.update(update, **limits())
            assert isinstance(caught.value, RequestRefused) == (not said["success"]), exchange["id"]
    assert seen >= {"", "debug", "debug,tobekilled", "tobekilled", "alreadydone"}


@pytest.mark.parametrize("command", ["api1-048", "api1-050"])
def test_a_job_that_the_server_has_closed_before_acknowledges_a_final_update(
    recordings, serve, client, limits, command
):
    server = serve(recorded(recordings[command]))
    client(server).update(JobUpdate(job_id=86, attempt=1, state="finished"), **limits())
    assert len(server.requests) == 1


def test_every_recorded_answer_to_get_job_status(recordings, serve, client, limits):
    exchanges = [e for e in of(recordings, "get_job_status") if e["response"].startswith('{"')]
    server = serve(*(recorded(exchange) for exchange in exchanges))
    ours = client(server)
    for exchange in exchanges:
        expected = [
            (e["job_id"], e["status"], e["attempt_number"] if e["attempt_number"] not in {0, "NULL"} else None)
            for e in json.loads(exchange["response"])["data"]
        ]
        found = ours.job_status([86, 999999], **limits())
        assert [(s.job_id, s.status, s.attempt) for s in found] == expected
    assert server.requests[0].path == "/api/v1/pilot/get_job_status?job_ids=86&job_ids=999999"


def test_many_jobs_are_asked_for_in_several_requests(serve, client, limits):
    def some(start, count):
        data = [{"job_id": n, "status": "running", "attempt_number": 1} for n in range(start, start + count)]
        return Answer({"success": True, "message": "", "data": data})

    server = serve(some(1, 100), some(101, 20))
    found = client(server).job_status(range(1, 121), **limits())
    assert [status.job_id for status in found] == list(range(1, 121))


def test_every_recorded_answer_about_workers(recordings, serve, client, limits):
    exchanges = of(recordings, "update_worker_status") + of(recordings, "update_worker_node")
    server = serve(*(recorded(exchange) for exchange in exchanges))
    ours = client(server, ONCE)
    for exchange in exchanges:
        said = json.loads(exchange["response"])

        def call(exchange=exchange):
            if "worker_node" in exchange["request"][0]:
                ours.worker_node(WorkerNode(site="S", queue="Q", host_name="h", cpu_model="m"), **limits())
            else:
                ours.worker_status(WorkerStatus(worker_id=17, harvester_id="h", status="started"), **limits())

        if said["success"]:
            call()
        else:
            with pytest.raises(CommunicationError) as caught:
                call()
            database = said["message"].startswith("Failed")
            assert isinstance(caught.value, RequestRefused) == (not database), exchange["id"]


def test_is_alive(recordings, serve, client, limits):
    server = serve(recorded(recordings["api1-001"]), Answer({"success": False, "message": "", "data": None}))
    ours = client(server)
    assert ours.is_alive(**limits()) is True
    assert ours.is_alive(**limits()) is False
    assert server.requests[0].path == "/api/v1/system/is_alive"


OK = Answer({"success": True, "message": "", "data": {"StatusCode": 0, "command": "NULL"}})
NO_JOB = Answer({"success": False, "message": "No jobs in PanDA", "data": None})


def test_the_request_for_jobs_is_the_recorded_one(recordings, serve, client, limits):
    server = serve(NO_JOB)
    request = JobRequest(
        queue="LAB_QUEUE",
        label="managed",
        node="wn1@host1",
        jobs=1,
        memory_mb=20000,
        disk_mb=20000,
        remaining_seconds=100000,
        computing_element="LAB_QUEUE",
        task_id=4711,
        resource_type="MCORE",
        harvester_id="lab_harvester",
        worker_id=17,
        scheduler_id="lab_sched",
        job_type="managed",
        user="somebody",
    )
    client(server).acquire(request, **limits())
    theirs = json.loads(recordings["api2-021"]["body"])
    ours = server.requests[0].json()
    assert {name: type(value) for name, value in ours.items() if name in theirs} == {
        name: type(value) for name, value in theirs.items() if name in ours
    }
    same = ("site_name", "prod_source_label", "node", "memory", "disk_space", "remaining_time", "task_id", "worker_id")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert server.requests[0].method == "POST"
    assert server.requests[0].path == "/api/v1/pilot/acquire_jobs"


def test_the_final_update_is_the_recorded_one(recordings, serve, client, limits):
    server = serve(OK)
    update = JobUpdate(
        job_id=86,
        attempt=1,
        state="finished",
        node="wn1@host1",
        payload_exit_code=0,
        payload_error_code=0,
        pilot_error_code=0,
        end_time=1795355700.7,
        timing=(1, 2, 3, 4, 5),
        files=(
            FileReport(
                lfn="out.00086.txt", guid="11111111-2222-3333-4444-555555555555", size=12, checksum="adler32:1c49043e"
            ),
            FileReport(
                lfn="log.00086.tgz", guid="1a044862-cbf7-46e0-afa9-2066ce132e14", size=345, checksum="adler32:0a0b0c0d"
            ),
        ),
        metadata={"executor": {}},
        cpu_seconds=33,
    )
    client(server).update(update, **limits())
    theirs = json.loads(recordings["api1-047"]["body"])
    ours = server.requests[0].json()
    assert json.loads(ours.pop("job_output_report")) == json.loads(theirs.pop("job_output_report"))
    # empty texts are the server's defaults; cpu_conversion_factor is not something this pilot knows
    for name in ("pilot_error_diag", "exe_error_diag", "cpu_conversion_factor"):
        theirs.pop(name)
    assert ours == theirs


def test_the_description_of_the_machine_is_the_recorded_one(recordings, serve, client, limits):
    server = serve(Answer({"success": True, "message": "Inserted new worker node.", "data": None}))
    node = WorkerNode(
        site="LAB",
        queue="LAB_QUEUE",
        host_name="slot1@wn1.lab",
        cpu_model="AMD EPYC 7351 16-Core Processor s1",
        logical_cpus=32,
        sockets=2,
        cores_per_socket=8,
        threads_per_core=2,
        cpu_architecture="x86_64",
        cpu_architecture_level="x86_64-v3",
        clock_mhz=2400,
        memory_mb=128000,
        disk_gb=100,
    )
    client(server).worker_node(node, **limits())
    assert server.requests[0].body.decode() == recordings["api2-062"]["body"]


def test_the_status_of_the_worker_has_no_site(recordings, serve, client, limits):
    server = serve(Answer({"success": True, "message": "", "data": None}))
    status = WorkerStatus(worker_id=17, harvester_id="lab_harvester", status="finished", site="S", node="wn1")
    client(server).worker_status(status, **limits())
    assert server.requests[0].json() == json.loads(recordings["api2-056"]["body"])


def test_headers_are_exactly_what_the_server_needs(serve, client, limits):
    server = serve(NO_JOB)
    ours = client(server)
    ours.acquire(JobRequest(queue="Q"), **limits())
    ours.job_status([], **limits())
    headers = server.requests[0].headers
    assert headers == {
        "host": f"localhost:{server.port}",
        "user-agent": "pilot-core/0 (test)",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "accept": "application/json",
        "content-length": str(len(server.requests[0].body)),
    }


def test_only_large_bodies_are_compressed(serve, client, limits):
    server = serve(OK)
    ours = client(server)
    ours.update(JobUpdate(job_id=1, attempt=1, state="running"), **limits())
    ours.update(JobUpdate(job_id=1, attempt=1, state="running", stdout="x" * 2000), **limits())
    small, large = server.requests
    assert "content-encoding" not in small.headers
    assert large.headers["content-encoding"] == "gzip"
    assert large.headers["content-length"] == str(len(large.body))
    assert len(large.body) < 200
    assert large.json()["stdout"] == "x" * 2000


def test_compression_can_be_switched_off(serve, client, limits):
    server = serve(OK)
    ours = client(server, PandaSettings(gzip_above=-1))
    ours.update(JobUpdate(job_id=1, attempt=1, state="running", stdout="x" * 2000), **limits())
    assert "content-encoding" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("NULL", ()),
        (None, ()),
        ("", ()),
        ("tobekilled", ("tobekilled",)),
        ("debug,tail payload.stdout", ("debug", "tail payload.stdout")),
        (" debug , ,NULL", ("debug",)),
        (7, ()),
    ],
)
def test_commands_are_a_text_with_commas_or_nothing(serve, client, limits, command, expected):
    server = serve(Answer({"success": True, "message": "", "data": {"StatusCode": 0, "command": command}}))
    assert client(server).update(JobUpdate(job_id=1, attempt=1, state="running"), **limits()).commands == expected


@pytest.mark.parametrize("secrets", ["{", [], "[]", 5, "null", None])
def test_pilot_secrets_that_are_no_object_are_none(serve, client, limits, secrets):
    server = serve(Answer({"success": True, "data": {"StatusCode": 0, "pilotSecrets": secrets}}))
    assert client(server).update(JobUpdate(job_id=1, attempt=1, state="running"), **limits()).pilot_secrets == {}


def test_pilot_secrets_may_be_an_object(serve, client, limits):
    server = serve(Answer({"success": True, "data": {"StatusCode": 0, "pilotSecrets": {"a": "b", "c": [1]}}}))
    answer = client(server).update(JobUpdate(job_id=1, attempt=1, state="running"), **limits())
    assert answer.pilot_secrets == {"a": "b", "c": "[1]"}


def test_the_settings_are_those_of_the_provider(serve):
    from pilot_communicator_panda import pilot_communicators

    (provider,) = pilot_communicators()
    assert provider.name == "panda"
    assert provider.settings is PandaSettings
