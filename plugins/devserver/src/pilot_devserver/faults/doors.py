"""The server's ports, as doors: connections can be turned away at them, and they can be shut for a while."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pilot_devserver.faults.wire import reset_when_closed

if TYPE_CHECKING:
    import ssl

__all__ = ["BACKLOG", "Doors"]

BACKLOG = 128
_log = logging.getLogger(__name__)


class _Listener(socket.socket):
    """A listening socket that resets the connections that are to be refused before anybody sees them."""

    refuses: Callable[[], bool] | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; raises `ConnectionAbortedError`, which event loops are used to, for a refused one."""
        connection, address = super().accept()
        if self.refuses is not None and self.refuses():
            reset_when_closed(connection)
            connection.close()
            raise ConnectionAbortedError("refused on purpose")
        return connection, address


@dataclass
class _Door:
    """One port."""

    address: Any
    family: socket.AddressFamily
    tls: ssl.SSLContext | None
    site: web.SockSite | None
    kept: socket.socket | None = None
    """While it is shut: a socket that has the port and does not listen, so that nobody else gets it."""


class Doors:
    """All ports at which faults may strike. Use it in the event loop."""

    def __init__(self, runner: web.AppRunner, refuses: Callable[[], bool]) -> None:
        self._runner = runner
        self._refuses = refuses
        self._doors: list[_Door] = []

    async def add(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serve at a listening socket, which is used up."""
        door = _Door(listener.getsockname(), listener.family, tls, None)
        await self._serve(door, listener)
        self._doors.append(door)

    async def _serve(self, door: _Door, listener: socket.socket) -> None:
        ours = _Listener(fileno=listener.detach())
        ours.refuses = self._refuses
        door.site = web.SockSite(self._runner, ours, ssl_context=door.tls, backlog=BACKLOG)
        await door.site.start()

    async def shut(self) -> None:
        """Have nothing listen at the ports, and end every connection to them; they stay ours."""
        for door in self._doors:
            if door.site is not None:
                await door.site.stop()
                door.site = None
                door.kept = _bound(door)
        ports = {door.address[1] for door in self._doors}
        for connection in self._runner.server.connections if self._runner.server else ():
            transport = connection.transport
            if transport is None or transport.is_closing():
                continue
            if transport.get_extra_info("sockname")[1] in ports:
                with contextlib.suppress(OSError):  # the peer was faster
                    reset_when_closed(transport.get_extra_info("socket"))
                transport.abort()

    async def open(self) -> None:
        """Listen again at the ports that were shut."""
        for door in self._doors:
            if door.site is None:
                kept = door.kept or _bound(door)
                if kept is None:
                    continue
                kept.listen(BACKLOG)
                door.kept = None
                await self._serve(door, kept)

    def close(self) -> None:
        """Give up the ports that are shut; the others belong to aiohttp."""
        for door in self._doors:
            if door.kept is not None:
                door.kept.close()
                door.kept = None


def _bound(door: _Door) -> socket.socket | None:
    """Return a socket that has the door's port and does not listen; None, with a line in the log, if it is taken."""
    found = socket.socket(door.family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if door.family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind(door.address)
        found.setblocking(False)
    except OSError as error:
        found.close()
        _log.warning("port %d was taken while the server was down: %s", door.address[1], error)
        return None
    return found
