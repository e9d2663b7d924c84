"""What the pages show and what their buttons do, over real sockets; everything a pilot or a user writes is text."""

import contextlib
import http.client
import json
import socket
import threading
from html.parser import HTMLParser

import pytest
from pilot_devserver.store_jobs import FileSpec, JobSpec

HOSTILE = "<script>alert('x')</script>\"'&\x00\u202e"


class Checked(HTMLParser):
    """Reads a page strictly: elements are closed in order, ids are unique."""

    EMPTY = frozenset({"meta", "link", "input", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.wrong, self.scripts = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id") in self.ids:
            self.wrong.append(f"id {values['id']} twice")
        self.ids |= {values["id"]} if values.get("id") else set()
        if tag == "script":
            self.scripts.append(values.get("src"))
        self.wrong += [f"{tag} {name}" for name in values if name.startswith("on") or name == "style"]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> out of order")


def check(text):
    parser = Checked()
    parser.feed(text)
    parser.close()
    assert parser.wrong == []
    assert parser.open == []
    assert parser.scripts == ["/static/page.js"]
    return text


@pytest.fixture
def job(server):
    log = FileSpec(lfn="log.tgz", kind="log")
    [job] = server.store.submit([JobSpec(queue="Q1", transformation="x", name="the name", files=(log,))])
    return job


def update(client, job, state, **values):
    return client.post("/api/v1/pilot/update_job", {"job_id": job, "job_status": state, "attempt_nr": 1, **values})


def test_an_empty_server_says_so(visitor):
    assert "There is no job yet" in check(visitor.get("/"))
    assert "No pilot has asked for anything yet" in check(visitor.get("/exchanges"))
    assert "The server behaves well" in check(visitor.get("/faults"))
    check(visitor.get("/submit"))


def test_hostile_names_are_text_on_every_page(server, visitor, pilot):
    spec = JobSpec(
        queue="Q1", transformation=HOSTILE, parameters=HOSTILE, name=HOSTILE.replace("\x00", ""), user=HOSTILE
    )
    [job] = server.store.submit([spec])
    pilot.acquire()
    update(
        pilot, job, "running", node="<b>node</b>", pilot_error_diag="<img src=x onerror=alert(1)>", job_metrics="</td>"
    )
    pilot.ask("GET", "/api/v1/pilot/%3Cscript%3E?<x>", headers={"X-Evil": "<script>"})
    for path in ("/", f"/jobs/{job}", "/exchanges", "/exchanges/1", "/exchanges/2", "/exchanges/3"):
        text = check(visitor.get(path))
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "\u202e" not in text


def test_jobs_are_filtered_by_state_and_queue(server, visitor):
    server.store.submit(
        [JobSpec(queue="Q1", transformation="x", name="one"), JobSpec(queue="Q2", transformation="x", name="two")]
    )
    server.store.kill(2)
    assert all(name in visitor.get("/") for name in ("one", "two"))
    assert ">one<" in visitor.get("/?queue=Q1")
    assert ">two<" not in visitor.get("/?queue=Q1")
    text = visitor.get("/?state=cancelled")
    assert ">one<" not in text
    assert ">two<" in text
    assert "No job matches" in visitor.get("/?state=running")


def test_a_jobs_page_has_its_timeline_files_and_exchanges(server, visitor, pilot, job):
    pilot.acquire()
    update(pilot, job, "running")
    server.store.set_command(job, "softkill")
    update(pilot, job, "running")
    report = json.dumps({"log.tgz": {"guid": "g", "fsize": 77, "adler32": "00000001"}})
    update(pilot, job, "finished", job_output_report=report)
    text = check(visitor.get(f"/jobs/{job}?whole=1"))
    for piece in (
        "the pilot is told softkill",
        "activated for",
        "sent for",
        "the pilot reports finished",
        "adler32:00000001",
    ):
        assert piece in text
    assert ">77<" in text
    assert 'href="/exchanges/1"' in text
    assert "The job is over" in text


def test_jobs_and_exchanges_that_are_not_there_are_404(visitor):
    for path in (
        "/jobs/1",
        "/exchanges/1",
        "/jobs/99999999999999999999",
        "/jobs/x",
        "/nothing",
        "/live/nothing",
        "/static/x",
    ):
        assert visitor.ask("GET", path)[0] == 404


def test_what_is_wrong_is_told_beside_the_field(visitor, pilot):
    report = json.dumps({"out.txt": {"fsize": 3}})
    values = {"jobid": 1, "job_status": "running", "attempt_nr": "2", "node": "n" * 200, "job_output_report": report}
    pilot.post("/api/v1/pilot/update_job", values)
    text = check(visitor.get("/exchanges/1"))
    assert "4 problems with this request" in text
    rows = {row.partition('"')[0]: row.partition("</tr>")[0] for row in text.split('<tr id="field-')[1:]}
    assert set(rows) == {"job_id", "jobid", "attempt_nr", "node"}
    assert "not sent" in rows["job_id"]
    assert "unknown argument" in rows["jobid"]
    assert "&quot;2&quot;" in rows["attempt_nr"]
    assert "must be int, not str" in rows["attempt_nr"]
    assert "the server keeps the first 128" in rows["node"]
    assert "JSON in a text" in text
    assert 'href="#field-job_id"' in text
    assert "4 problems" in check(visitor.get("/exchanges?wrong=1"))


def test_the_form_apis_exchanges_are_decoded_too(visitor, pilot):
    body = "jobId=1&state=running&xml=%7B%22a%22%3A%7B%22fsize%22%3A1%7D%7D&nope=1"
    pilot.ask("POST", "/server/panda/updateJob", body, {"Content-Type": "application/x-www-form-urlencoded"})
    text = check(visitor.get("/exchanges/1"))
    assert "fsize" in text
    assert "updateJob has no argument of this name" in text


def test_exchanges_are_filtered(visitor, pilot, job):
    pilot.acquire()
    update(pilot, job, "running")
    pilot.ask("GET", "/cache/ddmendpoints.json")
    assert visitor.get("/exchanges").count('id="exchange-') == 3
    assert visitor.get("/exchanges?endpoint=pilot/update_job").count('id="exchange-') == 1
    assert visitor.get(f"/exchanges?job={job}").count('id="exchange-') == 2
    assert visitor.get("/exchanges?wrong=1").count('id="exchange-') == 0
    assert "All exchanges are forgotten" in visitor.do("/exchanges/clear", back="/exchanges")
    assert visitor.get("/exchanges").count('id="exchange-') == 0


def test_no_page_shows_a_secret(server, visitor, connect):
    canary = "canary-of-this-test"
    server.store.set_secret("", "PILOT", canary)
    server.store.set_secret("Jane User", "USER", canary)
    server.store.set_credential("proxy", "x", canary)
    spec = JobSpec(queue="Q1", transformation="x", special="us", user="Jane User", parameters=f"--password {canary}")
    [job] = server.store.submit([spec])
    server.store.set_debug(job, True)
    token = server.token()
    client = connect()
    client.acquire(authorization=f"Bearer {token}", origin="wlcg.production")
    client.post(
        "/api/v1/pilot/update_job",
        {
            "job_id": job,
            "job_status": "running",
            "stdout": f"my token is {token}",
            "pilot_log": canary,
            "pilot_error_diag": canary,
        },
        authorization=f"Bearer {token}",
        origin="wlcg.production",
    )
    client.ask("POST", "/api/v1/pilot/update_job", f'{{"job_id": 1, "token": "{token}', {"Authorization": token})
    client.post(
        "/api/v1/creds/set_user_secrets", {"key": "K", "value": "another-secret"}, authorization=f"Bearer {token}"
    )
    client.ask("GET", f"/api/v1/creds/get_user_secrets?keys={canary}", headers={"Authorization": f"Bearer {token}"})
    client.ask("GET", f"/{token}?x={token}")
    for path in ("/", f"/jobs/{job}", "/exchanges", *(f"/exchanges/{number}" for number in range(1, 7))):
        text = visitor.get(path)
        for secret in (canary, token, token.rpartition(".")[2], "another-secret"):
            assert secret not in text, path
    assert "[hidden]" in visitor.get("/exchanges/1")


def test_a_huge_body_and_a_binary_one_make_pages_of_a_readable_size(visitor, pilot, job):
    pilot.acquire()
    update(pilot, job, "running", meta_data="x" * 3_000_000)
    pilot.ask(
        "POST", "/api/v1/pilot/update_job", bytes(range(256)) * 1000, {"Content-Type": "application/octet-stream"}
    )
    text = check(visitor.get("/exchanges/2"))
    assert len(text) < 300_000
    assert "only the first 262,144 of" in text
    assert "00 01 02 03" in check(visitor.get("/exchanges/3"))


def test_a_job_is_submitted_and_commanded_by_forms(server, visitor, tmp_path):
    (tmp_path / "in.txt").write_text("hello")
    page = visitor.do(
        "/submit",
        transformation="sort",
        parameters="-o out.txt in.txt",
        inputs=f"{tmp_path}/in.txt\r\n",
        outputs="out.txt",
        queue="Q2",
        label="user",
        name="mine",
        count="1",
        log="1",
    )
    assert "Job 1 is submitted" in page
    job = server.store.get(1)
    assert (job.queue, job.label, job.description["jobName"]) == ("Q2", "user", "mine")
    assert (job.description["inFiles"], job.description["fsize"]) == ("in.txt", "5")
    assert job.description["logFile"]
    assert (server.site.queues["Q2"].storage / "in.txt").read_text() == "hello"
    assert "will be told &#x27;softkill&#x27;" in visitor.do("/jobs/1/command", command="softkill", back="/jobs/1")
    assert server.store.get(1).command == "softkill"
    assert "Debug mode of job 1 is on" in visitor.do("/jobs/1/debug-on", back="/jobs/1")
    assert server.store.get(1).debug
    assert "Debug mode of job 1 is off" in visitor.do("/jobs/1/debug-off", back="/jobs/1")
    assert "is being killed" in visitor.do("/jobs/1/kill", back="/jobs/1")
    assert server.store.get(1).status == "cancelled"
    assert "has ended already" in visitor.do("/jobs/1/kill", back="/jobs/1")


def test_a_notice_is_shown_once(visitor):
    status, headers, _ = visitor.send("/faults/clear", back="/faults")
    assert status == 303
    assert "0 faults are removed" in visitor.get(headers["Location"])
    assert "0 faults are removed" not in visitor.get(headers["Location"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"transformation": " "}, "transformation: give a program"),
        ({"count": "many"}, "count: must be a whole number, not &#x27;many&#x27;"),
        ({"count": "0"}, "count: must be between 1 and 1000"),
        ({"count": "2", "outputs": "a"}, "several copies would write the same outputs"),
        ({"inputs": "relative.txt"}, "is not a whole path"),
        ({"inputs": "/nonexistent/<b>"}, "/nonexistent/&lt;b&gt;: cannot be read"),
        ({"queue": "Q9"}, "the server has no queue &#x27;Q9&#x27;"),
    ],
)
def test_a_form_that_cannot_be_is_shown_again_with_the_reason_and_what_was_written(server, visitor, values, message):
    given = {"transformation": "kept-by-the-form", "count": "1", "queue": "Q1", **values}
    status, _, text = visitor.send("/submit", **given)
    assert status == 422
    assert message in check(text)
    assert given["transformation"].strip() in text
    assert server.store.counts() == {}


