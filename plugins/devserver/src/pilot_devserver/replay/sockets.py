"""Sending recorded requests over real connections, byte by byte as they were recorded."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilot_core.errors import BadInput
from pilot_devserver.replay.compare import Reply
from pilot_devserver.replay.direct import LEGACY_PATH, LEGACY_PORTS, NOT_INSTALLED
from pilot_devserver.replay.who import ANONYMOUS, Wallet, certificate_kind, is_plain

if TYPE_CHECKING:
    from pilot_devserver.replay.recording import Exchange
    from pilot_devserver.statedir import Running

__all__ = ["Sockets"]

_LONE = frozenset({"expect"})
"""Headers that ask for an answer before the body is sent; it is sent anyway."""


class Sockets:
    """Sends each request over a connection of its own, with the client certificate that its title tells."""

    def __init__(self, running: Running, ca_file: Path, wallet: Wallet) -> None:
        self._running = running
        self._ca_file = ca_file
        self._wallet = wallet
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._forms: bool | None = None

    def obstacle(self, exchange: Exchange) -> str:
        """Return why the server cannot answer as the recorded one: it is one server, and there were two."""
        if not exchange.path.startswith(LEGACY_PATH):
            return ""
        if self._forms is None:
            self._forms = self._ask_for_forms()
        if exchange.port in LEGACY_PORTS:
            return "" if self._forms else NOT_INSTALLED
        return "panda-server 1.0.4 forbids the form API, and this server has it" if self._forms else ""

    def _ask_for_forms(self) -> bool:
        request = f"GET {LEGACY_PATH}isAlive HTTP/1.0\r\n\r\n".encode()
        with self._connection(self._running.url, self._context(ANONYMOUS)) as connection:
            connection.sendall(request)
            return _read(connection, "GET").status == 200

    def send(self, exchange: Exchange) -> Reply:
        """Send a request and return the answer; raises `BadInput` if the server cannot be reached."""
        plain = is_plain(exchange)
        url = self._running.plain_url if plain else self._running.url
        if not url:
            raise BadInput("the server serves no plain HTTP; start it with --plain-port 0")
        try:
            with self._connection(url, None if plain else self._context(certificate_kind(exchange))) as connection:
                connection.sendall(self._head(exchange, urlsplit(url).netloc) + _framed(exchange))
                return _read(connection, exchange.method)
        except OSError as error:
            raise BadInput(f"{url}: {error}; is the server of that directory still running?") from error

    @contextmanager
    def _connection(self, url: str, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
        host, port = urlsplit(url).hostname or "", urlsplit(url).port or 443
        with socket.create_connection((host, port)) as raw:
            if context is None:
                yield raw
                return
            with context.wrap_socket(raw, server_hostname=host) as wrapped:
                yield wrapped

    def _context(self, kind: str) -> ssl.SSLContext:
        """Return the TLS settings for a kind of client; the server is always verified."""
        if kind not in self._contexts:
            context = ssl.create_default_context(cafile=str(self._ca_file))
            credential = self._wallet.certificate(kind)
            if credential is not None:
                # the library reads certificates from files only
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / "client.pem"
                    file.touch(mode=0o600)
                    file.write_bytes(credential.bundle_pem)
                    context.load_cert_chain(file)
            self._contexts[kind] = context
        return self._contexts[kind]

    def _head(self, exchange: Exchange, host: str) -> bytes:
        lines = [f"{exchange.method} {exchange.target} {exchange.version}"]
        for name, value in exchange.headers:
            lower = name.lower()
            if lower == "host":
                lines.append(f"Host: {host}")
            elif lower == "authorization":
                lines.append(f"Authorization: {self._wallet.authorization(exchange)}")
            elif lower == "content-length":
                lines.append(f"Content-Length: {len(exchange.body or b'')}")
            elif lower not in _LONE | {"connection"}:
                lines.append(f"{name}: {value}")
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def _framed(exchange: Exchange) -> bytes:
    """Return the body as it goes over the wire: in one chunk, if it was sent in chunks."""
    body = exchange.body or b""
    if exchange.header("transfer-encoding") != "chunked":
        return body
    return f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


class _Stream:
    """What `http.client` needs of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        """Return the answer as a file."""
        return io.BytesIO(self._data)


def _read(connection: socket.socket, method: str) -> Reply:
    """Read until the server hangs up, and take the answer apart."""
    data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    response = http.client.HTTPResponse(_Stream(data), method=method)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.HTTPException as error:
        raise BadInput(f"the server's answer is no HTTP: {error!r}; see its log") from error
    return Reply(
        status=response.status,
        content_type=response.headers.get("Content-Type", ""),
        body=body.decode("utf-8", "replace"),
        content_encoding=response.headers.get("Content-Encoding", ""),
    )
