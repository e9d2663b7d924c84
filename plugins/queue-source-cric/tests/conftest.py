"""Real servers on loopback, with and without TLS, that serve documents."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import logging
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pilot_queue_source_cric import pilot_queue_sources

from pilot_core import CancelToken, Context, Deadline, SystemClock


class Site:
    """A server whose answers a test sets: path -> (status, body) or a list of these, used up one by one."""

    def __init__(self, server, scheme):
        self.answers = {}
        self.requests = []
        self.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"

    def serve(self, path, value, status=200):
        self.answers[path] = [(status, value)]

    def answer(self, path):
        answers = self.answers.get(path, [(404, "not found")])
        status, value = answers.pop(0) if len(answers) > 1 else answers[0]
        return status, value if isinstance(value, bytes) else json.dumps(value).encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        site.requests.append((self.path, dict(self.headers)))
        status, body = site.answer(self.path)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        if status in {301, 302}:
            self.send_header("Location", body.decode().strip('"'))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that does not trust the server ends the handshake: nothing to report."""


def run(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    return thread


def stop(server, thread):
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def site():
    """A server without TLS."""
    server = Server(("127.0.0.1", 0), Handler)
    server.site = Site(server, "http")
    thread = run(server)
    yield server.site
    stop(server, thread)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=24))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def secure_site(certificate):
    """A server with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.site = Site(server, "https")
    thread = run(server)
    yield server.site
    stop(server, thread)


@pytest.fixture
def make_source(tmp_path):
    """Make the source as the core does: settings and context."""

    def make(settings=None, **context):
        (provider,) = pilot_queue_sources()
        context = {"clock": SystemClock(scale=1000), "log": logging.getLogger("test"), "work_dir": tmp_path} | context
        return provider.factory(provider.settings(**(settings or {})), Context(**context))

    return make


@pytest.fixture
def ask():
    """Ask a source for a queue."""

    def asked(source, name="HERE", cancel=None, seconds=100_000.0):
        clock = SystemClock(scale=1000)
        return source.queue(name, cancel=cancel or CancelToken(), deadline=Deadline.after(clock, seconds))

    return asked
