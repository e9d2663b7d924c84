"""Sockets and TLS of the server, and the thread that gives the store's Adder its time."""

from __future__ import annotations

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
    from pilot_core.api.clock import Clock
    from pilot_devserver.statedir import StateDir
    from pilot_devserver.store import SqliteStore

__all__ = ["EVERYWHERE", "adder_at_work", "listening_socket", "server_tls"]

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
