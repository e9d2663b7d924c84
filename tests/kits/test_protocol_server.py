"""The kit's own server does to a connection what it says: seen by a client that knows no protocol."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
from pathlib import Path

import pytest

from pilot_core import JobUpdate, Provider, ServerResponse, StoreUnavailable, hookimpl
from pilot_core.testing import ProtocolServer
from pilot_core.testing.kits.canary import CANARY
from pilot_core.testing.kits.communicator_samples import JOB, plain_job
from pilot_core.testing.kits.otherside import BROKEN, FAULTS


class Teller:
    """A protocol that tells what it knows of who asks, and counts in the store."""

    def __init__(self, settings, context):
        pass

    def handles(self, request):
        return request.path == "/tell"

    def respond(self, request, store):
        try:
            command = store.update(plain_job().id, "running", attempt=1, values={}).command
        except StoreUnavailable:
            return ServerResponse(status=200, body=b"down")
        who = {"dn": request.identity.dn if request.identity else "", "denied": request.denied, "command": command}
        return ServerResponse(body=json.dumps({**who, "query": request.query, "padding": "x" * 300}).encode())


class Plugin:
    @hookimpl
    def pilot_server_protocols(self):
        yield Provider(name="teller", factory=Teller)


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def server(request, tmp_path):
    with ProtocolServer(Plugin(), tmp_path, tls=request.param) as server:
        server.offer(plain_job())
        yield server


@pytest.fixture
def ask(server):
    """Send one request; return status, headers and body."""
    connections = []

    def ask(path="/tell?a=b", body=b"", **headers):
        port = int(server.url.rpartition(":")[2])
        if server.ca_file:
            context = ssl.create_default_context(cafile=server.ca_file)
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port)
        connections.append(connection)
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    yield ask
    for connection in connections:
        connection.close()


def done(server):
    return len(server.understood(plain_job().id))


def test_a_request_is_answered_by_the_protocol(server, ask):
    status, headers, body = ask()
    told = json.loads(body)
    assert (status, headers["Content-Type"], told["dn"], told["query"]) == (200, "text/plain", "/O=kit/CN=pilot", "a=b")
    assert (done(server), server.requests()) == (1, 1)
    assert server.understood(plain_job().id) == [JobUpdate(job_id=plain_job().id, attempt=1, state="running")]


def test_what_is_not_the_protocols_is_not_found(server, ask):
    assert ask("/elsewhere")[0] == 404
    assert "POST /elsewhere" in server.seen()


@pytest.mark.parametrize(("fault", "carried_out"), [("reset", 0), ("lost-reply", 1)])
def test_a_connection_is_reset_before_or_after(fault, carried_out, server, ask):
    server.fault(fault)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        ask()
    assert done(server) == carried_out
    assert ask()[0] == 200


def test_an_answer_is_cut_short(server, ask):
    server.fault("truncated")
    with pytest.raises(http.client.IncompleteRead):
        ask()
    assert done(server) == 1


def test_an_answer_is_announced_too_short(server, ask):
    server.fault("wrong-length")
    _, headers, body = ask()
    assert len(body) == int(headers["Content-Length"])
    with pytest.raises(ValueError, match=r"line|char|delimiter|Expecting"):
        json.loads(body)


@pytest.mark.parametrize("fault", ["drip", "chunked"])
def test_an_answer_comes_in_pieces(fault, server, ask):
    server.fault(fault)
    assert json.loads(ask()[2])["query"] == "a=b"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("garbage", 200),
        ("html", 200),
        ("empty", 200),
        ("error", 500),
        ("busy", 503),
        ("busy-odd", 503),
        ("bad-request", 400),
        ("redirect", 302),
        ("unauthorized", 401),
    ],
)
def test_something_else_comes_and_nothing_is_done(fault, status, server, ask):
    server.fault(fault, times=2)
    assert [ask()[0], ask()[0], ask()[0]] == [status, status, 200]
    assert done(server) == 1


def test_what_comes_may_be_no_http(server, ask):
    server.fault("no-protocol")
    with pytest.raises(http.client.BadStatusLine):
        ask()


def test_a_wish_to_be_left_alone_is_told(server, ask):
    server.fault("busy", seconds=17)
    assert ask()[1]["Retry-After"] == "17"


def test_the_credential_is_repeated(server, ask):
    server.fault("echo")
    status, _, body = ask(Authorization=f"Bearer {CANARY}")
    assert status == 400 and CANARY.encode() in body  # noqa: PT018


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("denied", ("", "Invalid token. Signature has expired")),
        ("anonymous", ("", "")),
        ("no-role", ("/O=kit/CN=Jane Stranger", "")),
    ],
)
def test_somebody_else_asks(fault, told, server, ask):
    server.fault(fault)
    answer = json.loads(ask()[2])
    assert (answer["dn"], answer["denied"]) == told


def test_the_database_is_down_for_one_request(server, ask):
    server.fault("database")
    assert ask()[2] == b"down"
    assert json.loads(ask()[2])["command"] == "NULL"


def test_nobody_listens_until_it_is_healed(server, ask):
    server.fault("refuse")
    with pytest.raises(ConnectionRefusedError):
        ask()
    server.heal()
    assert ask()[0] == 200


@pytest.mark.parametrize("fault", ["hang", "endless"])
def test_what_hangs_is_let_go(fault, server, ask):
    server.fault(fault)
    errors = []

    def run():
        try:
            ask()
        except (OSError, http.client.HTTPException) as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    server.await_requests(1)
    assert thread.is_alive()
    server.heal()
    thread.join()
    assert errors
    assert done(server) == 0
    assert ask()[0] == 200


@pytest.mark.parametrize(("fault", "why"), [("wrong-name", "match"), ("expired-certificate", "expired")])
def test_the_certificate_is_wrong_until_it_is_healed(fault, why, server, ask):
    if server.ca_file is None:
        with pytest.raises(ValueError, match="known are"):
            server.fault(fault)
        return
    server.fault(fault)
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        ask()
    server.heal()
    assert ask()[0] == 200


def test_every_fault_is_tried_here():
    source = Path(__file__).read_text(encoding="utf-8")
    assert not [name for name in FAULTS if f'"{name}"' not in source]


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_description_differs_from_a_good_one(how, server):
    server.offer_broken(JOB, how)
    broken = server.store.get(JOB.id).description
    server.offer(JOB)
    good = server.store.get(JOB.id).description
    assert {name for name in good if good[name] != broken[name]} <= {"transformation", "fsize", "checksum"}
    assert good != broken


def test_nobody_waits_for_ever(server, monkeypatch):
    monkeypatch.setattr("pilot_core.testing.loopback._PATIENCE", 0.01)
    with pytest.raises(TimeoutError, match="0 requests came in, not 1"):
        server.await_requests(1)


def test_it_ends_with_open_connections(tmp_path):
    with ProtocolServer(Plugin(), tmp_path, tls=False) as server:
        port = int(server.url.rpartition(":")[2])
        idle = socket.create_connection(("127.0.0.1", port))
        idle.sendall(b"POST /tell HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
    with idle, contextlib.suppress(ConnectionResetError):
        assert idle.recv(1) == b""
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loopback")]


def test_a_chunked_body_and_one_that_waits_for_leave_are_read(server, ask):
    assert ask(body=iter([b"ab", b"cd"]))[0] == 200
    assert ask(body=b"abcd", Expect="100-continue")[0] == 200
