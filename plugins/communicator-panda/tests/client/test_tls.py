"""Certificates, tokens, proxies: who is trusted, who we are, and what the environment has no say in."""

import base64
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from pilot_communicator_panda.settings import PandaSettings

from pilot_core import AuthError, BearerToken, ClientCertificate, CommunicationError, ConfigError, JobRequest, JobUpdate
from pilot_core.testing.scripted import Answer, ScriptedServer
from pilot_core.testing.tls import TestAuthority

OK = Answer({"success": True, "message": "", "data": {"StatusCode": 0, "command": "NULL"}})
NO_JOB = Answer({"success": False, "message": "No jobs in PanDA", "data": None})
RUNNING = JobUpdate(job_id=86, attempt=1, state="running")
ASK = JobRequest(queue="Q")
CANARY = "canary5d1f7c0ae2"
ONCE = PandaSettings(retry_budget=0, acquire_retry_budget=0, info_retry_budget=0)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    return TestAuthority(tmp_path_factory.mktemp("stranger"), "Other CA")


def certificate(files):
    return ClientCertificate(cert_file=files[0], key_file=files[-1])


def test_a_client_certificate_says_who_we_are(serve, client, limits, authority, held):
    server = serve(NO_JOB)
    client(server, credential=held(certificate(authority.client("pilot-7")))).acquire(ASK, **limits())
    assert server.requests[0].subject == "pilot-7"


def test_a_proxy_is_sent_with_its_chain(serve, client, limits, authority, held):
    server = serve(NO_JOB)
    proxy = authority.proxy("pilot-8")
    client(server, credential=held(certificate([proxy]))).acquire(ASK, **limits())
    assert server.requests[0].subject == "pilot-8/4711"


def test_a_renewed_certificate_is_used_at_once(serve, client, limits, authority, held):
    server = serve(OK)
    files = authority.client("first")
    ours = client(server, credential=held(certificate(files)))
    ours.update(RUNNING, **limits())
    ours.update(RUNNING, **limits())
    for old, new in zip(files, authority.client("second"), strict=True):
        new.replace(old)
    ours.update(RUNNING, **limits())
    assert [(r.subject, r.connection) for r in server.requests] == [("first", 0), ("first", 0), ("second", 1)]


def test_other_paths_mean_another_certificate(serve, client, limits, authority, held):
    server = serve(OK)
    source = held(certificate(authority.client("first")), certificate(authority.client("second")))
    ours = client(server, credential=source)
    ours.update(RUNNING, **limits())
    ours.update(RUNNING, **limits())
    assert [r.subject for r in server.requests] == ["first", "second"]


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("nobody", r"refuses the pilot's certificate: it is missing"),
        ("expired", r"refuses the pilot's certificate: it has expired .*; check --cert"),
        ("stranger", r"refuses the pilot's certificate: it comes from an authority that the server does not know"),
    ],
)
def test_a_certificate_that_the_server_refuses(serve, client, limits, request, held, who, message):
    authority, stranger = request.getfixturevalue("authority"), request.getfixturevalue("stranger")
    server = serve(NO_JOB, tls=authority.server_context(clients=authority, optional=False))
    files = {
        "nobody": lambda: None,
        "expired": lambda: authority.client("late", days=-1),
        "stranger": stranger.client,
    }[who]()
    credential = held(certificate(files)) if files else None
    for call in (
        lambda ours: ours.acquire(ASK, **limits()),
        lambda ours: ours.update(RUNNING, **limits()),
    ):
        with pytest.raises(AuthError, match=message) as caught:
            call(client(server, credential=credential))
        assert "\n" not in str(caught.value)
    assert server.requests == []


def test_a_refusal_that_was_lost_with_the_connection_is_asked_for(serve, client, limits, authority):
    """The server resets a new connection with our request unread, and its alert, if it sent one, is gone."""
    mute = authority.server_context()
    mute.num_tickets = 0
    server = serve(Answer(fault="reset"), tls=mute)
    strict = authority.server_context(clients=authority, optional=False)
    server.on_request = lambda _: setattr(server, "tls", strict)
    with pytest.raises(AuthError, match="refuses the pilot's certificate: it is missing"):
        client(server).acquire(ASK, **limits())
    assert server.connections == 2


