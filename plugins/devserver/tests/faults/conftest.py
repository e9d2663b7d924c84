"""Servers that do faults, and plain clients that see every byte of what comes of it."""

import socket
import ssl
from contextlib import closing

import pytest
from pilot_devserver.devserver import DevServer
from pilot_devserver.store_jobs import JobSpec

IS_ALIVE = b"GET /api/v1/system/is_alive HTTP/1.1\r\nHost: x\r\n\r\n"


def tls_context(server, certificate=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.ca_file)
    if certificate:
        context.load_cert_chain(certificate.cert_file, certificate.key_file)
    return context


def open_tls(server, certificate=None):
    """Return a TLS connection; whatever goes wrong on the way is raised."""
    plain = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    try:
        return tls_context(server, certificate).wrap_socket(
            plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
        )
    except BaseException:
        plain.close()
        raise


def until_end(connection):
    """Return all that comes, and how the connection ended: `end` (as TLS ends) or `reset`.

    OpenSSL does not tell a reset from an end without goodbye.
    """
    received = b""
    while True:
        try:
            piece = connection.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            return received, "reset"
        if not piece:
            return received, "end"
        received += piece


@pytest.fixture
def raw():
    """Send bytes to a server over a TLS connection of their own; return what comes back and how it ends."""

    def ask(server, data=IS_ALIVE, certificate=None):
        with closing(open_tls(server, certificate)) as connection:
            connection.sendall(data)
            return until_end(connection)

    return ask


@pytest.fixture
def one_job():
    """Put a job into the server's first queue; returns its id."""

    def submit(server, **values):
        [job] = server.store.submit([JobSpec(queue="Q1", transformation="/bin/true", **values)])
        return job

    return submit


@pytest.fixture
def serve_with(state_dir):
    """Start a server with options; it ends with the test."""
    servers = []

    def start(**options):
        servers.append(DevServer(state_dir, queues=("Q1", "Q2"), **options))
        return servers[-1].__enter__()

    yield start
    for server in servers:
        server.__exit__()
