"""HTTP/1.1 requests over kept connections, with a credential, and knowledge of whether a request was sent."""

from __future__ import annotations

import contextlib
import http.client
import logging
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilot_communicator_panda.connect import Connector, Identity, proxy_authorization
from pilot_communicator_panda.explain import certificate_refusal, lost_answer
from pilot_communicator_panda.retry import AttemptFailed, NoCredential
from pilot_communicator_panda.urls import BaseUrl
from pilot_communicator_panda.wire import Channel, OutOfTime, Patience
from pilot_core import AuthError, BearerToken, ConfigError, RequestRefused

if TYPE_CHECKING:
    from pilot_communicator_panda.telling import Telling
    from pilot_core import CancelToken, Context, Credential, Deadline

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
    identity: Identity
    since: float


class HttpClient:
    """Sends requests to one server. Methods may be called from several threads."""

    def __init__(self, context: Context, *, connect_timeout: float, timeout: float) -> None:
        self.url = BaseUrl.parse(context.server_url)
        if context.credential is not None and not self.url.secure:
            raise ConfigError(f"{self.url}: no credential is ever sent over plain http; write https://")
        self._clock = context.clock
        self._log: logging.Logger = context.log
        self._source = context.credential
        self._traffic = context.traffic
        self._timeout = timeout
        self._agent = "".join(c for c in context.user_agent if " " <= c <= "~")
        self._connector = Connector(context, self.url, self._agent, connect_timeout)
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []

    def request(self, request: Request, *, cancel: CancelToken, deadline: Deadline) -> Reply:
        """Send a request and return the answer, whatever its status.

        Raises `AttemptFailed`, `AuthError`, `ConfigError` or `Cancelled`.
        """
        cancel.raise_if_cancelled()
        credential = self.credential(cancel, deadline)
        identity = Identity.of(credential)
        started = self._clock.monotonic()
        headers_out = self._headers(request, credential)
        data = self._encode(request, headers_out)
        while True:
            telling = self._telling(request, headers_out)
            channel = self._take(identity, sure=not request.repeatable)
            fresh = channel is None
            if channel is None:
                channel = self._open(identity, cancel, deadline, telling)
            channel.patience = Patience(self._clock, cancel, min(deadline.at, self._clock.monotonic() + self._timeout))
            channel.received = 0
            try:
                status, headers, body = self._exchange(channel, identity, request, data, telling)
            except AttemptFailed as error:
                stale = not (fresh or not request.repeatable or channel.received)
                if telling:
                    telling.failed(error, stale=stale and not error.timed_out)
                if fresh and channel.unconfirmed:
                    self._connector.raise_if_refused(identity, cancel, deadline)
                if not stale:
                    raise
                continue  # the server had closed the kept connection just then
            except BaseException as error:
                if telling:
                    telling.failed(error)
                raise
            took = (self._clock.monotonic() - started) * 1000
            self._log.debug(
                "%s %s: %d in %.1f ms%s", request.method, request.path.partition("?")[0], status, took,
                " on a new connection" if fresh else "",
            )  # fmt: skip
            return Reply(status=status, headers=headers, body=body, credential=credential)

    def _telling(self, request: Request, headers: Mapping[str, str]) -> Telling | None:
        """Begin to tell of a request, if anybody listens."""
        if self._traffic is None:
            return None
        from pilot_communicator_panda.telling import Telling  # noqa: PLC0415  (hardly ever needed)

        scheme = "https" if self.url.secure else "http"
        url = f"{scheme}://{self.url.authority}{self.url.prefix}{request.path}"
        return Telling(self._traffic, self._clock, request, url, headers)

    def _open(self, identity: Identity, cancel: CancelToken, deadline: Deadline, telling: Telling | None) -> Channel:
        """Open a connection; raises as `Connector.open`."""
        try:
            channel = self._connector.open(identity, cancel, deadline)
        except BaseException as error:
            if telling:
                telling.failed(error)
            raise
        if telling:
            telling.connected()
        return channel

    def redact(self, text: str) -> str:
        """Return the text without any of the credential's values."""
        for secret in self._source.secrets() if self._source else ():
            text = text.replace(secret, "***")
        return text

    def credential(self, cancel: CancelToken, deadline: Deadline) -> Credential | None:
        """Return the credential that the next request would be sent with; raises `NoCredential`."""
        try:
            return self._source.credential(cancel=cancel, deadline=deadline) if self._source else None
        except AuthError as error:
            raise NoCredential(str(error)) from None

    def close(self) -> None:
        """Close every kept connection."""
        with self._lock:
            idle, self._idle = self._idle, []
        for kept in idle:
            kept.channel.close()

    def _headers(self, request: Request, credential: Credential | None) -> dict[str, str]:
        """Return the headers of a request, the credential's among them."""
        headers = {"Host": self.url.authority, "User-Agent": self._agent, "Accept-Encoding": "identity"}
        if self._connector.proxy and not self.url.secure:
            headers.update(proxy_authorization(self._connector.proxy))
        headers.update(request.headers)
        if isinstance(credential, BearerToken):
            headers["Authorization"] = f"Bearer {credential.value}"
            headers["Origin"] = credential.origin
        if request.method != "GET":
            headers["Content-Length"] = str(len(request.body))
        return headers

    def _encode(self, request: Request, headers: Mapping[str, str]) -> bytes:
        """Return head and body as they go over the wire, in one piece."""
        target = self.url.prefix + request.path
        if self._connector.proxy and not self.url.secure:
            target = f"http://{self.url.authority}{target}"
        lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a line break in a header")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body

    def _take(self, identity: Identity, *, sure: bool) -> Channel | None:
        """Return a kept connection that is still open and was made with this credential, if there is one."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                kept = self._idle.pop()
            idle = self._clock.monotonic() - kept.since
            if kept.identity == identity and not (sure and idle > _SURE_SECONDS) and kept.channel.is_quiet():
                return kept.channel
            kept.channel.close()

    def _exchange(
        self, channel: Channel, identity: Identity, request: Request, data: bytes, telling: Telling | None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send the bytes and read the answer; keep the connection if the server does."""
        began = self._clock.monotonic()
        try:
            # what the server said before it closed the connection (a TLS alert) can still be read
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                if telling:
                    telling.sent()
                channel.send(data)
            response = http.client.HTTPResponse(channel, method=request.method)  # type: ignore[arg-type]
            response.begin()
            if telling:
                telling.begins()
            body = response.read(_LARGEST + 1)
        except OutOfTime:
            channel.close()
            waited = self._clock.monotonic() - began
            raise AttemptFailed(f"{self.url.authority} did not answer within {waited:.0f} s", timed_out=True) from None
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
                self._idle.append(_Idle(channel, identity, self._clock.monotonic()))
        else:
            channel.close()
        if len(body) > _LARGEST:
            raise RequestRefused(f"{self.url.authority} answers with more than {_LARGEST} bytes: is it a PanDA server?")
        if not whole:
            raise lost_answer(http.client.IncompleteRead(body), self.url)
        if telling:
            telling.answered(response.status, response.reason, response.headers, body)
        return response.status, response.headers, body
