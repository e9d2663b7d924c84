"""A real HTTP server on loopback that answers what a test tells it to, faults included."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Received", "ScriptedServer"]


@dataclass(frozen=True)
class Answer:
    """One scripted answer."""

    body: bytes | str | dict[str, Any] | list[Any] = b""
    """An object or a list is sent as JSON."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    """`close` and `reset`: the connection ends without an answer; `hang`: no answer until the server is closed;
    `cut`: half of the body, then the connection ends; `raw`: the body is all that is sent; `last`: a good answer, but
    the connection is closed after it without notice; `chunked`: the body in chunks."""

    def content(self) -> bytes:
        """Return the body's bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    connection: int
    """Number of the connection, from 0."""
    subject: str
    """Common names of the client's certificate, joined by a slash; empty without one."""

    def json(self) -> Any:
        """Return the body's JSON, unpacked if it is gzip."""
        return json.loads(gzip.decompress(self.body) if self.body[:2] == b"\x1f\x8b" else self.body)


class ScriptedServer:
    """Listens on a free port of 127.0.0.1 from the start; use it in a `with` block.

    Answers are given in the order of `script`, whichever connection asks; past its end the last one is repeated.
    """

    def __init__(self, *script: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.script = deque(script)
        self.requests: list[Received] = []
        self.connections = 0
        self.handshake_errors: list[str] = []
        self.on_request: Callable[[Received], None] | None = None
        """Called, in the connection's thread, when a request has come in and before it is answered."""
        self.tls = tls
        """The context of connections from now on; None = plain http."""
        self._last = Answer(status=500, body="nothing scripted")
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """The base URL, with the host name localhost."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def __enter__(self) -> ScriptedServer:  # noqa: PYI034  (Self is in typing from 3.11 on)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self.connections += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        """Answer the requests of one connection."""
        connection = raw
        try:
            if self.tls:
                connection = self.tls.wrap_socket(raw, server_side=True)
                with self._lock:
                    self._open.discard(raw)
                    self._open.add(connection)
            with connection.makefile("rb") as stream:
                while self._one(connection, stream, number):
                    pass
        except ssl.SSLError as error:
            self.handshake_errors.append(error.reason or str(error))
        except OSError:
            pass  # the client went away, or the server is being closed
        finally:
            with self._lock:
                self._open -= {raw, connection}
            connection.close()
            raw.close()

    def _one(self, connection: socket.socket, stream: io.BufferedIOBase, number: int) -> bool:
        """Answer one request; False when the connection is to end."""
        first = stream.read(1)
        if (
            first == b"\x16"
        ):  # a TLS handshake at a port for plain http: what servers say to what they do not understand
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return False
        line = (first + stream.readline()).decode("latin-1").split()
        if len(line) != 3:
            return False
        headers = {name.lower(): value for name, value in http.client.parse_headers(stream).items()}
        body = stream.read(int(headers.get("content-length", "0")))
        subject = ""
        if isinstance(connection, ssl.SSLSocket):
            names = (connection.getpeercert() or {}).get("subject", ())
            subject = "/".join(str(pair[1]) for group in names for pair in group)
        with self._lock:
            received = Received(line[0], line[1], headers, body, number, subject)
            self.requests.append(received)
            if self.script:
                self._last = self.script.popleft()
            answer = self._last
        if self.on_request is not None:
            self.on_request(received)
        return self._send(connection, answer)

    def _send(self, connection: socket.socket, answer: Answer) -> bool:
        """Send an answer, or do what else it says; False when the connection is to end."""
        if answer.fault == "hang":
            self._closing.wait()
            return False
        if answer.fault == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if answer.fault in {"close", "reset"}:
            return False
        body = answer.content()
        if answer.fault == "raw":
            connection.sendall(body)
            return False
        headers = {"Content-Type": "text/plain", **answer.headers}
        headers |= {"Transfer-Encoding": "chunked"} if answer.fault == "chunked" else {"Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if answer.fault == "cut":
            body = body[: len(body) // 2]
        if answer.fault == "chunked":
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        connection.sendall(f"HTTP/1.1 {answer.status} X\r\n{head}\r\n".encode("latin-1") + body)
        return answer.fault not in {"cut", "last"}
