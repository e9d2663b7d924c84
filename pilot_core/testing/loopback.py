"""A small HTTP/1.1 server on loopback for tests, which can do to a connection whatever a network does to it."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event, SystemClock

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["HttpRequest", "Loopback", "Reaction", "response_bytes"]

LARGEST = 256 * 1024**2
"""Bytes of a request's body."""
PIECE_SECONDS = 0.002
"""Pause between the pieces of an answer that drips."""
ENDLESS_SECONDS = 0.05
_PATIENCE = 10.0


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """One request as it came in, whole."""

    method: str
    target: str
    """Path and query, undecoded."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""
    secure: bool = False
    """Whether it came over TLS."""


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """What goes out in answer to a request, and what then becomes of the connection."""

    data: bytes = b""
    then: str = "keep"
    """`keep`, `close` (with a FIN), `reset` (with a RST), `hang` (silent until it is let go, then closed)."""
    piece: int = 0
    """Bytes to send at a time, with a pause after each; 0 = all at once."""
    endless: bytes = b""
    """What is sent again and again after the data, until it is let go."""


def response_bytes(status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a response as it goes over the wire; `headers` may replace those that are made here."""
    reason = http.client.responses.get(status, "")
    told = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Loopback:
    """Listens on a free port of 127.0.0.1, one thread a connection; use it in a `with` block.

    `answer` is called for each whole request in the connection's thread.
    """

    def __init__(
        self, answer: Callable[[HttpRequest], Reaction], *, tls: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        self._answer = answer
        self._tls = tls
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._ended = Event()
        self._released = Event()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._waiters: list[tuple[int, Event]] = []
        self._seen: list[str] = []
        self._count = 0
        self._listener = _bound(0)
        self.port: int = self._listener.getsockname()[1]
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def requests(self) -> int:
        """How many whole requests came in and were looked at."""
        with self._lock:
            return self._count

    def seen(self) -> str:
        """Return the first lines and headers of all requests as one text."""
        with self._lock:
            return "\n".join(self._seen)

    def await_requests(self, count: int) -> None:
        """Return once so many requests came in; raises `TimeoutError` after ten seconds."""
        reached = Event()
        with self._lock:
            if self._count >= count:
                return
            self._waiters.append((count, reached))
        if not self._clock.wait(reached, until=self._clock.monotonic() + _PATIENCE):
            raise TimeoutError(f"{self.requests} requests came in, not {count}")

    def refuse(self) -> None:
        """Refuse new connections and end the open ones, until `heal`; the port stays ours."""
        self._stop_listening()
        self._drop_connections()
        self._listener = _bound(self.port)

    def heal(self) -> None:
        """Listen again, and let go of the connections that hang."""
        with self._lock:
            released, self._released = self._released, Event()
        released.set()
        if self._ended.is_set():
            self._ended = Event()
            self._listen()

    def close(self) -> None:
        """End every connection and thread."""
        if not self._ended.is_set():
            self._stop_listening()
        self._listener.close()
        self._released.set()
        self._drop_connections()
        while True:
            with self._lock:
                threads = set(self._threads)
            if not threads:
                return
            for thread in threads:
                thread.join()

    # -- connections ---------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._listener.listen(64)
        self._start(self._accept, self._listener, self._ended)

    def _stop_listening(self) -> None:
        self._ended.set()
        with self._lock:
            accepting = [thread for thread in self._threads if thread.name == "loopback-accept"]
        for thread in accepting:
            thread.join()
        self._listener.close()

    def _drop_connections(self) -> None:
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                # the plain socket's method: that of a TLS socket would disturb the thread that reads from it
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            try:
                target(*arguments)
            finally:
                with self._lock:
                    self._threads.discard(thread)

        name = "loopback-accept" if target == self._accept else "loopback-connection"
        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _accept(self, listener: socket.socket, ended: Event) -> None:
        while True:
            self._clock.wait(ended, listener)
            if ended.is_set():
                return
            try:
                connection, _ = listener.accept()
            except OSError:
                continue
            with self._lock:
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        """Answer what comes on one connection until it ends."""
        channel = connection
        try:
            if self._tls is not None:
                channel = self._secured(connection)
            # a stream that stays open would keep the connection open, whatever is closed otherwise
            with channel.makefile("rb") as stream:
                self._converse(channel, stream)
        except (OSError, ValueError, http.client.HTTPException):
            return
        finally:
            with self._lock:
                self._open -= {channel, connection}
            channel.close()
            connection.close()

    def _converse(self, channel: socket.socket, stream: io.BufferedIOBase) -> None:
        """Answer request after request."""
        while True:
            request = _read_request(channel, stream, secure=self._tls is not None)
            if request is None:
                return
            released = self._released
            reaction = self._answer(request)
            # whoever waits for the request may count on it that its fate is decided, and let it go at once
            self._note(request)
            if not self._react(channel, reaction, released):
                return

    def _secured(self, connection: socket.socket) -> socket.socket:
        assert self._tls is not None  # noqa: S101  (asked before)
        channel = self._tls().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.discard(connection)
            self._open.add(channel)
        try:
            channel.do_handshake()
        except BaseException:
            with self._lock:
                self._open.discard(channel)
            channel.close()
            raise
        return channel

    def _note(self, request: HttpRequest) -> None:
        headers = "".join(f"\n{name}: {value}" for name, value in request.headers.items())
        with self._lock:
            self._count += 1
            self._seen.append(f"{request.method} {request.target}{headers}")
            reached = [event for count, event in self._waiters if count <= self._count]
        for event in reached:
            event.set()

    def _react(self, channel: socket.socket, reaction: Reaction, released: Event) -> bool:
        """Send what is due; say whether the connection is kept."""
        step = reaction.piece or len(reaction.data) or 1
        for start in range(0, len(reaction.data), step):
            channel.sendall(reaction.data[start : start + step])
            if reaction.piece:
                self._clock.wait(released, until=self._clock.monotonic() + PIECE_SECONDS)
        while reaction.endless and not released.is_set():
            channel.sendall(reaction.endless)
            self._clock.wait(released, until=self._clock.monotonic() + ENDLESS_SECONDS)
        if reaction.then == "hang":
            self._clock.wait(released, channel)
        if reaction.then == "reset":
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return reaction.then == "keep" and not reaction.endless


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.setblocking(False)
    return listener


def _read_request(channel: socket.socket, stream: io.BufferedIOBase, *, secure: bool) -> HttpRequest | None:
    """Read one request; None if the client has closed the connection, or says what is no HTTP."""
    line = stream.readline(65536).decode("latin-1").split()
    if len(line) != 3 or not line[2].startswith("HTTP/1."):
        return None
    parsed = http.client.parse_headers(stream)
    headers = {name.lower(): ", ".join(parsed.get_all(name) or ()) for name in parsed}
    if headers.get("expect", "").lower() == "100-continue":
        channel.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = headers.get("content-length", "")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _read_chunks(stream)
    else:
        wanted = int(length or 0)
        body = stream.read(min(wanted, LARGEST))
        if len(body) < wanted:
            return None
    return HttpRequest(method=line[0], target=line[1], headers=headers, body=body, secure=secure)


def _read_chunks(stream: io.BufferedIOBase) -> bytes:
    body = bytearray()
    while size := int(stream.readline(100).partition(b";")[0], 16):
        body += stream.read(size)
        stream.readline(100)
        if len(body) > LARGEST:
            raise ValueError("the body is too large")
    while stream.readline(65536).strip():
        pass
    return bytes(body)
