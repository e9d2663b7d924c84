"""The HTTP client for stagers, over real sockets: bodies to the last byte, kept connections, what ends a wait."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading

import pytest

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    CancelToken,
    ClientCertificate,
    Deadline,
    Event,
    SystemClock,
    TransferError,
    TransferTimeout,
    TransientError,
)
from pilot_core.api.web import ConnectionLost, Trust, WebBody, WebClient, WebRequest
from pilot_core.testing.servers.scripted_http import ScriptedHttp

DATA = bytes(range(256)) * 4096  # 1 MiB


class Asker:
    """A client, and what calls it off."""

    def __init__(self, **options):
        self.clock = SystemClock()
        self.cancel = CancelToken()
        self.deadline = Deadline.after(self.clock, 30)
        self.client = WebClient(self.clock, **options)

    def send(self, method, url, **what):
        return self.client.send(WebRequest(method=method, url=url, **what), cancel=self.cancel, deadline=self.deadline)

    def get(self, url):
        with self.send("GET", url) as answer:
            return answer.read(1 << 30)

    def put(self, url, data, **what):
        with self.send("PUT", url, body=WebBody.of(data), **what) as answer:
            return answer.status, answer.read()


@pytest.fixture
def asker():
    asker = Asker()
    yield asker
    asker.client.close()


def serving(answer):
    """Return a script that answers request after request."""

    def script(connection):
        while True:
            asked = connection.request()
            body = connection.body(asked.length)
            answer(connection, asked, body)

    return script


# -- bodies ------------------------------------------------------------------------------------------------------------


def chunks(data, step):
    blocks = [data[start : start + step] for start in range(0, len(data), step)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(block), block) for block in blocks) + b"0\r\nTrailer: x\r\n\r\n"


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("piece", [0, 7777])
@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: %d\r\n\r\n" % len(DATA) + DATA,
        CHUNKED + chunks(DATA, 100_000),
        CHUNKED + chunks(DATA, len(DATA)),
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % len(DATA) + DATA,
    ],
    ids=["length", "chunks", "one-chunk", "after-an-interim-answer"],
)
def test_a_body_arrives_whole_and_the_connection_is_kept(sent, piece, asker):
    with ScriptedHttp(serving(lambda connection, asked, body: connection.send(sent, piece=piece))) as server:
        for _ in range(2):
            assert asker.get(f"{server.url}/x") == DATA
        assert {asked.connection for asked in server.asked} == {1}
        assert server.asked[0].headers["host"] == f"127.0.0.1:{server.port}"
        assert server.asked[0].headers["accept-encoding"] == "identity"


def test_a_body_without_a_length_ends_with_the_connection(asker):
    def script(connection):
        connection.request()
        connection.send(HEAD + b"\r\n" + DATA)

    with ScriptedHttp(script) as server, asker.send("GET", server.url) as answer:
        assert answer.length is None
        assert answer.read() == DATA


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: %d\r\n\r\n" % (len(DATA) + 1) + DATA,
        CHUNKED + b"%x\r\n" % (len(DATA) + 1) + DATA,
        CHUNKED + chunks(DATA, 50_000)[:-3],
        HEAD + b"Content-Le",
        b"",
    ],
    ids=["length", "chunk", "last-line", "head", "nothing"],
)
def test_a_truncated_answer_is_never_taken_for_a_whole_one(sent, reset, asker):
    def script(connection):
        connection.request()
        connection.send(sent)
        if reset:
            connection.reset()

    with ScriptedHttp(script) as server, pytest.raises(ConnectionLost, match=r"127\.0\.0\.1"):
        asker.get(f"{server.url}/x")


def test_a_body_goes_on_where_it_was_left(asker):
    with (
        ScriptedHttp(serving(lambda connection, asked, body: connection.answer(200, DATA))) as server,
        asker.send("GET", server.url) as answer,
    ):
        small = memoryview(bytearray(1000))
        first = bytes(small[: answer.read_into(small)])
        assert first + answer.read() == DATA
        assert answer.read_into(small) == 0


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_have_none(status, asker):
    with ScriptedHttp(serving(lambda connection, asked, body: connection.send(b"HTTP/1.1 %d X\r\n\r\n" % status))) as s:
        for _ in range(2):
            assert asker.get(s.url) == b""
        assert {asked.connection for asked in s.asked} == {1}


def test_an_answer_to_head_tells_the_length_and_has_no_body(asker):
    with ScriptedHttp(serving(lambda c, asked, body: c.answer(200, b"", {"Content-Length": "12345"}))) as server:
        for _ in range(2):
            with asker.send("HEAD", server.url) as answer:
                assert answer.length == 12345
                assert answer.read() == b""
        assert {asked.connection for asked in server.asked} == {1}


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        HEAD + b"no field\r\n\r\n",
        HEAD + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: many\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"1" * 9000,
    ],
)
def test_what_is_no_http_is_an_unavailable_backend(sent, asker):
    with ScriptedHttp(serving(lambda connection, asked, body: connection.send(sent))) as server:
        with pytest.raises(BackendUnavailable) as caught:
            asker.get(server.url)
        assert str(caught.value).isprintable()


def test_more_than_the_limit_is_not_read(asker):
    with (
        ScriptedHttp(serving(lambda connection, asked, body: connection.answer(200, DATA))) as server,
        asker.send("GET", server.url) as answer,
        pytest.raises(BackendUnavailable, match="more than 1000 bytes"),
    ):
        answer.read(1000)


# -- kept connections --------------------------------------------------------------------------------------------------


def test_a_short_body_that_nobody_reads_does_not_cost_the_connection(asker):
    with ScriptedHttp(serving(lambda connection, asked, body: connection.answer(404, b"not here" * 100))) as server:
        for _ in range(3):
            with asker.send("GET", server.url) as answer:
                assert answer.status == 404
        assert {asked.connection for asked in server.asked} == {1}


@pytest.mark.parametrize("headers", [{"Connection": "close"}, {"Content-Length": str(len(DATA))}])
def test_a_connection_is_not_kept_that_may_not_be(headers, asker):
    """One that the server closes, one with a body that was not read."""

    def answer(connection, asked, body):
        connection.answer(200, DATA, headers)

    with ScriptedHttp(serving(answer)) as server:
        for _ in range(2):
            with asker.send("GET", server.url):
                pass
        assert {asked.connection for asked in server.asked} == {1, 2}


def once(connection):
    """Answer one request, and close without a word when the next one has come."""
    asked = connection.request()
    connection.body(asked.length)
    connection.answer(200, b"first")
    connection.request()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_a_kept_connection_that_was_closed_is_replaced(method, asker):
    body = WebBody.of(DATA) if method == "PUT" else None
    with ScriptedHttp(once) as server:
        for _ in range(3):
            with asker.send(method, server.url, body=body) as answer:
                answer.read()
        assert server.asked[-1].connection == 3


def test_what_might_be_done_twice_is_not_sent_again(asker):
    with ScriptedHttp(once) as server:
        asker.get(server.url)
        with pytest.raises(ConnectionLost):
            asker.send("POST", server.url, body=WebBody.of(b"do it"))
        assert server.methods() == ["GET", "POST"]


def test_connections_serve_threads_at_the_same_time(asker):
    def answer(connection, asked, body):
        connection.answer(200, asked.target.encode() * 50_000)

    problems = []

    def work(number):
        try:
            for turn in range(10):
                assert asker.get(f"{server.url}/{number}-{turn}") == f"/{number}-{turn}".encode() * 50_000
        except BaseException as error:
            problems.append(error)

    with ScriptedHttp(serving(answer)) as server:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        assert len({asked.connection for asked in server.asked}) <= 8


def test_a_client_that_is_dropped_closes_its_connections():
    with ScriptedHttp(serving(lambda connection, asked, body: connection.answer(200, b"x"))) as server:
        before = len(os.listdir("/proc/self/fd"))
        asker = Asker()
        asker.get(server.url)
        del asker
        gc.collect()
        with contextlib.suppress(TransferError):
            Asker().get(server.url)  # the server has seen the end of the first connection by then
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before + 2  # the server's own ends may still close


# -- sending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 5_000_000])
@pytest.mark.parametrize("expect", [False, True])
def test_the_very_body_is_sent(size, expect, asker):
    data = (DATA * 5)[:size]
    got = []

    def script(connection):
        asked = connection.request()
        if "expect" in asked.headers:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        got.append(connection.body(asked.length))
        connection.answer(201)

    with ScriptedHttp(script) as server:
        assert asker.put(server.url, data, expect=expect) == (201, b"")
        assert server.asked[0].headers["content-length"] == str(size)
        assert ("expect" in server.asked[0].headers) == (expect and size > 0)
    assert got == [data]


def test_a_body_that_is_not_wanted_is_not_sent(asker):
    asked_for = []

    def blocks():
        asked_for.append(1)
        yield memoryview(DATA)

    def script(connection):
        connection.request()
        connection.answer(307, b"", {"Location": "/elsewhere"})
        assert connection.request()  # never comes: the connection is closed

    with (
        ScriptedHttp(script) as server,
        asker.send("PUT", server.url, body=WebBody(length=len(DATA), blocks=blocks), expect=True) as answer,
    ):
        assert answer.status == 307
    assert not asked_for


def test_a_server_that_ignores_expect_gets_the_body_after_a_while():
    asker = Asker(expect_seconds=0.05)
    with ScriptedHttp(serving(lambda connection, asked, body: connection.answer(201))) as server:
        assert asker.put(server.url, DATA, expect=True)[0] == 201
    asker.client.close()


@pytest.mark.needs("module:cryptography")
def test_a_server_that_ignores_expect_over_tls_gets_the_body_after_a_while(authority):
    """TLS 1.3 sends tickets after the handshake: something to read, and no answer."""
    asker = Asker(expect_seconds=0.1, silence=5.0, trust=Trust(ca_file=authority.ca_file))
    script = serving(lambda connection, asked, body: connection.answer(201))
    with ScriptedHttp(script, tls=authority.server_context()) as server:
        assert asker.put(server.url, DATA, expect=True)[0] == 201
    asker.client.close()


def test_a_late_continue_is_no_answer():
    asker = Asker(expect_seconds=0.01)

    def script(connection):
        asked = connection.request()
        first = connection.body(100_000)
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        rest = connection.body(asked.length - len(first))
        connection.answer(201, str(len(first + rest)).encode())

    with ScriptedHttp(script) as server:
        assert asker.put(server.url, DATA * 20, expect=True) == (201, str(len(DATA) * 20).encode())
    asker.client.close()


def test_a_server_that_does_not_know_expect_is_asked_without(asker):
    def script(connection):
        asked = connection.request()
        if "expect" in asked.headers:
            connection.answer(417)
        else:
            connection.answer(201, str(len(connection.body(asked.length))).encode())

    with ScriptedHttp(script) as server:
        assert asker.put(server.url, DATA, expect=True) == (201, str(len(DATA)).encode())


def test_an_answer_in_the_midst_of_the_body_ends_the_sending(asker):
    sent = []

    def blocks():
        for _ in range(10_000):
            sent.append(1)
            yield memoryview(DATA)

    def script(connection):
        connection.request()
        connection.body(100_000)
        connection.answer(507, b"full")
        connection.stall()

    with ScriptedHttp(script) as server:
        body = WebBody(length=len(DATA) * 10_000, blocks=blocks)
        with asker.send("PUT", server.url, body=body) as answer:
            assert (answer.status, answer.read()) == (507, b"full")
    assert len(sent) < 100


@pytest.mark.parametrize("length", [len(DATA) - 1, len(DATA) + 1, 5])
def test_a_body_of_another_length_than_announced_is_an_error(length, asker):
    with ScriptedHttp(serving(lambda connection, asked, body: connection.answer(201))) as server:
        body = WebBody(length=length, blocks=lambda: [memoryview(DATA)])
        with pytest.raises(TransientError, match="bytes that were announced"):
            asker.send("PUT", server.url, body=body)


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_a_body_that_turns_out_to_be_wrong_at_its_end_is_not_sent_whole(size, asker):
    """Otherwise the other side would keep it, and perhaps only after it was asked to remove it."""
    got = []

    def blocks():
        for start in range(0, size, 1 << 20):
            yield memoryview(bytes(min(1 << 20, size - start)))
        raise TransientError("the source has changed")

    def script(connection):
        connection.request()
        got.append(len(connection.rest()))

    with ScriptedHttp(script) as server, pytest.raises(TransientError, match="the source has changed"):
        asker.send("PUT", server.url, body=WebBody(length=size, blocks=blocks))
    assert all(count < size for count in got)


def test_a_header_with_a_line_break_is_refused(asker):
    with ScriptedHttp(serving(lambda connection, asked, body: connection.answer(200))) as server:
        with pytest.raises(BackendUnavailable, match="line break") as caught:
            asker.send("GET", server.url, headers={"Authorization": "Bearer canary\r\nX: y"})
        assert "canary" not in str(caught.value)
        assert not server.asked


# -- what ends a wait --------------------------------------------------------------------------------------------------


def endless():
    while True:
        yield memoryview(DATA)


def stalled_answer(connection):
    connection.request()
    connection.stall()


def stalled_body(connection):
    connection.request()
    connection.send(HEAD + b"Content-Length: 1000000\r\n\r\nbegin")
    connection.stall()


def stalled_chunk(connection):
    connection.request()
    connection.send(CHUNKED + b"5\r\nbegin\r\n1")
    connection.stall()


GET = {"method": "GET"}
WAITS = {
    "answer": (stalled_answer, GET),
    "body": (stalled_body, GET),
    "chunk": (stalled_chunk, GET),
    "send": (stalled_answer, {"method": "PUT", "body": WebBody(length=1 << 40, blocks=endless)}),
    "expect": (stalled_answer, {"method": "PUT", "body": WebBody(length=1 << 40, blocks=endless), "expect": True}),
}


@contextlib.contextmanager
def soon(call):
    """Call something a little later, from another thread."""
    clock = SystemClock()
    begun = clock.monotonic()

    def later():
        clock.wait(until=begun + 0.15)
        call()

    thread = threading.Thread(target=later)
    thread.start()
    yield
    thread.join()
    assert clock.monotonic() - begun < 1.15, "it took longer than a second to end"


def ask_all(asker, url, what):
    with asker.send(url=url, **what) as answer:
        answer.read()


@pytest.mark.parametrize("wait", WAITS)
def test_every_wait_can_be_cancelled(wait, asker):
    script, what = WAITS[wait]
    with (
        ScriptedHttp(script) as server,
        soon(lambda: asker.cancel.cancel("the user said so")),
        pytest.raises(Cancelled, match="the user said so"),
    ):
        ask_all(asker, f"{server.url}/x", what)


@pytest.mark.parametrize("wait", WAITS)
def test_every_wait_ends_at_the_deadline(wait, asker):
    script, what = WAITS[wait]
    asker.deadline = Deadline.after(asker.clock, 0.2)
    with ScriptedHttp(script) as server, pytest.raises(TransferTimeout, match="/x: the time allowed"):
        ask_all(asker, f"{server.url}/x", what)


@pytest.mark.parametrize("wait", WAITS)
def test_every_wait_ends_when_nothing_moves(wait):
    asker = Asker(silence=0.1, expect_seconds=0.05)
    script, what = WAITS[wait]
    with ScriptedHttp(script) as server, pytest.raises(TransferTimeout, match=r"/x: nothing moved for 0\.1 s"):
        ask_all(asker, f"{server.url}/x", what)


@pytest.fixture
def deaf():
    """An address where connections are neither taken nor refused: its queue is full."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"


