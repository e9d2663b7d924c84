"""A server that lets the catalogue down, over real sockets: each fault ends in its class, nothing hangs or leaks."""

import logging
import threading

import pytest

from pilot_core import (
    AuthError,
    Cancelled,
    CancelToken,
    CommunicationError,
    InputFile,
    RequestRefused,
)
from pilot_core.testing.loopback import Reaction

FILE = InputFile(scope="user.pilot", lfn="in.root")
ROW = (
    b'{"scope": "user.pilot", "name": "in.root", "pfns": {"davs://a.example.org/in.root":'
    b' {"rse": "A", "domain": "wan", "priority": 1, "type": "DISK", "client_extract": false}}}\n'
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(ROW), ROW)


@pytest.mark.parametrize("piece", [1, 7, 0])
def test_an_answer_may_come_in_pieces(said, scripted, limits, piece):
    catalog, _ = scripted(Reaction(data=said(200, ROW + b"\n" + ROW), piece=piece))
    assert [each.url for each in catalog.replicas([FILE], **limits)["in.root"]] == ["davs://a.example.org/in.root"]


@pytest.mark.parametrize(
    "spoilt",
    [
        Reaction(data=CHUNKED, then="close"),
        Reaction(data=CHUNKED, then="reset"),
        Reaction(then="reset"),
        Reaction(data=b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + ROW, then="close"),
    ],
    ids=["cut-between-chunks", "reset", "no-answer", "short-body"],
)
def test_an_answer_that_is_cut_off_is_asked_for_again(said, scripted, limits, spoilt):
    catalog, server = scripted(spoilt, said(200, ROW))
    assert catalog.replicas([FILE], **limits)["in.root"]
    assert server.requests == 3


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(said, scripted, limits, status):
    catalog, _ = scripted(said(status, headers={"Retry-After": "0"}), said(200, ROW))
    assert catalog.replicas([FILE], **limits)["in.root"]


def test_a_server_that_stays_in_trouble_is_given_up(said, scripted, limits):
    catalog, server = scripted(said(503, headers={"ExceptionClass": "Busy", "ExceptionMessage": "too many"}), tries=2)
    with pytest.raises(CommunicationError, match=r"answered 503 Busy \(too many\); given up") as error:
        catalog.replicas([FILE], **limits)
    assert not isinstance(error.value, RequestRefused)
    assert server.requests == 3


def test_a_pause_that_is_asked_for_is_kept_or_not_begun(said, scripted, limits, clock):
    """With less time left than the server wants to be left alone for, it is given up at once."""
    catalog, _ = scripted(said(429, headers={"Retry-After": "3600"}))
    started = clock.monotonic()
    with pytest.raises(CommunicationError, match="answered 429"):
        catalog.replicas([FILE], **limits)
    assert clock.monotonic() - started < 20


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "InvalidObject", RequestRefused),
        (404, "DataIdentifierNotFound", RequestRefused),
        (500, "RSEProtocolNotSupported", RequestRefused),
        (403, "", AuthError),
        (401, "AccessDenied", AuthError),
        (401, "CannotAuthenticate", AuthError),
    ],
)
def test_a_refusal_is_not_repeated(said, scripted, limits, status, kind, expected):
    catalog, server = scripted(said(status, headers={"ExceptionClass": kind, "ExceptionMessage": "so it is"}))
    with pytest.raises(expected) as error:
        catalog.replicas([FILE], **limits)
    assert str(error.value).isprintable()
    assert "canary" not in str(error.value)
    assert server.requests == (4 if kind == "CannotAuthenticate" else 2), "a new token, and one more try"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_token_follows_a_redirect(said, scripted, limits, status):
    catalog, elsewhere = scripted(said(200, ROW))
    where = f"https://localhost:{elsewhere.port}/replicas/list"
    catalog, server = scripted(said(status, headers={"Location": where}))
    with pytest.raises(RequestRefused, match=r"set catalog\.rucio\.url to where it is"):
        catalog.replicas([FILE], **limits)
    assert (elsewhere.requests, server.requests) == (0, 2)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[1]\n", b"7\n", b'{"scope": "user.pilot", "name": "in.root"}\n', b"[" * 100_000, b"\xff\xfe\n"],
    ids=["html", "list", "number", "no-pfns", "deep", "bytes"],
)
def test_an_answer_that_is_not_rucios_is_told(said, scripted, limits, body):
    catalog, _ = scripted(said(200, body))
    with pytest.raises(CommunicationError, match="Rucio's answer is"):
        catalog.replicas([FILE], **limits)


def test_a_line_without_end_is_not_kept_in_memory(scripted, limits):
    endless = Reaction(data=b"HTTP/1.1 200 OK\r\n\r\n", endless=b" " * (16 << 20))
    catalog, _ = scripted(endless)
    with pytest.raises(CommunicationError, match="a line of more than"):
        catalog.replicas([FILE], **limits)


def test_a_silent_server_is_asked_again(said, scripted, limits):
    catalog, server = scripted(Reaction(then="hang"), said(200, ROW), timeout=0.2)
    assert catalog.replicas([FILE], **limits)["in.root"]
    assert server.requests == 3


def test_a_server_that_is_not_there_is_told(make, limits, tmp_path, authority):
    (tmp_path / "password").write_text("secret")
    told = {"username": "u", "password_file": tmp_path / "password", "ca_file": authority.ca_file}
    with pytest.raises(CommunicationError, match="localhost:9"):
        make(url="https://localhost:9", tries=2, **told).replicas([FILE], **limits)


@pytest.mark.parametrize("where", ["waiting", "pausing"])
def test_cancellation_ends_a_call_at_once(said, scripted, deadline, clock, where):
    """In the wait for an answer, and in the pause before the next try."""
    cancel = CancelToken()
    reaction = Reaction(then="hang") if where == "waiting" else said(503, headers={"Retry-After": "30"})
    catalog, server = scripted(reaction)

    def call_off():
        server.await_requests(2)
        cancel.cancel("enough")

    thread = threading.Thread(target=call_off)
    started = clock.monotonic()
    thread.start()
    with pytest.raises(Cancelled, match="enough"):
        catalog.replicas([FILE], cancel=cancel, deadline=deadline)
    thread.join()
    assert clock.monotonic() - started < 10


def test_secrets_show_nowhere(said, scripted, limits, caplog):
    """The server repeats the token in its own message; neither log nor error nor repr has it or the password."""
    caplog.set_level(logging.DEBUG)
    catalog, server = scripted(said(503, headers={"ExceptionMessage": "x"}), said(500), tries=2)
    with pytest.raises(CommunicationError) as error:
        catalog.replicas([FILE], **limits)
    assert "canary-password" in server.seen(), "the login never got the password"
    shown = caplog.text + str(error.value) + repr(catalog) + repr(vars(catalog))
    assert "canary" not in shown
