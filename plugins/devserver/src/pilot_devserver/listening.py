"""Sockets and TLS of the server, how they are closed, and the thread that gives the store's Adder its time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event
from pilot_core.api.server import StoreUnavailable
from pilot_core.errors import HandledError

if TYPE_CHECKING:
    from aiohttp import web

    from pilot_core.api.clock import Clock
    from pilot_devserver.statedir import StateDir
    from pilot_devserver.store import SqliteStore

__all__ = ["EVERYWHERE", "adder_at_work", "hang_up", "listening_socket", "server_tls"]

MOST_TURNS = 100
"""Turns of the event loop within which closed connections have to be gone; it takes three."""
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared with, not listened on)


def listening_socket(host: str, port: int, option: str) -> tuple[socket.socket, str]:
    """Return a listening socket and the host and port that lead to it, as a URL has them.

    Port 0 takes any that is free. Raises `HandledError`, which names the command's `option`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise HandledError(f"cannot listen on {host} port {port}: {error}; choose another with {option}") from None
    name = "localhost" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return listener, f"{name}:{listener.getsockname()[1]}"


def server_tls(state: StateDir) -> ssl.SSLContext:
    """Return the server's TLS: client certificates and RFC 3820 proxies are welcome, and not asked of everyone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(state.server_cert, state.server_key)
    context.load_verify_locations(state.ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    return context


async def hang_up(runner: web.AppRunner) -> None:
    """Let the answers under way go out, then end all connections without waiting for the peers' goodbyes."""
    connections = runner.server.connections if runner.server else []
    found = [_socket_of(item.transport) for item in connections if item.transport is not None]
    # None for a connection that is on its way out
    sockets = [item for item in found if item is not None]
    await runner.cleanup()
    # not `transport.abort`: on a TLS transport that was closed twice it fails (Python 3.11.2)
    for item in sockets:
        with contextlib.suppress(OSError):  # closed, or the peer has gone
            item.shutdown(socket.SHUT_RDWR)
    loop = asyncio.get_running_loop()
    for _ in range(MOST_TURNS):
        if all(item.fileno() < 0 for item in sockets):
            break
        # one turn of the loop, in which it finds the connections at their end and drops them
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


def _socket_of(transport: asyncio.BaseTransport) -> socket.socket | None:
    """Return the socket of a connection; None if it is on its way out."""
    try:
        found: socket.socket | None = transport.get_extra_info("socket")
    except AttributeError:  # of a TLS transport that was aborted and then closed (Python 3.11)
        return None
    return found


@contextlib.contextmanager
def adder_at_work(store: SqliteStore, clock: Clock) -> Iterator[None]:
    """While it lasts, a thread has the store decide jobs as soon as they are due."""
    end = Event()
    thread = threading.Thread(target=_add, args=(store, clock, end), name="adder")
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _add(store: SqliteStore, clock: Clock, end: Event) -> None:
    """Wait for changes and for the time at which the store has something to decide."""
    while not end.is_set():
        change = store.next_change()
        until = None
        try:
            # whoever asks for jobs makes the store do what is due
            store.counts()
            due = store.next_settlement()
            if due is not None:
                until = clock.monotonic() + max(0.0, due - store.now())
        except StoreUnavailable:
            pass  # tried again with the next change
        clock.wait(change, end, until=until)