def test_connecting_can_be_cancelled(deaf, asker):
    with soon(lambda: asker.cancel.cancel("enough")), pytest.raises(Cancelled, match="enough"):
        asker.get(deaf)


def test_connecting_ends_in_time(deaf):
    with pytest.raises(TransientError, match=r"did not answer within 0\.1 s"):
        Asker(connect_seconds=0.1).get(deaf)


def silent_tls(connection):
    connection.stall()


def test_beginning_tls_can_be_cancelled(asker):
    with (
        ScriptedHttp(silent_tls) as server,
        soon(lambda: asker.cancel.cancel("enough")),
        pytest.raises(Cancelled, match="enough"),
    ):
        asker.get(f"https://127.0.0.1:{server.port}/x")


def test_beginning_tls_ends_in_time():
    asker = Asker(connect_seconds=0.1)
    with ScriptedHttp(silent_tls) as server, pytest.raises(TransferTimeout, match="did not begin TLS"):
        asker.get(f"https://127.0.0.1:{server.port}/x")


def test_a_name_lookup_can_be_cancelled(asker, monkeypatch):
    looked_up, real = Event(), socket.getaddrinfo

    def slow(host, *rest, **more):
        if host == "slow.example" and not more.get("flags", 0) & socket.AI_NUMERICHOST:
            asker.clock.wait(looked_up)
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        with soon(lambda: asker.cancel.cancel("enough")), pytest.raises(Cancelled, match="enough"):
            asker.get("http://slow.example/x")
    finally:
        looked_up.set()


