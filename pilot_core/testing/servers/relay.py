"""Stands between a client and a real server on loopback, and does to the connection what a network may do to it."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Relay", "Trouble"]

PIECE = 65536


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What is to go wrong."""

    kind: str
    """`stall` (nothing moves any more), `cut` (the connection is reset), `end` (it is closed in good order)."""
    after: int = 0
    """Bytes that still pass, counted over all connections from now on."""
    way: str = "down"
    """Whose bytes are counted: `down` = the server's, `up` = the client's."""
    times: int = 1
    """How many connections it strikes, 0 for all; then all is well again. Those after the first have no bytes left."""


@dataclass(eq=False)
class _Way:
    """One direction of a connection."""

    source: socket.socket
    target: socket.socket
    down: bool
    pending: bytearray = field(default_factory=bytearray)
    ended: bool = False
    stalled: bool = False


class Relay:
    """Listens on a free port of 127.0.0.1 (`port`) for a server on another one; use it in a `with` block."""

    def __init__(self, server_port: int, trouble: Trouble | None = None) -> None:
        """`trouble` is what goes wrong from the beginning."""
        self._server = ("127.0.0.1", server_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        """How many came in so far."""
        self.answered = 0
        """Bytes of the server's that were passed on, or are about to be."""
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._trouble = trouble
        self._left = trouble.after if trouble else 0
        self._struck = 0
        self._refusing = False
        self._ended = False
        self._ways: dict[socket.socket, _Way] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def bring(self, trouble: Trouble) -> None:
        """Have something go wrong, in the place of what was to go wrong before."""
        with self._lock:
            self._trouble, self._left, self._struck = trouble, trouble.after, 0

    def refuse(self) -> None:
        """From now on the server is down: connections are reset, and new ones are closed at once."""
        with self._lock:
            self._refusing = True
        os.eventfd_write(self._wake, 1)

    def heal(self) -> None:
        """Have all go well again; what stalls goes on."""
        with self._lock:
            self._trouble, self._refusing = None, False
        os.eventfd_write(self._wake, 1)

    # -- the loop, in a thread of its own ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                events = self._selector.select()
                with self._lock:
                    if self._ended:
                        return
                    for key, mask in events:
                        self._react(key, mask)
        finally:
            for way in list(self._ways.values()):
                way.source.close()
            self._listener.close()
            self._selector.close()

    def _react(self, key: selectors.SelectorKey, mask: int) -> None:
        """Do what is due for one descriptor."""
        if key.fileobj == self._wake:
            os.eventfd_read(self._wake)
            self._change()
        elif key.fileobj is self._listener:
            self._accept()
        elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._ways:
            way = self._ways[key.fileobj]
            if mask & selectors.EVENT_WRITE:
                self._flush(self._ways[way.target])
            if mask & selectors.EVENT_READ and key.fileobj in self._ways:
                self._take(way)

    def _change(self) -> None:
        """Look at connections again after `refuse` or `heal`."""
        for way in list(self._ways.values()):
            if self._refusing:
                self._close(way, reset=True)
            elif way.stalled:
                way.stalled = False
                self._watch(way)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.connections += 1
        if self._refusing:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            return
        for source, target, down in ((client, server, False), (server, client, True)):
            source.setblocking(False)
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ways[source] = _Way(source, target, down)
            self._selector.register(source, selectors.EVENT_READ)

    def _take(self, way: _Way) -> None:
        """Take what came from one side."""
        try:
            data = way.source.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            self._close(way, reset=True)
            return
        trouble = self._trouble
        if trouble is not None and (trouble.way == "down") == way.down and data:
            allowed, self._left = data[: self._left], max(0, self._left - len(data))
            if len(allowed) < len(data):
                self._strike(way, trouble, allowed)
                return
        self._pend(way, data)
        way.ended = way.ended or not data
        self._flush(way)

    def _strike(self, way: _Way, trouble: Trouble, allowed: bytes) -> None:
        """Let go wrong what is to go wrong."""
        self._struck += 1
        if self._struck == trouble.times:
            self._trouble = None
        self._pend(way, allowed)
        self._flush(way)
        if way.source not in self._ways:
            return
        if trouble.kind == "stall":
            way.stalled = True
            self._watch(way)
        else:
            self._close(way, reset=trouble.kind == "cut")

    def _pend(self, way: _Way, data: bytes) -> None:
        """Have bytes passed on."""
        way.pending += data
        self.answered += len(data) if way.down else 0

    def _flush(self, way: _Way) -> None:
        """Pass on what is pending."""
        try:
            while way.pending:
                del way.pending[: way.target.send(way.pending)]
        except BlockingIOError:
            pass
        except OSError:
            self._close(way, reset=True)
            return
        if way.ended and not way.pending:
            with contextlib.suppress(OSError):
                way.target.shutdown(socket.SHUT_WR)
            if self._ways[way.target].ended:
                self._close(way, reset=False)
                return
        self._watch(way)
        self._watch(self._ways[way.target])

    def _watch(self, way: _Way) -> None:
        """Wait for what comes from one side, unless the other has to take something first, and for its taking."""
        reads = not (way.ended or way.stalled or way.pending)
        writes = bool(self._ways[way.target].pending)
        events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
        with contextlib.suppress(KeyError):
            self._selector.unregister(way.source)
        if events:
            self._selector.register(way.source, events)

    def _close(self, way: _Way, *, reset: bool) -> None:
        """End both sides of a connection."""
        for one in (way.source, way.target):
            if self._ways.pop(one, None) is None:
                continue
            with contextlib.suppress(KeyError):
                self._selector.unregister(one)
            if reset:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