def test_faults_are_added_listed_and_removed(server, visitor, pilot, job):
    assert "Fault 1 is in force" in visitor.do("/faults/add", quick="500", endpoint="acquire_jobs", back="/faults")
    assert pilot.acquire()[0] == 500
    pilot.close()
    text = check(visitor.get("/faults"))
    assert "1 fired" in text
    assert "1 of 1" in text
    row = check(visitor.get("/exchanges"))
    assert "status" in row.partition('class="badge fault"')[2]
    assert "Fault: " in check(visitor.get("/exchanges/1"))
    form = {"fault": "delay", "count": "3", "option-delay-seconds": "0.5", "option-hang-seconds": "7"}
    visitor.do("/faults/add", back="/faults", **form)
    assert server.faults.rules()[1].rule.to_json() == {"fault": "delay", "count": 3, "seconds": 0.5}
    assert "Fault 1 is removed" in visitor.do("/faults/remove", number="1", back="/faults")
    assert "no such fault" in visitor.do("/faults/remove", number="1", back="/faults")
    assert "1 faults are removed" in visitor.do("/faults/clear", back="/faults")
    assert server.faults.rules() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "choose a fault"),
        ({"fault": "dellay"}, "did you mean &#x27;delay&#x27;?"),
        ({"fault": "delay", "count": "-1"}, "fault.count"),
        ({"fault": "delay", "probability": "2"}, "fault.probability"),
        ({"fault": "delay", "option-delay-seconds": "soon"}, "fault.seconds"),
    ],
)
def test_a_fault_that_cannot_be_is_told_in_the_form(server, visitor, values, message):
    status, _, text = visitor.send("/faults/add", **values)
    assert status == 422
    assert message in check(text)
    assert server.faults.rules() == []


