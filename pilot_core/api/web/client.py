"""Requests sent and answers begun, on kept connections where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilot_core.api.web.address import WebAddress
from pilot_core.api.web.answer import WebAnswer
from pilot_core.api.web.dial import Dialer, Proxy
from pilot_core.api.web.patience import ConnectionLost, Patience
from pilot_core.api.web.pool import Pool
from pilot_core.api.web.trust import TlsContexts, Trust, identity_of
from pilot_core.errors import BackendUnavailable, TransferError, TransientError

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.clock import Clock
    from pilot_core.api.credential import ClientCertificate
    from pilot_core.api.web.head import Head
    from pilot_core.api.web.trust import Identity
    from pilot_core.api.web.wire import Wire

__all__ = ["WebBody", "WebClient", "WebRequest"]

TOGETHER = 65536
"""Bytes of a body up to which it is sent in one piece with its head."""
_UNREPEATABLE = frozenset({"POST", "PATCH"})
"""Methods that may do something twice if they are sent twice (RFC 9110, 9.2.2)."""


@dataclass(frozen=True, kw_only=True)
class WebBody:
    """A request's body of known length; `blocks` may be called again, and begins with the first byte then.

    An error that the blocks raise, even after the last one, keeps the body from being whole at the other side.
    """

    length: int
    blocks: Callable[[], Iterable[memoryview]]

    @classmethod
    def of(cls, data: bytes) -> WebBody:
        """Return a body of some bytes."""
        return cls(length=len(data), blocks=lambda: (memoryview(data),))


@dataclass(frozen=True, kw_only=True)
class WebRequest:
    """What is asked."""

    method: str
    url: str | WebAddress
    """`http` or `https`, ready for the wire: percent-encoded."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Beside Host, Content-Length, User-Agent and Accept-Encoding, which the client sets unless they are here."""
    body: WebBody | None = None
    expect: bool = False
    """Ask with `Expect: 100-continue` whether the body is wanted, before it is sent."""
    certificate: ClientCertificate | None = None
    """As whom the client presents itself in TLS."""
    what: str = ""
    """The file or place, for messages; by itself the URL without its query."""


