"""HTTP/1.1 requests over kept connections, with a credential, and knowledge of whether a request was sent."""

from __future__ import annotations

import base64
import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilot_communicator_panda.explain import certificate_refusal, connect_failure, lost_answer, tls_failure
from pilot_communicator_panda.retry import AttemptFailed
from pilot_communicator_panda.tls import TlsContexts, certificate_version
from pilot_communicator_panda.urls import BaseUrl
from pilot_communicator_panda.wire import Channel, OutOfTime, Patience
from pilot_core import ConfigError, RequestRefused
from pilot_core.api.credential import BearerToken, ClientCertificate, Credential

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.provider import Context

__all__ = ["HttpClient", "Reply", "Request"]

_LARGEST = 64 * 1024 * 1024
"""Bytes of an answer; 500 input files make one of 0.2 MB."""
_SURE_SECONDS = 4.0
"""A connection that was idle for less is not being closed by the server just now: Apache's KeepAliveTimeout is 5."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, without credential."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    repeatable: bool = True
    """Whether sending it twice does no harm."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    credential: Credential | None
    """What the request was sent with."""


@dataclass
class _Idle:
    """A kept connection."""

    channel: Channel
    version: tuple[object, ...]
    since: float


class HttpClient:
    """Sends requests to one server. Methods may be called from several threads."""

    def __init__(self, context: Context, *, connect_timeout: float, timeout: float) -> None:
        self.url = BaseUrl.parse(context.server_url)
        self._proxy = BaseUrl.parse(context.proxy, "the proxy's URL", user_allowed=True) if context.proxy else None
        if self._proxy is not None and self._proxy.secure:
            raise ConfigError(f"the proxy {self._proxy}: a proxy is reached over http:// (TLS goes through it)")
        if context.credential is not None and not self.url.secure:
            raise ConfigError(f"{self.url}: no credential is ever sent over plain http; write https://")
        self._clock = context.clock
        self._log: logging.Logger = context.log
        self._source = context.credential
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._tls = TlsContexts(context.ca_file)
        self._agent = "".join(c for c in context.user_agent if " " <= c <= "~")
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []

    def request(self, request: Request, *, cancel: CancelToken, deadline: Deadline) -> Reply:
        """Send a request and return the answer, whatever its status.

        Raises `AttemptFailed`, `AuthError`, `ConfigError` or `Cancelled`.
        """
        cancel.raise_if_cancelled()
        credential = self._source.credential(cancel=cancel, deadline=deadline) if self._source else None
        certificate = credential if isinstance(credential, ClientCertificate) else None
        version = certificate_version(certificate)
        patience = Patience(self._clock, cancel, min(deadline.at, self._clock.monotonic() + self._timeout))
        started = self._clock.monotonic()
        data = self._encode(request, credential)
        while True:
            channel = self._take(version, sure=not request.repeatable)
            fresh = channel is None
            if channel is None:
                channel = self._open(certificate, version, cancel, deadline)
                patience = Patience(self._clock, cancel, min(deadline.at, self._clock.monotonic() + self._timeout))
            channel.patience = patience
            channel.received = 0
            try:
                reply = self._exchange(channel, version, request, data, credential)
            except AttemptFailed:
                if fresh or not request.repeatable or channel.received:
                    raise
                continue  # the server had closed the kept connection just then
            took = (self._clock.monotonic() - started) * 1000
            self._log.debug(
                "%s %s: %d in %.1f ms%s", request.method, request.path.partition("?")[0], reply.status, took,
                " on a new connection" if fresh else "",
            )  # fmt: skip
            return reply

    def redact(self, text: str) -> str:
        """Return the text without any of the credential's values."""
        for secret in self._source.secrets() if self._source else ():
            text = text.replace(secret, "***")
        return text

    def credential(self, cancel: CancelToken, deadline: Deadline) -> Credential | None:
        """Return the credential that the next request would be sent with."""
        return self._source.credential(cancel=cancel, deadline=deadline) if self._source else None

    def close(self) -> None:
        """Close every kept connection."""
        with self._lock:
            idle, self._idle = self._idle, []
        for kept in idle:
            kept.channel.close()

    def _encode(self, request: Request, credential: Credential | None) -> bytes:
        """Return head and body as they go over the wire, in one piece."""
        target = self.url.prefix + request.path
        if self._proxy and not self.url.secure:
            target = f"http://{self.url.authority}{target}"
        headers = {"Host": self.url.authority, "User-Agent": self._agent, "Accept-Encoding": "identity"}
        if self._proxy and not self.url.secure:
            headers.update(_proxy_authorization(self._proxy))
        headers.update(request.headers)
        if isinstance(credential, BearerToken):
            headers["Authorization"] = f"Bearer {credential.value}"
            headers["Origin"] = credential.origin
        if request.method != "GET":
            headers["Content-Length"] = str(len(request.body))
        lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a line break in a header")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body

    def _take(self, version: tuple[object, ...], *, sure: bool) -> Channel | None:
        """Return a kept connection that is still open and was made with this credential, if there is one."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                kept = self._idle.pop()
            idle = self._clock.monotonic() - kept.since
            if kept.version == version and not (sure and idle > _SURE_SECONDS) and kept.channel.is_quiet():
                return kept.channel
            kept.channel.close()

    def _open(
        self,
        certificate: ClientCertificate | None,
        version: tuple[object, ...],
        cancel: CancelToken,
        deadline: Deadline,
    ) -> Channel:
        """Open a connection to the server, through the proxy if there is one."""
        tls = self._tls.get(certificate, version) if self.url.secure else None
        until = min(deadline.at, self._clock.monotonic() + self._connect_timeout)
        patience = Patience(self._clock, cancel, until)
        try:
            channel = _connect(self._proxy or self.url, patience)
        except OutOfTime:
            text = f"no connection to {(self._proxy or self.url).authority} within {self._connect_timeout:.0f} s"
            raise AttemptFailed(f"{text}: is it down, or behind a firewall?", processed=False) from None
        try:
            if self._proxy and tls:
                self._tunnel(channel, self._proxy)
            if tls:
                channel.start_tls(tls, self.url.host)
        except OutOfTime:
            channel.close()
            text = f"{self.url.authority} did not finish the TLS handshake within {self._connect_timeout:.0f} s"
            raise AttemptFailed(text, processed=False) from None
        except OSError as error:
            channel.close()
            raise tls_failure(error, self.url) from None
        except BaseException:
            channel.close()
            raise
        return channel

    def _tunnel(self, channel: Channel, proxy: BaseUrl) -> None:
        """Have the proxy connect to the server (CONNECT, RFC 9110, 9.3.6)."""
        headers = {"Host": self.url.authority, "User-Agent": self._agent, **_proxy_authorization(proxy)}
        lines = [f"CONNECT {self.url.authority} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        channel.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        response = http.client.HTTPResponse(channel, method="CONNECT")  # type: ignore[arg-type]
        try:
            response.begin()
        except (http.client.HTTPException, ConnectionError):
            raise AttemptFailed(f"the proxy {proxy} does not answer as one: check it", processed=False) from None
        if response.status != 200:
            text = f"the proxy {proxy} refuses a connection to {self.url.authority} ({response.status})"
            raise AttemptFailed(text, processed=False)

    def _exchange(
        self,
        channel: Channel,
        version: tuple[object, ...],
        request: Request,
        data: bytes,
        credential: Credential | None,
    ) -> Reply:
        """Send the bytes and read the answer; keep the connection if the server does."""
        try:
            # what the server said before it closed the connection (a TLS alert) can still be read
            with contextlib.suppress(ConnectionError):
                channel.send(data)
            response = http.client.HTTPResponse(channel, method=request.method)  # type: ignore[arg-type]
            response.begin()
            body = response.read(_LARGEST + 1)
        except OutOfTime:
            channel.close()
            raise AttemptFailed(f"{self.url.authority} did not answer within {self._timeout:.0f} s") from None
        except (http.client.HTTPException, OSError) as error:
            channel.close()
            refusal = certificate_refusal(error, self.url) if isinstance(error, OSError) else None
            raise refusal or lost_answer(error, self.url) from None
        except BaseException:
            channel.close()
            if not request.repeatable:
                self._log.warning("%s was called off after it was sent: it may have been carried out", request.path)
            raise
        whole = len(body) <= _LARGEST and not response.length
        if whole and not response.will_close:
            with self._lock:
                self._idle.append(_Idle(channel, version, self._clock.monotonic()))
        else:
            channel.close()
        if len(body) > _LARGEST:
            raise RequestRefused(f"{self.url.authority} answers with more than {_LARGEST} bytes: is it a PanDA server?")
        if not whole:
            raise lost_answer(http.client.IncompleteRead(body), self.url)
        return Reply(status=response.status, headers=response.headers, body=body, credential=credential)


def _proxy_authorization(proxy: BaseUrl) -> dict[str, str]:
    """Return the header that a proxy with user and password wants."""
    if not proxy.user:
        return {}
    return {"Proxy-Authorization": "Basic " + base64.b64encode(proxy.user.encode()).decode("ascii")}


def _connect(url: BaseUrl, patience: Patience) -> Channel:
    """Connect to the first of a host's addresses that lets us; raises `AttemptFailed`, `OutOfTime`, `Cancelled`.

    The time is shared out among the addresses, so that one dead machine behind a name does not use it all up. Finding
    the addresses is the one step here that cannot be called off: the C library has no way to.
    """
    try:
        found = socket.getaddrinfo(url.host.encode("ascii"), url.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise connect_failure(error, url) from None
    failure: Exception = connect_failure(OSError("the host has no address"), url)
    for left, (family, kind, protocol, _, where) in zip(range(len(found), 0, -1), found, strict=True):
        now = patience.clock.monotonic()
        share = Patience(patience.clock, patience.cancel, now + max(patience.until - now, 0.0) / left)
        try:
            return Channel.connect((family, kind, protocol, where), share)
        except OSError as error:
            failure = connect_failure(error, url)
        except OutOfTime as error:
            failure = error
    raise failure
