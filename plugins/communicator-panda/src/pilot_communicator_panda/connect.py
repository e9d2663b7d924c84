"""Opening connections to one server: addresses, an HTTP proxy, TLS, and why one did not come about."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_communicator_panda.explain import certificate_refusal, connect_failure, tls_failure
from pilot_communicator_panda.retry import AttemptFailed
from pilot_communicator_panda.tls import TlsContexts, certificate_version
from pilot_communicator_panda.urls import BaseUrl
from pilot_communicator_panda.wire import Channel, OutOfTime, Patience
from pilot_core import ClientCertificate, ConfigError

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Credential, Deadline

__all__ = ["Connector", "Identity", "proxy_authorization"]

_ALERT_SECONDS = 2.0
"""How long to wait for a server to say that it does not like our certificate."""


@dataclass(frozen=True)
class Identity:
    """What a connection is made with: none, or a client certificate in a version of its files."""

    certificate: ClientCertificate | None
    version: tuple[object, ...]

    @classmethod
    def of(cls, credential: Credential | None) -> Identity:
        """Return the identity that a credential gives a connection; raises `AuthError` if a file is not there."""
        certificate = credential if isinstance(credential, ClientCertificate) else None
        return cls(certificate, certificate_version(certificate))


class Connector:
    """Opens connections to one server. Methods may be called from several threads."""

    def __init__(self, context: Context, url: BaseUrl, agent: str, timeout: float) -> None:
        self.proxy = BaseUrl.parse(context.proxy, "the proxy's URL", user_allowed=True) if context.proxy else None
        """The HTTP proxy in between, if there is one."""
        if self.proxy is not None and self.proxy.secure:
            raise ConfigError(f"the proxy {self.proxy}: a proxy is reached over http:// (TLS goes through it)")
        self._url = url
        self._agent = agent
        self._clock = context.clock
        self._timeout = timeout
        self._tls = TlsContexts(context.ca_file)

    def open(self, identity: Identity, cancel: CancelToken, deadline: Deadline) -> Channel:
        """Open a connection to the server, through the proxy if there is one.

        Raises `AttemptFailed`, `AuthError`, `ConfigError` or `Cancelled`.
        """
        tls = self._tls.get(identity.certificate, identity.version) if self._url.secure else None
        until = min(deadline.at, self._clock.monotonic() + self._timeout)
        patience = Patience(self._clock, cancel, until)
        try:
            channel = _connect(self.proxy or self._url, patience)
        except OutOfTime:
            text = f"no connection to {(self.proxy or self._url).authority} within {self._timeout:.0f} s"
            raise AttemptFailed(f"{text}: is it down, or behind a firewall?", processed=False) from None
        try:
            if self.proxy and tls:
                self._tunnel(channel, self.proxy)
            if tls:
                channel.start_tls(tls, self._url.host)
        except OutOfTime:
            channel.close()
            text = f"{self._url.authority} did not finish the TLS handshake within {self._timeout:.0f} s"
            raise AttemptFailed(text, processed=False) from None
        except OSError as error:
            channel.close()
            raise tls_failure(error, self._url) from None
        except BaseException:
            channel.close()
            raise
        return channel

    def raise_if_refused(self, identity: Identity, cancel: CancelToken, deadline: Deadline) -> None:
        """Find out why the server ended a new connection without a word; raises `AuthError` if it is our certificate.

        The alert that says so is thrown away, with everything else that has arrived, when the server closes while our
        request is still on its way. On a connection without a request it is not.
        """
        with contextlib.suppress(AttemptFailed):
            channel = self.open(identity, cancel, deadline)
            until = min(deadline.at, self._clock.monotonic() + _ALERT_SECONDS)
            channel.patience = Patience(self._clock, cancel, until)
            try:
                channel.receive_into(memoryview(bytearray(1)))
            except OutOfTime:
                pass  # content, it seems
            except OSError as error:
                refusal = certificate_refusal(error, self._url)
                if refusal is not None:
                    raise refusal from None
            finally:
                channel.close()

    def _tunnel(self, channel: Channel, proxy: BaseUrl) -> None:
        """Have the proxy connect to the server (CONNECT, RFC 9110, 9.3.6)."""
        headers = {"Host": self._url.authority, "User-Agent": self._agent, **proxy_authorization(proxy)}
        lines = [f"CONNECT {self._url.authority} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        channel.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        response = http.client.HTTPResponse(channel, method="CONNECT")  # type: ignore[arg-type]
        try:
            response.begin()
        except (http.client.HTTPException, ConnectionError):
            raise AttemptFailed(f"the proxy {proxy} does not answer as one: check it", processed=False) from None
        if response.status != 200:
            text = f"the proxy {proxy} refuses a connection to {self._url.authority} ({response.status})"
            raise AttemptFailed(text, processed=False)


def proxy_authorization(proxy: BaseUrl) -> dict[str, str]:
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
