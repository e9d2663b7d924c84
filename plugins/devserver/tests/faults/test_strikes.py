"""Each fault on real TLS sockets: what the client sees, and what the server has done."""

import email.utils
import http.client
import json
import socket
import ssl
import threading
from contextlib import closing

import pytest
from pilot_devserver.faults import KINDS
from pilot_devserver.faults.injector import Injector
from pilot_devserver.faults.kinds import Place

from pilot_core.testing.clock import FakeClock, SteppedClock

ALIVE = {"success": True, "message": "", "data": None}
UPDATE = "/api/v1/pilot/update_job"
JSON = {"Content-Type": "application/json", "Accept": "application/json"}
LOST = (OSError, http.client.HTTPException)
"""What a client sees of a connection that ends under its hands: a reset, or the end of TLS."""


def update(pilot, job, state="running"):
    return pilot.post(UPDATE, {"job_id": job, "job_status": state})


def alive(client):
    response, body = client.ask("GET", "/api/v1/system/is_alive", headers=JSON)
    return response, json.loads(body)


def test_every_fault_of_an_answer_is_done_by_somebody():
    for kind in KINDS.values():
        if kind.place is Place.ANSWER:
            assert hasattr(Injector, f"_{kind.name.replace('-', '_')}"), kind.name


# -- connections -----------------------------------------------------------------------------------------------------


def is_refused(server):
    """Say whether a connection is reset at once; no TLS here, whose library leaks a socket that is reset so early."""
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with socket.create_connection(address) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    return True


def test_a_refused_connection_is_reset_before_tls(server, connect):
    fault = server.fault("refuse", count=2)
    assert is_refused(server)
    assert is_refused(server)
    assert alive(connect())[1] == ALIVE
    assert (fault.fired, fault.seen, fault.spent) == (2, 3, True)


def test_connections_that_are_there_already_are_not_refused(server, connect):
    client = connect()
    alive(client)
    server.fault("refuse", count=0)
    assert alive(client)[1] == ALIVE
    assert is_refused(server)


def test_while_a_server_is_down_nothing_listens_and_then_it_is_back_at_the_same_port(serve_with, connect_to):
    clock = SteppedClock()
    server = serve_with(clock=clock)
    first, second = connect_to(server), connect_to(server)
    alive(first), alive(second)
    fault = server.fault("down", seconds=5)
    with pytest.raises(LOST):
        alive(first)
    with pytest.raises(LOST):
        alive(second)
    with pytest.raises(ConnectionRefusedError):
        connect_to(server)
    assert fault.fired == 1
    clock.until_waiting(2)  # the store's own work, and the end of the fault
    change = server.faults.next_change()
    clock.advance(5)
    back = eventually_connected(server, connect_to)
    assert alive(back)[1] == ALIVE
    assert not change.is_set()


def eventually_connected(server, connect_to):
    """Connect as soon as the server listens: nothing tells of that but a connection that is taken."""
    while True:
        try:
            return connect_to(server)
        except ConnectionRefusedError:
            continue


def test_a_server_that_is_down_for_ever_comes_back_when_the_fault_is_removed(server, connect_to, admin):
    fault = server.fault("down", seconds=0)
    with pytest.raises(LOST):
        alive(connect_to(server))
    with pytest.raises(ConnectionRefusedError):
        connect_to(server)
    [shown] = admin.get("faults")["faults"]
    assert shown["fired"] == 1
    fault.remove()
    assert alive(eventually_connected(server, connect_to))[1] == ALIVE


def test_a_server_can_end_while_it_is_down(state_dir, connect_to):
    from pilot_devserver.devserver import DevServer

    with DevServer(state_dir) as server:
        server.fault("down", seconds=0)
        with pytest.raises(LOST):
            alive(connect_to(server))


# -- resets and lost replies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "status"), [("reset-before", "sent"), ("reset-after", "running")])
def test_a_request_before_a_reset_is_carried_out_or_not(server, raw, pilot, one_job, fault, status):
    job = one_job(server)
    pilot.acquire()
    struck = server.fault(fault, endpoint="update_job", job=job)
    body = json.dumps({"job_id": job, "job_status": "running"}).encode()
    head = f"POST {UPDATE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    assert raw(server, head.encode() + body, server.pilot_certificate) == (b"", "reset")
    assert server.store.get(job).status == status
    assert struck.fired == 1
    assert update(pilot, job)["success"]


def test_a_lost_answer_to_a_request_for_jobs_leaves_the_job_with_nobody(server, pilot, connect, one_job):
    job = one_job(server)
    server.fault("reset-after", endpoint="acquire_jobs")
    with pytest.raises(LOST):
        pilot.acquire()
    assert server.store.get(job).status == "sent"
    assert connect(server.pilot_certificate).acquire()["message"] == "No jobs in PanDA"