def test_every_kind_of_fault_can_be_added_by_its_form(server, visitor):
    from pilot_devserver.faults import KINDS

    for kind in KINDS:
        visitor.do("/faults/add", fault=kind, back="/submit")
    assert [fault.rule.kind.name for fault in server.faults.rules()] == list(KINDS)
    server.faults.clear()


def test_a_database_that_is_down_is_a_page(server, visitor):
    server.store.available = False
    status, _, text = visitor.ask("GET", "/")
    server.store.available = True
    assert status == 503
    assert "The database does not answer" in check(text)


@pytest.mark.parametrize("fault", ["down", "refuse", "hang", "certificate"])
def test_no_fault_locks_people_out(server, visitor, connect, fault):
    server.fault(fault, **({"seconds": 0} if fault == "down" else {}))
    client = connect(server.pilot_certificate)
    asking = threading.Thread(target=knock if fault == "refuse" else ask_and_fail, args=(client,))
    asking.start()
    server.faults.rules()[0].until_fired()
    assert "1 fired" in visitor.get("/faults")
    visitor.do("/faults/clear", back="/faults")
    if fault == "hang":
        client.connection.sock.shutdown(socket.SHUT_RDWR)
    asking.join()


def ask_and_fail(client):
    with contextlib.suppress(OSError, http.client.HTTPException):
        client.acquire()


def knock(client):
    """Connect without TLS, whose sockets nobody closes if the handshake fails."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", client.connection.port)) as connection:
        connection.recv(1)
