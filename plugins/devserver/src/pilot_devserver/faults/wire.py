"""One connection, to do to it what no HTTP library does: bytes as they are, resets, and who hung up meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.web_request import BaseRequest

    from pilot_core.api.server import ServerResponse

__all__ = ["Ended", "Framed", "Wire", "reset_when_closed"]

_NO_LINGER = struct.pack("ii", 1, 0)


def reset_when_closed(connection: socket.socket) -> None:
    """Have the connection end with a TCP reset: whatever was not sent yet is dropped, and the peer gets an error."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


class Ended(web.StreamResponse):
    """The response of a request whose connection was dealt with already: aiohttp has nothing left to send."""

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Tell aiohttp, in its way, that there is nobody to answer."""
        del request
        self._refuse()

    @staticmethod
    def _refuse() -> NoReturn:
        raise ConnectionResetError("a fault has ended this connection")


class Framed:
    """An answer as bytes: head and body apart, the body framed as the server always does it."""

    def __init__(self, response: ServerResponse, server: str, date: str, *, chunked: bool) -> None:
        self.body = response.body
        self.chunked = chunked
        self.response = response
        self._fixed = {"Server": server, "Content-Type": response.content_type, "Date": date, **response.headers}

    def head(self, length: int | None = None) -> bytes:
        """Return status line and headers; `length` is the Content-Length to claim, instead of the true framing."""
        headers = {name: text for name, text in self._fixed.items() if name.lower() != "content-length"}
        if length is None and self.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(self.body) if length is None else length)
        headers["Connection"] = "close"
        status = self.response.status
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {text}" for name, text in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def content(self, part: int | None = None) -> bytes:
        """Return the body in its framing: whole, or the first `part` bytes of it and then nothing."""
        body = self.body if part is None else self.body[:part]
        if not self.chunked:
            return body
        first = f"{len(self.body):x}\r\n".encode() + body if self.body else b""
        return first if part is not None else first + (b"\r\n" if self.body else b"") + b"0\r\n\r\n"


class _Watcher(asyncio.Protocol):
    """Stands before a connection's protocol and passes everything on; `gone` is done once the peer has left."""

    def __init__(self, inner: asyncio.Protocol, gone: asyncio.Future[None]) -> None:
        self._inner = inner
        self._gone = gone

    def data_received(self, data: bytes) -> None:
        """Pass on what the peer sends."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on that the peer sends no more."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the peer does not read."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it reads again."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the connection has ended, and pass it on."""
        if not self._gone.done():
            self._gone.set_result(None)
        self._inner.connection_lost(exc)


class Wire:
    """The connection of one request."""

    def __init__(self, request: web.Request) -> None:
        self._transport = request.transport
        self._protocol = request.protocol

    def reset(self) -> Ended:
        """End the connection with a TCP reset."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            with contextlib.suppress(OSError):  # the peer was faster
                reset_when_closed(transport.get_extra_info("socket"))
            transport.abort()
        return Ended()

    def close(self, last: bytes = b"") -> Ended:
        """Send some last bytes and have the connection end in order: aiohttp closes it after `Ended`."""
        # not here: a TLS transport that is closed twice forgets its socket (Python 3.11)
        self.send(last)
        return Ended()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    @contextlib.contextmanager
    def watched(self) -> Iterator[asyncio.Future[None]]:
        """While it lasts, the future that it yields is done as soon as the peer has left."""
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        transport = self._transport
        if transport is None or transport.is_closing():
            gone.set_result(None)
            yield gone
            return
        transport.set_protocol(_Watcher(self._protocol, gone))
        try:
            yield gone
        finally:
            if not gone.done():
                transport.set_protocol(self._protocol)
