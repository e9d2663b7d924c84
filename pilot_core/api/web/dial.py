"""Opening connections: names looked up, addresses tried in turn, proxies asked, TLS begun; all of it watched."""

from __future__ import annotations

import base64
import errno
import os
import select
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pilot_core.api.clock import Event
from pilot_core.api.web.patience import ConnectionLost
from pilot_core.api.web.trust import TlsContexts, tls_error
from pilot_core.api.web.wire import Wire
from pilot_core.errors import AuthError, BackendUnavailable, TransferTimeout, TransientError

if TYPE_CHECKING:
    from pilot_core.api.credential import ClientCertificate
    from pilot_core.api.web.address import WebAddress
    from pilot_core.api.web.patience import Patience
    from pilot_core.api.web.trust import Identity

__all__ = ["Dialer", "Proxy"]

_UNKNOWN = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME), socket.EAI_FAIL}


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    authorization: str = ""
    """The value of its Proxy-Authorization header."""

    @classmethod
    def parse(cls, url: str) -> Proxy | None:
        """Read `http://[user:password@]host[:port]`, None from an empty text; raises `ValueError`."""
        if not url:
            return None
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("a proxy is written as http://host:port")
        user = unquote(parts.username or "")
        pair = f"{user}:{unquote(parts.password or '')}".encode()
        return cls(parts.hostname, parts.port or 3128, f"Basic {base64.b64encode(pair).decode()}" if user else "")

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


@dataclass(frozen=True)
class Dialer:
    """Opens connections."""

    contexts: TlsContexts
    proxy: Proxy | None
    seconds: float
    """How long each address may take to answer, and TLS to begin."""

    def open(
        self, address: WebAddress, certificate: ClientCertificate | None, identity: Identity, patience: Patience
    ) -> Wire:
        """Open a connection.

        Raises `BackendUnavailable` (no such host, TLS), `TransientError`, `AuthError`, `Cancelled`, `TransferTimeout`.
        """
        context = self.contexts.get(certificate, identity) if address.secure else None
        where = f"{address.host}:{address.port}"
        proxy = self.proxy
        channel = self._connected(
            proxy.host if proxy else address.host, proxy.port if proxy else address.port, patience
        )
        try:
            if context is not None:
                if proxy is not None:
                    _tunnel(Wire(channel, f"the proxy {proxy.host}:{proxy.port}"), proxy, address, patience)
                channel = self._secured(channel, context, address.host, where, patience)
        except BaseException:
            channel.close()
            raise
        return Wire(channel, where)

    def _connected(self, host: str, port: int, patience: Patience) -> socket.socket:
        """Connect to the first address of a host that answers."""
        trouble: TransientError | None = None
        for family, _, _, _, address in _looked_up(host, port, patience):
            channel = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                self._connect(channel, address, f"{host}:{port}", patience)
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                return channel
            except TransientError as error:
                channel.close()
                trouble = error
            except BaseException:
                channel.close()
                raise
        raise trouble or BackendUnavailable(f"{patience.what}: {host} has no address")

    def _connect(self, channel: socket.socket, address: Any, where: str, patience: Patience) -> None:
        """Connect a socket; raises `TransientError`, `Cancelled`, `TransferTimeout`."""
        number = channel.connect_ex(address)
        if number == errno.EINPROGRESS:
            with select.epoll() as ready:
                ready.register(channel, select.EPOLLOUT)
                if not patience.wait_for(ready, self.seconds):
                    raise TransientError(f"{patience.what}: {where} did not answer within {self.seconds:g} s")
            number = channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise TransientError(f"{patience.what}: no connection to {where}: {os.strerror(number)}")

    def _secured(
        self, channel: socket.socket, context: ssl.SSLContext, host: str, where: str, patience: Patience
    ) -> ssl.SSLSocket:
        """Begin TLS; raises what `tls_error` says, `Cancelled`, `TransferTimeout`."""
        try:
            secure = context.wrap_socket(channel, server_hostname=host, do_handshake_on_connect=False)
        except OSError:
            raise ConnectionLost(f"{patience.what}: {where} closed the connection before TLS began") from None
        try:
            self._shake_hands(secure, where, patience)
        except BaseException:
            secure.close()
            raise
        return secure

    def _shake_hands(self, secure: ssl.SSLSocket, where: str, patience: Patience) -> None:
        """Bring the handshake to its end."""
        clock = patience.deadline.clock
        until = clock.monotonic() + self.seconds
        while not _shaken(secure, f"{patience.what}: {where}"):
            if not patience.wait_for(secure, until - clock.monotonic()):
                raise TransferTimeout(f"{patience.what}: {where} did not begin TLS within {self.seconds:g} s")


def _shaken(secure: ssl.SSLSocket, what: str) -> bool:
    """Go on with a handshake; say whether it is done, or the other side's turn."""
    try:
        secure.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError as error:
        raise tls_error(error, what) from None
    except OSError as error:
        raise ConnectionLost(f"{what}: the connection broke while TLS began: {error.strerror or error}") from None
    return True


def _tunnel(wire: Wire, proxy: Proxy, address: WebAddress, patience: Patience) -> None:
    """Have a proxy connect to a host; raises as `Dialer.open`."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [f"CONNECT {host}:{address.port} HTTP/1.1", f"Host: {host}:{address.port}"]
    lines += [f"Proxy-Authorization: {proxy.authorization}"] * bool(proxy.authorization)
    wire.send(memoryview("\r\n".join([*lines, "", ""]).encode("latin-1")), patience)
    status = wire.head(patience).status
    text = f"{patience.what}: the proxy {proxy.host}:{proxy.port} does not connect to {host}: HTTP {status}"
    if status in {401, 403, 407}:
        raise AuthError(text)
    if not 200 <= status < 300:
        raise TransientError(text)


def _looked_up(host: str, port: int, patience: Patience) -> list[Any]:
    """Return the addresses of a host as `getaddrinfo` does, which cannot be interrupted, so a thread of its own waits.

    Raises `BackendUnavailable` for a host that does not exist, `TransientError`, `Cancelled`, `TransferTimeout`.
    """
    with suppress(OSError):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    done, found = Event(), list[Any]()

    def look() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))
        except (OSError, UnicodeError) as error:
            found.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=look, name="name-lookup", daemon=True).start()
    except RuntimeError as error:
        raise TransientError(f"{patience.what}: {host} cannot be looked up: {error}") from None
    patience.wait(done)
    told = found[0]
    if isinstance(told, list):
        return told
    text = f"{patience.what}: no address of {host}: {getattr(told, 'strerror', None) or told}"
    if isinstance(told, UnicodeError) or told.errno in _UNKNOWN:
        raise BackendUnavailable(text)
    raise TransientError(text)
