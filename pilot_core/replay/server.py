"""A server on the loopback interface that plays the recorded answers, and the recorded failures."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from pilot_core.api.traffic import CALLED_OFF, NOT_CONNECTED, STALE, TIMED_OUT
from pilot_core.recording.har import unpacked
from pilot_core.replay.compare import Message

if TYPE_CHECKING:
    from pilot_core.recording.reading import RecordedExchange
    from pilot_core.replay.clock import ReplayClock
    from pilot_core.replay.script import Script

__all__ = ["ReplayServer"]

_OWN_HEADERS = frozenset({"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"})
"""Headers of a recorded answer that belong to its connection, not to it."""
_NO_ANSWER = b"the recording has no answer to this request"


class ReplayServer:
    """Plays a script on a port of its own. Its threads end with `close`."""

    def __init__(self, script: Script, clock: ReplayClock) -> None:
        self._script = script
        self._clock = clock
        self._lock = threading.Lock()
        # keeps the port while nothing listens there
        self._place = _bound(0)
        self.port: int = self._place.getsockname()[1]
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._closed = False
        self.attend()

    def attend(self) -> None:
        """Listen, but for the time before an exchange that found no connection."""
        upcoming = self._script.next()
        wanted = not self._closed and (upcoming is None or upcoming.failure != NOT_CONNECTED)
        with self._lock:
            if wanted and self._listener is None:
                self._listener = _bound(self.port)
                self._listener.listen()
                threading.Thread(target=self._accept, args=(self._listener,), name="replay", daemon=True).start()
            elif not wanted and self._listener is not None:
                _shut(self._listener)
                self._listener = None

    def close(self) -> None:
        """End it, and every connection."""
        self._closed = True
        self.attend()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._place.close()

    def _accept(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, address), name="replay", daemon=True).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        """Serve one connection."""
        try:
            with contextlib.suppress(OSError):
                _Handler(connection, address, self._play, self._next_is_stale)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _next_is_stale(self) -> bool:
        """Say whether the next request has to go over a kept connection, which is closed then."""
        upcoming = self._script.next()
        return upcoming is not None and upcoming.failure == STALE

    def _play(self, message: Message) -> RecordedExchange | None:
        """Find the answer, and let it be the time that it was then."""
        found = self._script.answer(message)
        if found is not None:
            self._clock.reach(found.ended)
            if found.failure == TIMED_OUT:
                self._clock.let_time_run_out()
            elif found.failure == CALLED_OFF:
                self._clock.nothing_comes()
        return found


class _Handler(BaseHTTPRequestHandler):
    """Reads requests off one connection and plays what the script says."""

    protocol_version = "HTTP/1.1"

    def __init__(
        self,
        connection: socket.socket,
        address: Any,
        play: Callable[[Message], RecordedExchange | None],
        keeps: Callable[[], bool],
    ) -> None:
        self._play = play
        self._keeps = keeps
        super().__init__(connection, address, None)  # type: ignore[arg-type]

    def handle_one_request(self) -> None:
        """Read a request, whatever its method, and play the answer."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self._play(Message(self.command, self.path, tuple(self.headers.items()), unpacked(body)))
        # a new connection for every request, but for one that has to turn out to be closed
        self.close_connection = not self._keeps()
        if found is None:
            self._answer(404, "Not Found", (("Content-Type", "text/plain"),), _NO_ANSWER)
        elif found.status:
            self._answer(found.status, found.reason, found.answer_headers, found.answer)
        elif found.failure in {TIMED_OUT, CALLED_OFF}:
            # until the pilot has had enough
            self.rfile.read(1)
            self.close_connection = True
        else:
            self.close_connection = True
            # a reset, not a polite end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_: Any) -> None:
        """Keep still."""

    def _answer(self, status: int, reason: str, headers: Any, body: bytes) -> None:
        """Send an answer."""
        lines = [f"HTTP/1.1 {status} {reason}"]
        lines += [f"{name}: {value}" for name, value in headers if name.lower() not in _OWN_HEADERS]
        lines += [f"Content-Length: {len(body)}", *(["Connection: close"] if self.close_connection else []), "", ""]
        self.wfile.write("\r\n".join(lines).encode("latin-1", "replace") + body)


def _bound(port: int) -> socket.socket:
    """Return a socket at a port of the loopback interface that several of ours may share."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", port))
    except OSError:
        made.close()
        raise
    return made


def _shut(listener: socket.socket) -> None:
    """Close a listening socket in whose `accept` a thread waits."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