class WebClient:
    """Sends requests and returns answers; keeps connections. Thread safe; `close` when it is not needed any more."""

    def __init__(
        self,
        clock: Clock,
        *,
        trust: Trust | None = None,
        proxy: str = "",
        user_agent: str = "pilot-core",
        connect_seconds: float = 30.0,
        silence: float = 120.0,
        expect_seconds: float = 1.0,
    ) -> None:
        """Prepare; raises `ValueError` for a proxy that is no URL of one.

        `connect_seconds` limits opening a connection, `silence` every wait for a byte; a server that does not answer
        an `Expect` within `expect_seconds` gets the body unasked (RFC 9110, 10.1.1).
        """
        self._pool = Pool(clock)
        self._dialer = Dialer(TlsContexts(trust or Trust()), Proxy.parse(proxy), connect_seconds)
        self._user_agent = user_agent
        self._silence = silence
        self._expect_seconds = expect_seconds

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def send(self, request: WebRequest, *, cancel: CancelToken, deadline: Deadline) -> WebAnswer:
        """Send a request and return its answer, whatever its status, with its body still to be read.

        A kept connection that turns out to be closed is replaced without a word, unless the request might be done
        twice then. Raises `TransferError` for a URL that is none, `BackendUnavailable` (no such host, TLS, no HTTP),
        `TransientError` (`ConnectionLost` if the connection ends), `TransferTimeout`, `AuthError` for the client's
        certificate, `Cancelled`, and what the body's blocks raise.
        """
        try:
            address = request.url if isinstance(request.url, WebAddress) else WebAddress.parse(request.url)
        except ValueError as error:
            raise TransferError(f"{request.what or 'a request'}: {error}") from None
        patience = Patience(cancel, deadline, self._silence, request.what or str(address))
        patience.check()
        identity = identity_of(request.certificate) if address.secure else ()
        key = (address.origin, identity)
        while True:
            wire = self._pool.take(key) or self._dialer.open(address, request.certificate, identity, patience)
            wire.begin(patience.what)
            try:
                return self._exchanged(wire, request, address, key, patience)
            except ConnectionLost:
                wire.close()
                if not wire.used or wire.heard or request.method in _UNREPEATABLE:
                    raise
                self._pool.forget(key)
            except _NotExpected:
                wire.close()
                request = replace(request, expect=False)
            except BaseException:
                wire.close()
                raise

    def _exchanged(
        self, wire: Wire, request: WebRequest, address: WebAddress, key: tuple[object, Identity], patience: Patience
    ) -> WebAnswer:
        """Send a request on a connection and read the answer's head."""
        whole = self._sent(wire, request, self._head_of(request, address), patience)
        head = self._final_head(wire, patience)
        if head.status == 417 and request.expect and not whole:
            raise _NotExpected
        keep = (lambda wire: self._pool.give(key, wire)) if whole and head.keeps else None
        return WebAnswer(wire=wire, head=head, address=address, method=request.method, patience=patience, keep=keep)

    def _head_of(self, request: WebRequest, address: WebAddress) -> bytes:
        """Return a request's first bytes."""
        plain_proxy = self._dialer.proxy if not address.secure else None
        fields = {"Host": address.authority, "User-Agent": self._user_agent, "Accept-Encoding": "identity"}
        if request.body is not None:
            fields["Content-Length"] = str(request.body.length)
            if request.expect and request.body.length:
                fields["Expect"] = "100-continue"
        if plain_proxy is not None and plain_proxy.authorization:
            fields["Proxy-Authorization"] = plain_proxy.authorization
        fields |= request.headers
        target = address.url if plain_proxy is not None else address.target
        lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise BackendUnavailable(f"{request.what or address}: a header field with a line break")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _sent(self, wire: Wire, request: WebRequest, head: bytes, patience: Patience) -> bool:
        """Send head and body; False if the other side has answered before it had all of it."""
        body = request.body
        if body is None or not body.length:
            return self._pushed(wire, memoryview(head), patience)
        if not request.expect and body.length <= TOGETHER:
            data = b"".join([head, *body.blocks()])
            if len(data) != len(head) + body.length:
                raise _wrong_length(patience.what, body.length)
            return self._pushed(wire, memoryview(data), patience)
        if not self._pushed(wire, memoryview(head), patience):
            return False
        if request.expect and not self._wanted(wire, patience):
            return False
        return self._body_sent(wire, body, patience)

    def _wanted(self, wire: Wire, patience: Patience) -> bool:
        """Say whether a body is to be sent that was announced: it is asked for, or nothing is said for a while."""
        clock = patience.deadline.clock
        until = clock.monotonic() + self._expect_seconds
        while not wire.listen():  # what makes it readable may be TLS's own business
            if not patience.wait_for(wire, until - clock.monotonic()):
                return True
        return wire.interim(patience)

    def _body_sent(self, wire: Wire, body: WebBody, patience: Patience) -> bool:
        """Send a body block by block, as long as there is no answer.

        The last byte waits until the blocks are known to be at their end: if they raise an error there, about what was
        sent, the other side has not the whole of it, and does not take it for good.
        """
        left, last = body.length, b""
        for block in body.blocks():
            left -= len(block)
            if left < 0:
                break
            at = len(block) - (1 if not left and block else 0)
            last = bytes(block[at:])
            if not self._pushed(wire, block[:at], patience):
                return False
        if left:
            raise _wrong_length(patience.what, body.length)
        return self._pushed(wire, memoryview(last), patience)

    def _pushed(self, wire: Wire, data: memoryview, patience: Patience) -> bool:
        """Send bytes; False if the final answer came before all of them were sent."""
        left = wire.send(data, patience)
        while left and wire.interim(patience):
            left = wire.send(left, patience)
        return not left

    def _final_head(self, wire: Wire, patience: Patience) -> Head:
        """Return the head of the answer itself."""
        head = wire.head(patience)
        while head.interim:
            if head.status == 101:
                raise BackendUnavailable(f"{patience.what}: {wire.what} switches to a protocol that nobody asked for")
            head = wire.head(patience)
        return head


class _NotExpected(Exception):
    """The server does not know `Expect` (417)."""


def _wrong_length(what: str, length: int) -> TransientError:
    return TransientError(f"{what}: what is sent has not the {length} bytes that were announced")
