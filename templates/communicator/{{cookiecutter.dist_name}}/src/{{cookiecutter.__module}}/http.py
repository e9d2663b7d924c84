"""One request and its answer, over a connection of its own, called off at once when the pilot says so.

The exchange runs in a thread; the caller waits for it, for the cancellation and for the deadline together. Certificates
are always verified, and the environment has no say: no proxy, no other authorities, no passwords from a file.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from pilot_core import (
    AuthError,
    BearerToken,
    ClientCertificate,
    CommunicationError,
    ConfigError,
    Event,
    Exchange,
    RequestRefused,
    shown_url,
)
from pilot_core.api.tls import TlsSocket

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline

NAME = "{{ cookiecutter.name }}"
LARGEST = 256 << 20
"""Bytes of an answer."""
BUSY = {408, 425, 429}
"""Statuses of requests that are fine, and come at a bad time."""


class Trouble(CommunicationError):
    """There is no answer that can be used; the same request may have one later.

    `unsent` = the request surely did not reach the server. `retry_after` = seconds that the server wants to be left
    alone for, 0 if it said nothing.
    """

    def __init__(self, message: str, *, unsent: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.unsent = unsent
        self.retry_after = retry_after


class Http:
    """Posts JSON objects to the server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._url = checked_url(context.server_url)
        if context.proxy:
            raise ConfigError(f"communicator {NAME!r} goes through no proxy; leave the pilot's proxy out")

    def post(self, name: str, values: Mapping[str, Any], *, cancel: CancelToken, deadline: Deadline) -> dict[str, Any]:
        """Return the answer to a call; raises `Trouble`, `RequestRefused`, `AuthError` or `Cancelled`."""
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": self._context.user_agent,
        }
        tls = self._credentials(headers, cancel, deadline)
        path = f"{self._url.path.rstrip('/')}/{NAME}/v1/{name}"
        request = Request(self._url, tls, path, json.dumps(values).encode(), headers)
        started = self._context.clock.wall(), self._context.clock.monotonic()
        threading.Thread(target=request.run, name=name, daemon=True).start()
        # both are waited for, whatever else happens
        self._context.clock.wait(request.done, cancel, until=deadline.at)
        answered = request.done.is_set()
        if not answered:
            request.give_up()
        self._tell(request, *started, failure="" if answered else "called-off" if cancel.cancelled else "timed-out")
        if not answered:
            cancel.raise_if_cancelled()
            raise Trouble("no answer came in the time allowed for it")
        if request.error:
            reason = self._clean(f"{type(request.error).__name__}: {request.error}")
            raise Trouble(reason, unsent=not request.sent)
        return self._answer(request)

    def _credentials(self, headers: dict[str, str], cancel: CancelToken, deadline: Deadline) -> ssl.SSLContext | None:
        """Return the TLS settings, and put the token among the headers."""
        source = self._context.credential
        if self._url.scheme == "http":
            if source:
                raise AuthError(f"{shown_url(self._context.server_url)}: no credential goes over plain http; use https")
            return None
        tls = tls_context(self._context.ca_file)
        credential = source.credential(cancel=cancel, deadline=deadline) if source else None
        if isinstance(credential, ClientCertificate):
            try:
                tls.load_cert_chain(credential.cert_file, credential.key_file)
            except (OSError, ssl.SSLError) as error:
                raise AuthError(f"{credential.cert_file}: cannot be used: {error}") from None
        elif isinstance(credential, BearerToken):
            headers |= {"Authorization": f"Bearer {credential.value}", "Origin": credential.origin}
        return tls

    def _answer(self, request: Request) -> dict[str, Any]:
        """Return what the server said, if it is an answer of this protocol and all is well."""
        try:
            told = json.loads(request.answer)
        except (ValueError, RecursionError):
            told = None
        if request.status == 200 and isinstance(told, dict) and told.get("ok") is True:
            return told
        reason = self._clean(told.get("error", "")) if isinstance(told, dict) else ""
        text = f"the server answered {request.status}{f': {reason}' if reason else ''}"
        if request.status in {401, 403}:
            raise AuthError(f"{text}; look at the pilot's credential and its role")
        if 400 <= request.status < 500 and request.status not in BUSY:
            raise RequestRefused(text)
        seconds = request.headers.get("retry-after", "")
        raise Trouble(
            text if reason else f"{text}, which is no answer of this protocol",
            retry_after=float(seconds) if seconds.isdecimal() else 0.0,
        )

    def _clean(self, text: object) -> str:
        """Return a text of the server for messages: one short line, without any secret that it repeats."""
        line = " ".join(str(text).split())
        for secret in self._context.credential.secrets() if self._context.credential else ():
            line = line.replace(secret, "***")
        return "".join(char if char.isprintable() else "?" for char in line)[:300]

    def _tell(self, request: Request, started: float, monotonic: float, *, failure: str) -> None:
        """Tell the exchange to whoever listens (`pilot-core run --record`)."""
        if self._context.traffic is None:
            return
        if request.error and not failure:
            failure = "lost" if request.sent else "not-connected"
        self._context.traffic.exchanged(
            Exchange(
                method="POST",
                url=f"{self._url.scheme}://{self._url.netloc}{request.path}",
                started=started,
                seconds=self._context.clock.monotonic() - monotonic,
                request_headers=tuple(request.sent_headers.items()),
                request_body=request.body,
                status=0 if failure else request.status,
                reason="" if failure else request.reason,
                response_headers=() if failure else tuple(request.headers.items()),
                response_body=b"" if failure else request.answer,
                failure=failure,
                error=str(request.error or failure),
            )
        )