# -- time ------------------------------------------------------------------------------------------------------------


def test_a_late_answer_comes_when_its_time_has_come_by_the_servers_clock(serve_with, connect_to, one_job):
    clock = SteppedClock()
    server = serve_with(clock=clock)
    job = one_job(server)
    pilot = connect_to(server, server.pilot_certificate)
    fault = server.fault("delay", seconds=7200, endpoint="acquire_jobs")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(pilot.acquire()))
    thread.start()
    fault.until_fired()
    clock.until_waiting(2)
    assert server.store.get(job).status == "sent", "carried out at once"
    assert not answers
    clock.advance(7200)
    thread.join()
    assert answers[0]["data"]["jobs"][0]["PandaID"] == job


def test_a_hanging_request_ends_with_its_client_and_with_the_server(state_dir, connect_to):
    from pilot_devserver.devserver import DevServer

    with DevServer(state_dir) as server:
        fault = server.fault("hang", count=0)
        client = connect_to(server)
        client.connection.request("GET", "/api/v1/system/is_alive")
        fault.until_fired()
        client.close()
        other = connect_to(server)
        other.connection.request("GET", "/api/v1/system/is_alive")
        fault.until_fired(2)
    with pytest.raises(LOST):
        other.connection.getresponse()


def test_the_server_hangs_up_on_a_hanging_request_after_its_time(serve_with, raw):
    server = serve_with(clock=FakeClock())
    fault = server.fault("hang", seconds=3600)
    assert raw(server) == (b"", "end")
    assert fault.fired == 1


@pytest.mark.parametrize(("processed", "status"), [(True, "sent"), (False, "activated")])
def test_a_hanging_request_may_have_been_carried_out(server, pilot, one_job, processed, status):
    job = one_job(server)
    fault = server.fault("hang", processed=processed)
    pilot.connection.request("POST", "/api/v1/pilot/acquire_jobs", '{"site_name": "Q1"}', JSON)
    fault.until_fired()
    if processed:
        change = server.store.next_change()
        if server.store.get(job).status == "activated":
            server.clock.wait(change, until=server.clock.monotonic() + 30)
    assert server.store.get(job).status == status


def test_an_answer_drips_at_its_rate(serve_with, connect_to):
    clock = FakeClock()
    server = serve_with(clock=clock)
    begun = clock.monotonic()
    server.fault("drip", rate=20)
    response, body = alive(connect_to(server))
    assert body == ALIVE
    head = sum(len(name) + len(text) + 4 for name, text in response.getheaders()) + len("HTTP/1.1 200 OK\r\n\r\n")
    assert clock.monotonic() - begun >= (head + 50) / 20 * 0.9


# -- spoiled bytes ---------------------------------------------------------------------------------------------------


