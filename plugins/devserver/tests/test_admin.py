"""The server's own interface, and its client, over real sockets."""

import threading

import pytest
from pilot_devserver.client import AdminClient, running_server
from pilot_devserver.statedir import StateDir
from pilot_devserver.store_jobs import JobSpec

from pilot_core import BadInput, CommunicationError, RequestRefused, SystemClock


@pytest.fixture
def admin(server):
    return running_server(server.state)


def test_only_the_admins_certificate_is_let_in(server, connect):
    for certificate in (None, server.pilot_certificate, server.user_certificate):
        response, _ = connect(certificate).ask("GET", "/devserver/v1/jobs")
        assert response.status == 403
    response, _ = connect(url=server.plain_url).ask("GET", "/devserver/v1/jobs")
    assert response.status == 403
    assert connect(server.admin_certificate).ask("GET", "/devserver/v1/jobs")[0].status == 200


def test_jobs_are_submitted_shown_and_killed(server, admin):
    files = [{"lfn": "a", "size": 1, "checksum": "ad:00000001"}, {"lfn": "log", "kind": "log"}]
    [job] = admin.post("jobs", {"jobs": [{"queue": "Q1", "transformation": "x", "name": "me", "files": files}]})["ids"]
    assert [(item["id"], item["name"], item["status"]) for item in admin.get("jobs")["jobs"]] == [
        (job, "me", "activated")
    ]
    assert admin.get(f"jobs/{job}")["job"]["description"]["inFiles"] == "a"
    assert admin.post(f"jobs/{job}/command", {"command": "softkill"}) == {"done": True, "text": "command received"}
    assert admin.post(f"jobs/{job}/debug")["done"]
    assert admin.post(f"jobs/{job}/kill")["done"]
    assert not admin.post(f"jobs/{job}/kill")["done"]
    assert server.store.get(job).status == "cancelled"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("jobs", {"jobs": 3}, "must have a list 'jobs'"),
        ("jobs", {"jobs": [3]}, "each job must be an object"),
        ("jobs", {"jobs": [{}]}, "a job's description: .*queue"),
        ("jobs", {"jobs": [{"queue": "Q1", "nope": 1}]}, "unexpected keyword argument 'nope'"),
        ("jobs/77/kill", {}, "there is no job 77"),
        ("nope", {}, "there is no POST nope"),
    ],
)
def test_what_cannot_be_done_is_said(admin, path, body, message):
    with pytest.raises((RequestRefused, BadInput), match=message):
        admin.post(path, body)


def test_a_stream_tells_every_job_and_then_every_change(server, admin):
    [first] = server.store.submit([JobSpec(queue="Q1", transformation="x", name="first")])
    changes = admin.changes()
    assert next(changes)["id"] == first
    assert next(changes) == {"listed": True}
    [second] = server.store.submit([JobSpec(queue="Q1", transformation="x")])
    assert next(changes)["id"] == second
    server.store.kill(first)
    killed = next(changes)
    assert (killed["id"], killed["status"]) == (first, "cancelled")
    changes.close()


def test_a_stream_ends_with_its_server(state_dir):
    from pilot_devserver.devserver import DevServer

    seen = []
    with DevServer(state_dir) as server:
        changes = running_server(server.state).changes()
        seen.append(next(changes))
        reader = threading.Thread(target=lambda: seen.extend(changes))
        reader.start()
    reader.join()
    assert seen == [{"listed": True}]


def test_a_server_that_is_gone_is_told(server, tmp_path):
    with pytest.raises(CommunicationError, match="no server runs with the state directory"):
        running_server(StateDir(tmp_path / "other", SystemClock()))
    state = server.state
    gone = AdminClient("https://127.0.0.1:1", state.ca_file, state.admin_cert, state.admin_key)
    with pytest.raises(CommunicationError, match=r"https://127\.0\.0\.1:1 does not answer .*serve' still running"):
        gone.get("jobs")
    with pytest.raises(CommunicationError, match="does not answer"):
        next(gone.changes())
