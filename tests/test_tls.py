"""The TLS socket of connections that end before TLS begins."""

import os
import select
import socket
import ssl
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from pilot_core.api.tls import TlsSocket
from pilot_core.testing.tls import TestAuthority


def reset_connection():
    """Return a connection that the other side has reset."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
    select.select([here], [], [], 10)
    return here


@pytest.mark.parametrize("side", [ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER])
def test_a_connection_that_was_reset_before_tls_is_closed_at_once(side):
    context = ssl.SSLContext(side)
    context.sslsocket_class = TlsSocket
    plain = reset_connection()
    number = plain.fileno()
    server = side == ssl.PROTOCOL_TLS_SERVER
    with pytest.raises(ConnectionResetError) as caught:
        context.wrap_socket(plain, server_side=server, server_hostname=None if server else "x")
    # the error holds on to the frames, so nothing was collected yet
    assert caught.value.__traceback__ is not None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_connection_that_lives_does_its_handshake(tmp_path):
    authority = TestAuthority(tmp_path)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = TlsSocket
    context.load_verify_locations(authority.ca_file)
    with ThreadPoolExecutor() as pool:
        served = pool.submit(authority.server_context().wrap_socket, there, server_side=True)
        with context.wrap_socket(here, server_hostname="127.0.0.1") as client, served.result() as server:
            client.sendall(b"hello")
            assert server.recv(10) == b"hello"
            assert isinstance(server, TlsSocket)
            assert client.getpeername()[0] == "127.0.0.1"
