"""A wire between a client and a real server that breaks, or falls silent, after so many bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Wire"]

PIECE = 1 << 16


class Wire:
    """Listens on a free port of 127.0.0.1 and passes everything on to `port`; use it in a `with` block.

    `after` bytes of answers in all it does what `then` says: `stall` (nothing more passes, in either direction,
    connections stay), `cut` (connections are reset, new ones too), `break` (connections are reset, once, and new ones
    work). `upstream` counts the bytes that go to the server instead. Without `after` it passes everything.
    """

    def __init__(self, port: int, *, after: int | None = None, then: str = "stall", upstream: bool = False) -> None:
        self.passed = 0
        """Bytes of answers (or, `upstream`, of requests) that have passed."""
        self.received = 0
        """Bytes of answers that have passed in all, also behind the fault."""
        self.connections = 0
        self._target = port
        self._after = after
        self._then = then
        self._upstream = upstream
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """Where it listens."""
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections, and listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """End all connections now."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                broken = self._then == "cut" and self._over()
            server = None
            if not broken:
                with contextlib.suppress(OSError):
                    server = socket.create_connection(("127.0.0.1", self._target))
            if server is None:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, server}
            for source, target, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, target, answers), daemon=True).start()

    def _over(self) -> bool:
        return self._after is not None and self.passed >= self._after

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        """Pass on what comes from a socket until one of the two has ended."""
        counts = answers is not self._upstream
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                with self._lock:
                    stalled = self._then == "stall" and self._over()
                    if counts and self._after is not None and not self._over():
                        data = data[: self._after - self.passed]
                        self.passed += len(data)
                        due = self._over()
                    else:
                        due = False
                if stalled:
                    continue
                if answers:
                    self.received += len(data)
                target.sendall(data)
                if due and self._then != "stall":
                    self.reset()
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets -= {source}
        source.close()
