"""A server on loopback that does to each HTTP connection what a test's script says: cuts, stalls, lies, early answers.

Real servers cannot be made to misbehave at byte N. This one reads no body that the script does not ask for, and sends
no `100 Continue` by itself, so a test sees what a client does then.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event, SystemClock

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self

__all__ = ["Asked", "Connection", "ScriptedHttp"]

PIECE_SECONDS = 0.002
"""Pause after each piece of what drips."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The head of a request."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    connection: int = 0
    """1 for the first connection to the server."""

    @property
    def length(self) -> int:
        """The Content-Length; 0 if there is none."""
        return int(self.headers.get("content-length", 0))


class Gone(Exception):
    """The client has closed the connection."""


class Connection:
    """One connection, for a script. Its methods raise `Gone` or `OSError` when the client has gone: let them."""

    def __init__(self, channel: socket.socket, number: int, released: Event, asked: Callable[[Asked], None]) -> None:
        self.number = number
        self._channel = channel
        self._stream: io.BufferedReader = channel.makefile("rb")
        self._released = released
        self._asked = asked
        self._clock = SystemClock()

    def request(self) -> Asked:
        """Wait for the head of the next request."""
        line = self._stream.readline(65536).decode("latin-1").split()
        if len(line) != 3:
            raise Gone
        parsed = http.client.parse_headers(self._stream)
        headers = {name.lower(): ", ".join(parsed.get_all(name) or ()) for name in parsed}
        asked = Asked(method=line[0], target=line[1], headers=headers, connection=self.number)
        self._asked(asked)
        return asked

    def body(self, length: int) -> bytes:
        """Read so much of a request's body."""
        data = self._stream.read(length)
        if len(data) < length:
            raise Gone
        return data

    def rest(self) -> bytes:
        """Read what the client sends until it closes the connection."""
        return self._stream.read()

    def send(self, data: bytes, *, piece: int = 0) -> None:
        """Send bytes as they are; `piece` of them at a time, with pauses, if that is given."""
        for start in range(0, len(data), piece or len(data) or 1):
            self._channel.sendall(data[start : start + (piece or len(data))])
            if piece:
                self._clock.wait(self._released, until=self._clock.monotonic() + PIECE_SECONDS)

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer; `headers` may replace the Content-Length."""
        fields = {"Content-Length": str(len(body)), **(headers or {})}
        reason = http.client.responses.get(status, "")
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + body)

    def secure(self, tls: ssl.SSLContext) -> None:
        """Begin TLS on the connection, as the server behind a proxy's tunnel does."""
        self._stream.close()
        self._channel = tls.wrap_socket(self._channel, server_side=True)
        self._stream = self._channel.makefile("rb")

    def stall(self) -> None:
        """Neither say nor hear anything more until the server is closed."""
        self._clock.wait(self._released)

    def reset(self) -> None:
        """End the connection with a RST, in the place of a FIN, when the script returns."""
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def end(self) -> None:
        """Close the connection; called when the script returns."""
        with contextlib.suppress(OSError):
            self._stream.close()
        self._channel.close()


class ScriptedHttp:
    """Calls `script` with each connection, in a thread of its own; use it in a `with` block.

    `port` is where another one was before: a server that was restarted.
    """

    def __init__(
        self, script: Callable[[Connection], None], *, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self._script = script
        self._tls = tls
        self._lock = threading.Lock()
        self._released = Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.asked: list[Asked] = []
        """The heads of all requests, in the order in which they came."""
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{self.port}"
        """Without a slash at its end."""

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        with self._lock:
            channels = list(self._open)
        for channel in channels:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(channel, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def methods(self) -> list[str]:
        """Return the methods of the requests that came."""
        return [asked.method for asked in list(self.asked)]

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="scripted-http", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        clock, number = SystemClock(), 0
        while True:
            clock.wait(self._released, self._listener)
            if self._released.is_set():
                return
            with contextlib.suppress(OSError):
                channel, _ = self._listener.accept()
                number += 1
                with self._lock:
                    self._open.add(channel)
                self._start(self._serve, channel, number)

    def _serve(self, channel: socket.socket, number: int) -> None:
        plain = channel
        try:
            channel.setblocking(True)
            if self._tls is not None:
                channel = self._tls.wrap_socket(channel, server_side=True)
                with self._lock:
                    self._open.add(channel)
            connection = Connection(channel, number, self._released, self.asked.append)
            try:
                self._script(connection)
            finally:
                connection.end()
        except (Gone, OSError, ValueError, http.client.HTTPException):
            return
        finally:
            with self._lock:
                self._open -= {plain, channel}
            channel.close()
            plain.close()