def test_a_lost_connection_is_not_taken_for_a_refusal(serve, client, limits, authority, clock):
    mute = authority.server_context()
    mute.num_tickets = 0
    clock.patience = 0.2
    server = serve(Answer(fault="reset"), tls=mute)
    with pytest.raises(CommunicationError, match="closed the connection without an answer; a job may have been"):
        client(server).acquire(ASK, **limits())
    assert server.connections == 2
    assert len(server.requests) == 1


def test_certificate_files_that_cannot_be_used(serve, client, limits, authority, held, tmp_path):
    server = serve(NO_JOB)
    cert, key = authority.client()
    other = authority.client()[1]
    for files, message in (
        ([cert, other], "key values mismatch"),
        ([cert, cert], "check --cert and --key"),
        ([tmp_path / "none", key], "cannot read .*none: No such file or directory"),
    ):
        with pytest.raises(AuthError, match=message):
            client(server, credential=held(certificate(files))).acquire(ASK, **limits())


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("stranger", "is not trusted: its authority is not known here: give the authority with --ca-file"),
        ("expired", "is not trusted: it has expired: the server's administrators have to renew it"),
        ("other host", "is not trusted: it is for another host name: check the URL"),
    ],
)
def test_a_server_that_is_not_trusted_is_told_at_once(serve, client, limits, request, case, message):
    authority, stranger = request.getfixturevalue("authority"), request.getfixturevalue("stranger")
    tls = {
        "stranger": stranger.server_context,
        "expired": lambda: authority.server_context(days=-1),
        "other host": lambda: authority.server_context(host="elsewhere.example"),
    }[case]()
    server = serve(NO_JOB, tls=tls)
    with pytest.raises(CommunicationError, match=message) as caught:
        client(server).acquire(ASK, **limits())
    assert str(caught.value).startswith(f"acquire_jobs: the certificate of localhost:{server.port}")
    assert "\n" not in str(caught.value)
    assert server.connections == 1
    assert server.requests == []


def test_a_self_signed_certificate_says_so(serve, client, limits, authority, tmp_path):
    lonely = TestAuthority(tmp_path, "Lonely")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    combined = tmp_path / "server.pem"
    combined.write_bytes(lonely.ca_file.read_bytes() + lonely.key_pem())
    context.load_cert_chain(combined)
    with pytest.raises(CommunicationError, match="it is self-signed: give it with --ca-file"):
        client(serve(NO_JOB, tls=context)).acquire(ASK, **limits())


def test_the_systems_authorities_do_not_know_a_test_authority(serve, client, limits):
    with pytest.raises(CommunicationError, match="is not trusted: its authority is self-signed"):
        client(serve(NO_JOB), ca_file=None).acquire(ASK, **limits())


def test_authorities_may_be_a_directory_of_hashed_names(serve, client, limits, authority, tmp_path):
    name = subprocess.run(
        ["openssl", "x509", "-noout", "-hash", "-in", authority.ca_file], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / f"{name}.0").write_bytes(authority.ca_file.read_bytes())
    assert client(serve(NO_JOB), ca_file=tmp_path).acquire(ASK, **limits()) == []


@pytest.mark.parametrize(("content", "message"), [(None, "cannot read .*: No such file"), ("x", "no certificate .PEM")])
def test_a_ca_file_that_is_none(serve, client, limits, tmp_path, content, message):
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(ConfigError, match=rf"{message}.*; check --ca-file"):
        client(serve(NO_JOB), ca_file=file).acquire(ASK, **limits())


def test_plain_http_at_the_other_end_is_told(client, limits):
    with ScriptedServer(NO_JOB) as server, pytest.raises(CommunicationError, match="does not speak TLS: is this the p"):
        client(f"https://localhost:{server.port}").acquire(ASK, **limits())


def test_tls_at_the_other_end_of_plain_http_is_told(serve, client, limits):
    server = serve(NO_JOB)
    with pytest.raises(CommunicationError, match=r"closed the connection without an answer|is not HTTP"):
        client(f"http://localhost:{server.port}", ONCE).update(RUNNING, **limits())