def test_what_was_cancelled_before_is_not_begun(asker):
    asker.cancel.cancel("enough")
    with ScriptedHttp(stalled_answer) as server:
        with pytest.raises(Cancelled, match="enough"):
            asker.get(server.url)
        assert not server.asked


# -- who is there ------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_a_passing_trouble(asker):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(TransientError, match=r"no connection to 127\.0\.0\.1:\d+: Connection refused"):
            asker.get(f"http://127.0.0.1:{taken.getsockname()[1]}/x")


def test_a_host_that_does_not_exist_is_an_unavailable_backend(asker, monkeypatch):
    real = socket.getaddrinfo

    def unknown(host, *rest, **more):
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(BackendUnavailable, match=r"no address of no-such-host\.invalid: Name or service not known"):
        asker.get("http://no-such-host.invalid/x")


def test_the_next_address_is_tried_when_one_refuses(asker, monkeypatch):
    real = socket.getaddrinfo

    def two(host, port, *rest, **more):
        if host != "two.example":
            return real(host, port, *rest, **more)
        if more.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        return [*real("127.0.0.2", port, **more), *real("127.0.0.1", port, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with ScriptedHttp(serving(lambda connection, asked, body: connection.answer(200, b"here"))) as server:
        assert asker.get(f"http://two.example:{server.port}/") == b"here"


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://h/a b", "http://h:0/"])
def test_a_url_that_is_none_is_a_transfer_error(url, asker):
    with pytest.raises(TransferError, match="URL"):
        asker.get(url)


# -- TLS ---------------------------------------------------------------------------------------------------------------

authorities = pytest.mark.needs("module:cryptography")


@pytest.fixture
def authority(tmp_path):
    from pilot_core.testing.tls import TestAuthority

    return TestAuthority(tmp_path)


def greeting(connection, asked, body):
    connection.answer(200, b"hello")


@authorities
def test_tls_is_verified(authority, tmp_path):
    from pilot_core.testing.tls import TestAuthority

    other = TestAuthority(tmp_path, "Other CA")
    with ScriptedHttp(serving(greeting), tls=authority.server_context()) as server:
        asker = Asker(trust=Trust(ca_file=authority.ca_file))
        for _ in range(2):
            assert asker.get(server.url) == b"hello"
        assert {asked.connection for asked in server.asked} == {1}
        for trust in (Trust(ca_file=other.ca_file), Trust()):
            with pytest.raises(BackendUnavailable, match=r"certificate is refused.*ca_file"):
                Asker(trust=trust).get(server.url)
        asker.client.close()


@authorities
def test_a_certificate_of_another_host_is_refused(authority):
    with (
        ScriptedHttp(serving(greeting), tls=authority.server_context(host="other.example")) as server,
        pytest.raises(BackendUnavailable, match="certificate is refused"),
    ):
        Asker(trust=Trust(ca_file=authority.ca_file)).get(server.url)


@authorities
def test_the_environment_adds_no_authorities(authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    monkeypatch.setenv("SSL_CERT_DIR", str(authority.ca_file.parent))
    with (
        ScriptedHttp(serving(greeting), tls=authority.server_context()) as server,
        pytest.raises(BackendUnavailable, match="certificate is refused"),
    ):
        Asker().get(server.url)


@authorities
def test_a_large_body_passes_tls_both_ways(authority):
    def echo(connection, asked, body):
        connection.answer(200, body)

    asker = Asker(trust=Trust(ca_file=authority.ca_file))
    with (
        ScriptedHttp(serving(echo), tls=authority.server_context()) as server,
        asker.send("PUT", server.url, body=WebBody.of(DATA * 5)) as answer,
    ):
        assert answer.read(1 << 30) == DATA * 5
    asker.client.close()


@authorities
@pytest.mark.parametrize("cut", [b"", HEAD + b"Content-Length: 100\r\n\r\nabc"])
def test_an_answer_that_is_cut_within_tls_is_lost(cut, authority):
    def script(connection):
        connection.request()
        connection.send(cut)

    with ScriptedHttp(script, tls=authority.server_context()) as server, pytest.raises(ConnectionLost):
        Asker(trust=Trust(ca_file=authority.ca_file)).get(server.url)


@authorities
def test_a_client_presents_its_certificate_and_a_renewed_one(authority):
    trust = Trust(ca_file=authority.ca_file)
    tls = authority.server_context(clients=authority, optional=False)
    with ScriptedHttp(serving(greeting), tls=tls) as server:
        asker = Asker(trust=trust)
        with pytest.raises((AuthError, ConnectionLost)):
            asker.get(server.url)
        proxy = authority.proxy()
        certificate = ClientCertificate(cert_file=proxy, key_file=proxy)
        used = []
        for _ in range(2):
            with asker.send("GET", server.url, certificate=certificate) as answer:
                assert answer.read() == b"hello"
            used.append(server.asked[-1].connection)
            os.replace(authority.proxy(), proxy)
        assert used[0] != used[1], "the old proxy's connection was used for the new one"
        asker.client.close()


@authorities
def test_a_certificate_that_cannot_be_used_is_an_auth_error(authority, tmp_path):
    missing = ClientCertificate(cert_file=tmp_path / "none.pem", key_file=tmp_path / "none.pem")
    with pytest.raises(AuthError, match=r"none\.pem: No such file"):
        Asker().send("GET", "https://127.0.0.1:9/", certificate=missing)
    (tmp_path / "bad.pem").write_text("no certificate")
    bad = ClientCertificate(cert_file=tmp_path / "bad.pem", key_file=tmp_path / "bad.pem")
    with pytest.raises(AuthError, match=r"bad\.pem cannot be used"):
        Asker().send("GET", "https://127.0.0.1:9/", certificate=bad)


def test_the_pilots_authorities_are_trusted_where_settings_name_none(tmp_path):
    file, folder = tmp_path / "ca.pem", tmp_path
    assert Trust.chosen(None, None, otherwise=None) == Trust()
    assert Trust.chosen(None, None, otherwise=file) == Trust(ca_file=file)
    assert Trust.chosen(None, None, otherwise=folder) == Trust(ca_dir=folder)
    assert Trust.chosen(file, None, otherwise=folder) == Trust(ca_file=file)
    assert Trust.chosen(None, folder, otherwise=file) == Trust(ca_dir=folder)


def test_authorities_that_are_not_there_are_named(tmp_path):
    for trust in (Trust(ca_file=tmp_path / "no.pem"), Trust(ca_dir=tmp_path / "no")):
        with pytest.raises(BackendUnavailable, match=r"no certificate authorities could be read from .*/no"):
            Asker(trust=trust).get("https://127.0.0.1:9/")


def test_plain_http_where_tls_is_due_is_an_unavailable_backend(asker):
    def script(connection):
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.stall()

    with ScriptedHttp(script) as server, pytest.raises(BackendUnavailable, match="TLS with the server failed"):
        asker.get(f"https://127.0.0.1:{server.port}/")


# -- proxies -----------------------------------------------------------------------------------------------------------


def test_a_proxy_is_asked_with_the_whole_url():
    with ScriptedHttp(serving(greeting)) as proxy:
        asker = Asker(proxy=f"http://user:canary@127.0.0.1:{proxy.port}")
        assert asker.get("http://far.example/a?b=c") == b"hello"
        assert proxy.asked[0].target == "http://far.example/a?b=c"
        assert proxy.asked[0].headers["proxy-authorization"] == "Basic dXNlcjpjYW5hcnk="
        asker.client.close()


@authorities
def test_a_proxy_makes_a_tunnel_for_tls(authority):
    tls = authority.server_context(host="far.example")

    def script(connection):
        asked = connection.request()
        assert asked.method == "CONNECT"
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        connection.secure(tls)
        connection.request()
        connection.answer(200, b"hello")

    with ScriptedHttp(script) as proxy:
        asker = Asker(proxy=f"http://127.0.0.1:{proxy.port}", trust=Trust(ca_file=authority.ca_file))
        assert asker.get("https://far.example/x") == b"hello"
        assert [asked.target for asked in proxy.asked] == ["far.example:443", "/x"]
        asker.client.close()


@pytest.mark.parametrize(("status", "error"), [(407, AuthError), (503, TransientError)])
def test_a_proxy_that_does_not_connect_is_named(status, error):
    with (
        ScriptedHttp(serving(lambda connection, asked, body: connection.answer(status))) as proxy,
        pytest.raises(error, match=f"the proxy 127.0.0.1:{proxy.port} does not connect to far.example"),
    ):
        Asker(proxy=f"http://127.0.0.1:{proxy.port}").get("https://far.example/")


def test_a_name_that_no_thread_can_look_up_is_a_passing_trouble(asker, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("pilot_core.api.web.dial.threading.Thread.start", start)
    with pytest.raises(TransientError, match="localhost cannot be looked up: can't start new thread"):
        asker.get("http://localhost:9/")
