"""A server that speaks just enough of the XRootD protocol to answer as a test says: what real ones cannot be made to.

The protocol: "XRootD Protocol Version 5.2.0" and XProtocol.hh. All numbers are big-endian; a request is 24 bytes and
its data, an answer 8 bytes and its data.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Answer", "Request", "ScriptedXrootd", "error", "redirect", "silence", "wait"]

OK, ERROR, REDIRECT, WAIT, SILENCE = 0, 4003, 4004, 4005, -1
AUTH, PROTOCOL, LOGIN = 3000, 3006, 3007
IS_SERVER, HAVE_TLS, GOTO_TLS = 0x1, 0x80000000, 0x40000000
VERSION = 0x00000520
NAMES = {3001: "query", 3003: "close", 3009: "mv", 3010: "open", 3013: "read", 3014: "rm", 3016: "sync", 3017: "stat"}


@dataclass(frozen=True)
class Request:
    """What a client asks, once it is logged in."""

    name: str
    """`open`, `stat`, `query` ..., or the number of what has no name here."""
    path: str
    """Path, and options behind a question mark."""


@dataclass(frozen=True)
class Answer:
    """What it is told."""

    status: int = OK
    body: bytes = b""


def error(code: int, text: str = "because the test says so") -> Answer:
    """Return a refusal with a kXR_ code."""
    return Answer(ERROR, struct.pack(">i", code) + text.encode() + b"\0")


def redirect(port: int, host: str = "127.0.0.1") -> Answer:
    """Return the order to ask somebody else."""
    return Answer(REDIRECT, struct.pack(">i", port) + host.encode())


def wait(seconds: int) -> Answer:
    """Return the order to ask again later."""
    return Answer(WAIT, struct.pack(">i", seconds))


def silence() -> Answer:
    """Return no answer at all."""
    return Answer(SILENCE)


class ScriptedXrootd:
    """Listens on a free port of 127.0.0.1; use it in a `with` block. `answer` is called for each request.

    With `tls` everything after the first words is encrypted. With `token` clients have to log in (ztn): it is called
    with what they offer, and says whether that will do.
    """

    def __init__(
        self,
        answer: Callable[[Request], Answer],
        *,
        tls: ssl.SSLContext | None = None,
        token: Callable[[str], bool] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self._answer = answer
        self._tls = tls
        self._token = token
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'roots' if self._tls else 'root'}://localhost:{self.port}/"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError, ssl.SSLError):
            try:
                self._talk(connection)
            finally:
                with self._lock:
                    self._sockets.discard(connection)
                connection.close()

    def _talk(self, connection: socket.socket) -> None:
        _take(connection, 20)
        _send(connection, b"\0\0", Answer(OK, struct.pack(">ii", VERSION, 1)))
        talking = connection
        try:
            while True:
                stream, number, parameters, data = _request(talking)
                if number == PROTOCOL:
                    flags = IS_SERVER | (HAVE_TLS | GOTO_TLS if self._tls else 0)
                    _send(talking, stream, Answer(OK, struct.pack(">iI", VERSION, flags)))
                    if self._tls and talking is connection:
                        talking = self._tls.wrap_socket(connection, server_side=True)
                elif number == LOGIN:
                    wanted = b"&P=ztn,0:4096:\0" if self._token else b""
                    _send(talking, stream, Answer(OK, bytes(16) + wanted))
                elif number == AUTH:
                    _send(talking, stream, self._judge(parameters, data))
                else:
                    path = data.rstrip(b"\0").decode("utf-8", "replace")
                    request = Request(NAMES.get(number, str(number)), path)
                    self.requests.append(request)
                    _send(talking, stream, self._answer(request))
        finally:
            if talking is not connection:
                talking.close()

    def _judge(self, parameters: bytes, data: bytes) -> Answer:
        """Answer a login: 8 bytes of header, the token's length, and the token with a NUL behind it."""
        (length,) = struct.unpack(">H", data[8:10])
        token = data[10 : 10 + length].rstrip(b"\0").decode("utf-8", "replace")
        good = parameters[12:15] == b"ztn" and self._token is not None and self._token(token)
        return Answer() if good else error(3030, "the token will not do")


def _request(connection: socket.socket) -> tuple[bytes, int, bytes, bytes]:
    """Read a request: its stream, number, parameters and data."""
    head = _take(connection, 24)
    (number,), (length,) = struct.unpack(">H", head[2:4]), struct.unpack(">i", head[20:24])
    return head[:2], number, head[4:20], _take(connection, length)


def _take(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _send(connection: socket.socket, stream: bytes, answer: Answer) -> None:
    if answer.status != SILENCE:
        connection.sendall(stream + struct.pack(">Hi", answer.status, len(answer.body)) + answer.body)