def test_a_host_that_does_not_exist_is_told(client, limits, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # a real look-up would ask a name server, and tests stay on this machine
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(CommunicationError, match=r"cannot find the host 'no-such-host\.example' .*: check the URL"):
        client("https://no-such-host.example:25443", ONCE).acquire(ASK, **limits())


def test_a_connection_that_does_not_come_about_is_given_up(client, limits, clock):
    with socket.socket() as full:
        # a listener whose queue is full does not answer to a new connection at all
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            clock.patience = 0.05
            with pytest.raises(CommunicationError, match=rf"no connection to 127\.0\.0\.1:{port} within 30 s"):
                client(f"https://127.0.0.1:{port}", ONCE).acquire(ASK, **limits())


def test_a_handshake_that_does_not_end_is_given_up(client, limits, clock):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        clock.patience = 0.05
        with pytest.raises(CommunicationError, match="did not finish the TLS handshake within 30 s"):
            client(f"https://127.0.0.1:{mute.getsockname()[1]}", ONCE).acquire(ASK, **limits())


@pytest.mark.parametrize(
    "url",
    [
        "pandaserver",
        "pandaserver:25443",
        "ftp://host:1",
        "https://",
        "https://:25443",
        "https://host:port",
        "https://host:99999",
        "https://host:0",
        "https://ho st:1",
        "https://host:1?x=1",
        "https://host:1#x",
        f"https://user:{CANARY}@host:1",
        "https://a..b:1",
        "https://[::1",
        "https://[zz]:1",
        "https://h\u00f6st:1",
        "https://" + "x" * 64 + ":1",
        "https://host:1/\r\nX: 1",
    ],
)
def test_a_wrong_url_is_one_line_that_shows_a_right_one(client, url):
    with pytest.raises(ConfigError, match=r"write it as https://HOST:PORT") as caught:
        client(url)
    assert "\n" not in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_url_may_have_a_path(serve, client, limits):
    server = serve(NO_JOB)
    client(f"{server.url}/behind/").acquire(ASK, **limits())
    assert server.requests[0].path == "/behind/api/v1/pilot/acquire_jobs"


def test_a_numeric_host_is_verified_too(serve, client, limits):
    server = serve(NO_JOB)
    assert client(f"https://127.0.0.1:{server.port}").acquire(ASK, **limits()) == []


# -- tokens ------------------------------------------------------------------------------------------------------------


def token(value, source="/run/token"):
    return BearerToken(value=value, origin="wlcg.production", source=source)


DENIED = Answer("ERROR : Token authentication failed. Invalid token. Signature has expired", status=403)


def test_a_token_goes_with_its_origin(serve, client, limits, held):
    server = serve(NO_JOB)
    client(server, credential=held(token("abc"))).acquire(ASK, **limits())
    assert server.requests[0].headers["authorization"] == "Bearer abc"
    assert server.requests[0].headers["origin"] == "wlcg.production"


def test_a_token_that_was_renewed_meanwhile_is_tried_once_more(serve, client, limits, held):
    server = serve(DENIED, NO_JOB)
    source = held(token("old"), token("new"), token("new"))
    assert client(server, credential=source).acquire(ASK, **limits()) == []
    assert [r.headers["authorization"] for r in server.requests] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize("tokens", [["same"], ["old", "new"]])
def test_a_token_that_is_refused_names_its_file(serve, client, limits, held, tokens):
    server = serve(DENIED)
    source = held(*(token(value) for value in tokens))
    with pytest.raises(AuthError, match=r"Signature has expired; renew the token in /run/token"):
        client(server, credential=source).update(RUNNING, **limits())
    assert len(server.requests) == len(tokens)


def test_a_banned_user_is_told(serve, client, limits, authority, held):
    server = serve(Answer("someone is banned", status=403))
    with pytest.raises(AuthError, match="does not accept the credential: someone is banned"):
        client(server, credential=held(certificate(authority.client()))).update(RUNNING, **limits())


def test_no_credential_goes_over_plain_http(client, held):
    with pytest.raises(ConfigError, match="no credential is ever sent over plain http; write https://"):
        client("http://localhost:1", credential=held(token(CANARY)))


def test_secrets_are_in_no_log_and_no_error(serve, client, limits, held, caplog):
    caplog.set_level(logging.DEBUG)
    echo = Answer(f"ERROR : bad token {CANARY} in Bearer {CANARY}", status=500)
    secret = {"success": True, "data": {"StatusCode": 0, "command": "NULL", "pilotSecrets": {"a": f"{CANARY}2"}}}
    job = {"PandaID": 1, "transformation": "x", "secrets": f'{{"b": "{CANARY}3"}}'}
    server = serve(echo, Answer(secret), Answer({"success": True, "data": {"StatusCode": 0, "jobs": [job]}}), echo)
    ours = client(server, credential=held(token(CANARY)))
    answer = ours.update(RUNNING, **limits())
    (job,) = ours.acquire(ASK, **limits())
    with pytest.raises(CommunicationError) as caught:
        ours.acquire(ASK, **limits())
    assert job.secrets == {"b": f"{CANARY}3"}
    assert CANARY not in caplog.text + repr(answer) + repr(job) + str(caught.value) + repr(ours)
    assert "POST /api/v1/pilot/update_job: 200 in" in caplog.text


# -- the environment, and a proxy --------------------------------------------------------------------------------------


def test_the_environment_has_no_say(serve, client, limits, monkeypatch, tmp_path, held):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine localhost login eve password wrong\n")
    netrc.chmod(0o600)
    keys = tmp_path / "keys"
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, os.fspath(wrong))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NETRC", os.fspath(netrc))
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", os.fspath(keys))
    server = serve(NO_JOB)
    assert client(server, credential=held(token("abc"))).acquire(ASK, **limits()) == []
    assert server.requests[0].headers["authorization"] == "Bearer abc"
    assert not keys.exists()