class Request:
    """One request. `run` is for a thread of its own; `done` is set when it has ended, well or not."""

    def __init__(
        self, url: SplitResult, tls: ssl.SSLContext | None, path: str, body: bytes, headers: Mapping[str, str]
    ) -> None:
        self.path, self.body, self.sent_headers = path, body, headers
        self.done = Event()
        self.sent = False
        """Whether any of it may have reached the server."""
        self.error: Exception | None = None
        self.status, self.reason, self.answer = 0, "", b""
        self.headers: dict[str, str] = {}
        self._host, self._port = str(url.hostname), url.port or (80 if tls is None else 443)
        self._tls = tls
        self._lock = threading.Lock()
        self._given_up = False
        self._wire: socket.socket | None = None

    def run(self) -> None:
        """Connect, ask, read the answer."""
        try:
            with socket.create_connection((self._host, self._port)) as plain, self._held(plain):
                if self._tls is None:
                    self._ask(plain)
                else:
                    with self._tls.wrap_socket(plain, server_hostname=self._host) as safe:
                        self._ask(safe)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = error
        finally:
            self.done.set()

    def give_up(self) -> None:
        """End the connection, from another thread."""
        with self._lock:
            self._given_up = True
            if self._wire is not None:
                with suppress(OSError):
                    self._wire.shutdown(socket.SHUT_RDWR)

    def _held(self, plain: socket.socket) -> socket.socket:
        """Return a second handle of the connection, by which `give_up` ends it whatever TLS is doing."""
        with self._lock:
            if self._given_up:
                raise ConnectionAbortedError("given up")
            self._wire = plain.dup()
            return self._wire

    def _ask(self, wire: socket.socket) -> None:
        """Send the request and read the answer."""
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.sock = wire
        self.sent = True
        connection.request("POST", self.path, self.body, dict(self.sent_headers))
        with connection.getresponse() as response:
            answer = response.read(LARGEST + 1)
        if len(answer) > LARGEST:
            raise http.client.HTTPException(f"the answer has more than {LARGEST} bytes")
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.status, self.reason, self.answer = response.status, response.reason, answer


def checked_url(text: str) -> SplitResult:
    """Return the parts of the server's URL; raises `ConfigError` for what is none."""
    try:
        url = urlsplit(text)
        good = url.scheme in {"http", "https"} and url.hostname and (url.port is None or url.port > 0)
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text or url.username is not None:
        raise ConfigError(f"the server's URL {shown_url(text)!r} is none; write it as https://HOST:PORT")
    return url


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return the settings with which a server's certificate is verified."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.sslsocket_class = TlsSocket
    paths = ssl.get_default_verify_paths()
    try:
        if ca_file is not None:
            tls.load_verify_locations(cafile=ca_file)
        else:
            # those of the Python installation, whatever SSL_CERT_FILE says
            file, folder = Path(paths.openssl_cafile), Path(paths.openssl_capath)
            tls.load_verify_locations(file if file.is_file() else None, folder if folder.is_dir() else "/nonexistent")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{ca_file or 'authorities of this machine'}: cannot be used: {error}") from None
    return tls
