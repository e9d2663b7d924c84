"""One TCP or TLS connection whose every wait goes through the injected clock, so that it can be called off.

Sockets with a timeout of their own would wait outside the clock and could not be woken by a cancellation; here the
socket never blocks, and `Clock.wait` waits for it, the cancel token and the end of the time together.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.clock import Clock, Waitable

__all__ = ["Channel", "OutOfTime", "Patience"]

T = TypeVar("T")
_BLOCKED = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class OutOfTime(Exception):
    """The time allowed for this step is over."""


@dataclass(frozen=True)
class Patience:
    """How long a step may take, and what calls it off."""

    clock: Clock
    cancel: CancelToken
    until: float
    """On the clock's monotonic scale."""

    def wait(self, thing: Waitable) -> None:
        """Wait for a thing; raises `OutOfTime`, or `Cancelled`."""
        if not self.clock.wait(self.cancel, thing, until=self.until):
            raise OutOfTime
        self.cancel.raise_if_cancelled()


class _Writable:
    """Makes "can be written to" look like "can be read from", which is what the clock waits for."""

    def __init__(self, sock: socket.socket) -> None:
        self._epoll = select.epoll()
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()


class _Stream(io.RawIOBase):
    """The reading side of a channel as a file, which is what `http.client.HTTPResponse` reads."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._channel.receive_into(buffer)


def _finish_connecting(sock: socket.socket, status: int, patience: Patience) -> None:
    """Wait for the outcome of `connect_ex`; raises `OSError` of the right kind if it is bad."""
    if status == errno.EINPROGRESS:
        with contextlib.closing(_Writable(sock)) as writable:
            patience.wait(writable)
        status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if status:
        raise OSError(status, os.strerror(status))


class Channel:
    """An open connection. Not for several threads at once."""

    def __init__(self, sock: socket.socket, patience: Patience) -> None:
        self._sock = sock
        self.patience = patience
        """Set anew for every request."""
        self.received = 0
        """Bytes received since it was last set to 0."""
        self.unconfirmed = False
        """Once it is closed: whether the server may have refused the client's certificate, so far as can be seen.

        With TLS 1.3 the handshake is over before the server has looked at it. Servers send session tickets as soon as
        they are content; what one that is not content says can be lost if it closes with our request unread.
        """

    @classmethod
    def connect(cls, address: tuple[int, int, int, Any], patience: Patience) -> Channel:
        """Open a TCP connection to one address (family, type, protocol, address); raises `OSError`, `OutOfTime`."""
        family, kind, protocol, where = address
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            # one request is one write: waiting for a fuller packet would only delay it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _finish_connecting(sock, sock.connect_ex(where), patience)
        except BaseException:
            sock.close()
            raise
        return cls(sock, patience)

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Do the TLS handshake, verifying that the server is `host`; raises `ssl.SSLError`, `OSError`, `OutOfTime`.

        The name goes in as bytes: text would be taken through IDNA, whose tables cost 3 ms to import.
        """
        self._sock = context.wrap_socket(
            self._sock, server_hostname=host.encode("ascii"), do_handshake_on_connect=False
        )
        self._patiently(self._sock.do_handshake)

    def send(self, data: bytes) -> None:
        """Send all bytes."""
        view = memoryview(data)
        while view:
            view = view[self._patiently(partial(self._sock.send, view), writing=True) :]

    def receive_into(self, buffer: memoryview) -> int:
        """Receive what there is, at least one byte; 0 = the other side has closed."""
        try:
            count = self._patiently(partial(self._sock.recv_into, buffer))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        self.received += count
        return count

    def _patiently(self, step: Callable[[], T], *, writing: bool = False) -> T:
        """Do a step of a socket that does not block, as soon as it can be done.

        TLS says itself what it waits for, which may be the other way round; plain TCP does not.
        """
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.patience.wait(self._sock)
            except ssl.SSLWantWriteError:
                self._wait_writable()
            except BlockingIOError:
                if writing:
                    self._wait_writable()
                else:
                    self.patience.wait(self._sock)

    def _wait_writable(self) -> None:
        with contextlib.closing(_Writable(self._sock)) as writable:
            self.patience.wait(writable)

    def is_quiet(self) -> bool:
        """Say whether nothing came from the other side while it had nothing to say: an open, idle connection."""
        try:
            self._sock.recv(1)
        except _BLOCKED:
            return True
        except OSError:
            return False
        return False

    def makefile(self, mode: str = "rb", *_: object, **__: object) -> io.BufferedReader:
        """Return the reading side as a file (the name that `http.client` asks for)."""
        if mode != "rb":
            raise ValueError(f"mode {mode!r}: a channel is only read as rb")
        return io.BufferedReader(_Stream(self))

    def close(self) -> None:
        """Close the connection, at once."""
        self.unconfirmed = self._is_unconfirmed()
        self._sock.close()

    def _is_unconfirmed(self) -> bool:
        """Say whether TLS 1.3 is in use and neither an answer nor a session ticket has come."""
        if self.received or not isinstance(self._sock, ssl.SSLSocket) or self._sock.version() != "TLSv1.3":
            return False
        return self._sock.session is None or not self._sock.session.has_ticket