def test_an_environment_that_trusts_a_stranger_does_not_make_us(serve, client, limits, monkeypatch, stranger):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, os.fspath(stranger.ca_file))
    server = serve(NO_JOB, tls=stranger.server_context())
    for ca_file in ({}, {"ca_file": None}):
        with pytest.raises(CommunicationError, match="is not trusted"):
            client(server, **ca_file).acquire(ASK, **limits())


class ForwardingProxy:
    """An HTTP proxy that tunnels one connection."""

    def __init__(self, reply=b"HTTP/1.1 200 OK\r\n\r\n"):
        self.reply = reply
        self.head = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.serve)]

    def __enter__(self):
        self.threads[0].start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        for thread in self.threads:
            thread.join()

    def serve(self):
        with self.listener.accept()[0] as near:
            while not self.head.endswith(b"\r\n\r\n"):
                self.head += near.recv(1)
            near.sendall(self.reply)
            if b"200" not in self.reply:
                return
            target = self.head.split()[1].decode().rpartition(":")
            with socket.create_connection((target[0], int(target[2]))) as far:
                back = threading.Thread(target=self.copy, args=(far, near))
                back.start()
                self.copy(near, far)
                back.join()

    @staticmethod
    def copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def test_a_proxy_of_our_own_settings_carries_tls_to_the_server(serve, client, limits, authority, held):
    server = serve(NO_JOB)
    with ForwardingProxy() as proxy:
        source = held(certificate(authority.client("through")))
        ours = client(server, proxy=f"http://us%40er:{CANARY}@{proxy.url}", credential=source)
        assert ours.acquire(ASK, **limits()) == []
        ours.close()
    assert proxy.head.startswith(f"CONNECT localhost:{server.port} HTTP/1.1\r\n".encode())
    basic = base64.b64encode(f"us@er:{CANARY}".encode()).decode()
    assert f"Proxy-Authorization: Basic {basic}\r\n".encode() in proxy.head
    assert server.requests[0].subject == "through"
    assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refuses a connection to localhost:.* .407."),
        (b"SMTP ready\r\n\r\n", "does not answer as one"),
    ],
)
def test_a_proxy_that_does_not_help_is_told(serve, client, limits, reply, message):
    server = serve(NO_JOB)
    with ForwardingProxy(reply) as proxy, pytest.raises(CommunicationError, match=message) as caught:
        client(server, ONCE, proxy=f"http://u:{CANARY}@{proxy.url}").acquire(ASK, **limits())
    assert CANARY not in str(caught.value)


def test_a_proxy_over_tls_is_a_configuration_error(serve, client):
    with pytest.raises(ConfigError, match="a proxy is reached over http://"):
        client(serve(NO_JOB), proxy="https://proxy.example:3128")


def test_importing_the_plugin_imports_nothing_of_the_network():
    code = "import sys, pilot_communicator_panda; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"ssl", "http.client", "requests", "socket"} & set(done.stdout.split())


def test_a_call_needs_no_library_beyond_the_standard_one(serve, client, limits):
    code = "import sys, pilot_communicator_panda.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"requests", "urllib3", "certifi", "asyncio", "encodings.idna"} & set(done.stdout.split())