def test_half_of_the_body_comes(server, connect):
    server.fault("truncate")
    client = connect()
    client.connection.request("GET", "/api/v1/system/is_alive", headers=JSON)
    with closing(client.connection.getresponse()) as response, pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    whole = json.dumps(ALIVE).encode()
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert caught.value.partial in (b"", whole[: len(whole) // 2])


def test_half_of_the_body_comes_of_what_has_a_length(server, raw):
    server.fault("truncate", endpoint="/cache/*")
    received, end = raw(server, b"GET /cache/schedconfig/Q1.all.json HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    [length] = [int(line.split()[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
    assert (len(body), end) == (length // 2, "end")


@pytest.mark.parametrize(("wrong", "says"), [(16, 16), (-10, -10), (-1000, None)])
def test_a_wrong_content_length(server, raw, wrong, says):
    server.fault("content-length", bytes=wrong)
    received, end = raw(server)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert body == b"{'success': True, 'message': '', 'data': None}"
    assert length == (len(body) + says if says is not None else 0)
    assert end == "end"
    assert b"chunked" not in head


def test_garbage_is_no_http_and_the_same_again_with_the_same_seed(state_dir, serve_with, raw):
    received = []
    for _ in range(2):
        server = serve_with()
        server.fault("garbage", bytes=100)
        received.append(raw(server))
        server.__exit__()
    assert received[0] == received[1]
    content, end = received[0]
    assert (len(content), end) == (100, "end")
    assert not content.startswith(b"HTTP")


def test_a_garbage_body_is_good_http(server, connect):
    server.fault("garbage-body", bytes=33)
    response, body = connect().ask("GET", "/api/v1/system/is_alive")
    assert (response.status, len(body)) == (200, 33)
    with pytest.raises(UnicodeDecodeError):
        body.decode()


def test_an_html_page_with_status_200(server, pilot, one_job):
    job = one_job(server)
    server.fault("html", endpoint="acquire_jobs")
    response, body = pilot.ask("POST", "/api/v1/pilot/acquire_jobs", '{"site_name": "Q1"}', JSON)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert body.lower().startswith(b"<!doctype html>")
    assert server.store.get(job).status == "activated"


@pytest.mark.parametrize("status", [400, 404, 418, 500, 502, 599])
def test_any_status_with_body_and_headers(server, connect, status):
    server.fault("status", status=status, body="because", headers={"X-Why": "a fault"})
    response, body = connect().ask("GET", "/api/v1/system/is_alive")
    assert (response.status, body, response.headers["X-Why"]) == (status, b"because", "a fault")


def test_retry_after_in_seconds_and_as_a_date(serve_with, connect_to):
    clock = FakeClock(wall=1_700_000_000.0)
    server = serve_with(clock=clock)
    server.fault("retry-after", status=429, seconds=7)
    server.fault("retry-after", seconds=60, form="date")
    client = connect_to(server)
    response, _ = client.ask("GET", "/api/v1/system/is_alive")
    assert (response.status, response.headers["Retry-After"]) == (429, "7")
    response, _ = client.ask("GET", "/api/v1/system/is_alive")
    assert response.status == 503
    told = email.utils.parsedate_to_datetime(response.headers["Retry-After"]).timestamp()
    assert told == 1_700_000_060


@pytest.mark.parametrize("skew", [86400, -3600])
def test_the_date_of_an_answer_is_wrong(server, connect, skew):
    server.fault("clock-skew", seconds=skew)
    response, body = alive(connect())
    told = email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp()
    assert abs(told - server.clock.wall() - skew) < 5
    assert body == ALIVE
    right = email.utils.parsedate_to_datetime(alive(connect())[0].headers["Date"]).timestamp()
    assert abs(right - server.clock.wall()) < 5


# -- what the server does wrong --------------------------------------------------------------------------------------


def test_without_a_database_an_update_is_told_so_and_the_next_is_good(server, pilot, one_job):
    job = one_job(server)
    pilot.acquire()
    server.fault("database-down", endpoint="update_job")
    assert update(pilot, job)["message"] == "Database error"
    assert server.store.get(job).status == "sent"
    assert update(pilot, job)["data"]["StatusCode"] == 0
    server.fault("database-down", endpoint="acquire_jobs")
    assert pilot.acquire()["message"] == "No jobs in PanDA"


def test_a_job_is_handed_out_twice_once_it_is_with_a_pilot(server, pilot, one_job):
    fault = server.fault("duplicate-dispatch")
    first = one_job(server)
    assert pilot.acquire()["data"]["jobs"][0]["PandaID"] == first
    assert fault.fired == 0, "there was nothing to hand out twice"
    second = one_job(server)
    assert pilot.acquire()["data"]["jobs"][0]["PandaID"] == first
    assert fault.fired == 1
    assert server.store.get(second).status == "activated"
    assert pilot.acquire()["data"]["jobs"][0]["PandaID"] == second


def test_which_job_is_handed_out_twice_can_be_said(server, pilot, one_job):
    jobs = [one_job(server) for _ in range(3)]
    for _ in jobs:
        pilot.acquire()
    server.fault("duplicate-dispatch", job=jobs[1])
    assert pilot.acquire()["data"]["jobs"][0]["PandaID"] == jobs[1]


def test_a_token_expires_in_mid_job_and_a_new_one_is_good(server, connect, one_job):
    old, new = server.token(), server.token(seconds=3600)
    job = one_job(server)

    def headers(token):
        return {"authorization": f"Bearer {token}", "origin": "wlcg.production"}

    client = connect()
    assert client.acquire(**headers(old))["success"]
    fault = server.fault("expired-token", state="running")
    values = {"job_id": job, "job_status": "starting"}
    assert client.post(UPDATE, values, **headers(old))["success"]
    values["job_status"] = "running"
    for _ in range(2):
        status, text = client.post(UPDATE, values, **headers(old))
        assert (status, text) == (403, "ERROR : Token authentication failed. Invalid token. Signature has expired")
    assert client.post(UPDATE, values, **headers(new))["success"]
    assert fault.fired == 1
    assert old not in repr(server.faults.rules())
    fault.remove()
    assert connect().post(UPDATE, values, **headers(old))["success"]


def test_certificates_do_not_expire_as_tokens(server, pilot):
    fault = server.fault("expired-token")
    assert pilot.acquire()["message"] == "No jobs in PanDA"
    assert (fault.seen, fault.fired) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("expired", "certificate has expired"),
        ("wrong-host", "IP address mismatch"),
        ("other-ca", "unable to get local issuer|unknown|self.signed"),
    ],
)
def test_new_connections_see_a_bad_certificate_until_the_fault_is_removed(server, connect, kind, reason):
    there, client = connect(), connect()
    alive(there)
    fault = server.fault("certificate", kind=kind)
    response, _ = alive(client)
    assert response.headers["Connection"] == "close"
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        alive(connect())
    assert alive(there)[1] == ALIVE, "open connections stay as they are"
    fault.remove()
    assert alive(connect())[1] == ALIVE


def test_a_renewed_certificate_is_another_one_and_good(server, connect):
    def shown(client):
        alive(client)
        return client.connection.sock.getpeercert()["serialNumber"]

    first = shown(connect())
    server.fault("certificate", kind="renewed")
    alive(connect())
    second = shown(connect())
    assert second != first
    server.clear_faults()
    assert shown(connect()) == first


def test_the_servers_own_commands_are_not_locked_out(server, admin):
    server.fault("refuse", count=0)
    server.fault("certificate", kind="other-ca")
    server.fault("reset-before", count=0)
    assert len(admin.get("faults")["faults"]) == 3
    assert admin.post("faults/clear") == {"removed": 3}


@pytest.mark.parametrize(("fault", "options", "command"), [
    ("tobekilled", {}, "tobekilled"),
    ("command", {"text": "softkill"}, "softkill"),
])  # fmt: skip
def test_a_command_comes_with_the_update_that_was_chosen(server, pilot, one_job, fault, options, command):
    job, other = one_job(server), one_job(server)
    pilot.acquire(), pilot.acquire()
    struck = server.fault(fault, job=job, state="running", after=1, **options)
    assert [update(pilot, number, state)["data"]["command"] for number, state in (
        (job, "starting"), (job, "running"), (other, "running"), (other, "running"),
    )] == ["NULL"] * 4  # fmt: skip
    assert update(pilot, job)["data"]["command"] == command
    assert update(pilot, job)["data"]["command"] == command, "it stays"
    assert server.store.get(job).status == "running"
    assert struck.fired == 1


def test_a_job_can_be_killed_with_its_very_first_update(server, pilot, one_job):
    job = one_job(server)
    pilot.acquire()
    server.fault("tobekilled", job=job)
    assert update(pilot, job)["data"]["command"] == "tobekilled"


# -- together --------------------------------------------------------------------------------------------------------


def test_faults_of_answers_strike_one_after_the_other(server, connect):
    server.fault("status", status=500)
    server.fault("status", status=404)
    server.fault("html", after=3)
    seen = []
    for _ in range(5):
        response, _ = connect().ask("GET", "/api/v1/system/is_alive")
        seen.append((response.status, response.headers["Content-Type"][:9]))
    assert [status for status, _ in seen] == [500, 404, 200, 200, 200]
    assert [kind for _, kind in seen] == ["text/html"] * 2 + ["text/plai", "text/html", "text/plai"]


def test_the_form_api_is_struck_the_same_way(server, pilot, one_job):
    one_job(server)
    fault = server.fault("status", status=503, endpoint="getJob", queue="Q1")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = "siteName=Q2&prodSourceLabel=managed&timeout=60"
    assert pilot.ask("POST", "/server/panda/getJob", body, form)[0].status == 200
    assert pilot.ask("POST", "/server/panda/getJob", body.replace("Q2", "Q1"), form)[0].status == 503
    assert fault.fired == 1


def test_a_rule_with_a_queue_finds_the_queue_of_a_job(server, pilot, one_job):
    job = one_job(server)
    pilot.acquire()
    fault = server.fault("status", queue="Q1", endpoint="update_job", status=500)
    assert update(pilot, 999)["success"]
    assert update(pilot, job)[0] == 500
    assert fault.fired == 1


def test_one_of_several_requests_is_struck_by_chance_and_the_same_ones_again(serve_with, connect_to):
    patterns = []
    for _ in range(2):
        server = serve_with()
        server.fault("status", status=404, probability=0.5, count=0)
        client = connect_to(server)
        patterns.append([client.ask("GET", "/api/v1/system/is_alive")[0].status for _ in range(40)])
        client.close()
        server.__exit__()
    assert patterns[0] == patterns[1]
    assert 5 < patterns[0].count(404) < 35


def test_a_spent_fault_and_a_removed_one_leave_the_answers_byte_for_byte_as_they_were(server, raw):
    def plain():
        lines = raw(server, b"GET /api/v1/system/is_alive HTTP/1.0\r\n\r\n")[0].split(b"\r\n")
        return [line for line in lines if not line.startswith(b"Date:")]

    before = plain()
    fault = server.fault("status")
    assert plain() != before
    assert fault.spent
    assert plain() == before
    server.clear_faults()
    assert plain() == before
