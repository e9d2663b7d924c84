"""One call of a method: who calls, with what, on which store; and the envelope that every method answers in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.server.binding import Refused, bind

if TYPE_CHECKING:
    from pilot_communicator_panda.server.signatures import Method
    from pilot_core.api.server import JobStore, ServerRequest

__all__ = ["Call", "Envelope", "Handler", "answer", "call", "user_dn"]

NO_TLS = "SSL secure connection is required"
NO_ROLE = "production or pilot role required"
LIMITED_PROXY = "/CN=limited proxy"

Envelope = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call whose caller and parameters were checked."""

    request: ServerRequest
    store: JobStore
    arguments: Mapping[str, Any]

    @property
    def dn(self) -> str:
        """Return the caller's DN; "" for an anonymous one."""
        return user_dn(self.request.identity.dn) if self.request.identity else ""

    @property
    def production(self) -> bool:
        """Return whether the caller has a production role."""
        return self.request.identity is not None and self.request.identity.production


Handler = Callable[[Call], Envelope]


def answer(success: bool, message: str | None = "", data: Any = None) -> Envelope:
    """Return the envelope of every answer."""
    return {"success": success, "message": message, "data": data}


def user_dn(dn: str) -> str:
    """Return a DN without what limited and repeated proxies add."""
    return re.sub("/CN=proxy(/CN=proxy)+", "/CN=proxy", dn.replace(LIMITED_PROXY, ""))


def call(method: Method, handler: Handler, request: ServerRequest, store: JobStore, params: Any) -> Envelope:
    """Check a call in the real server's order, then do it. Raises `Crash`."""
    identity = request.identity
    if method.secure and (identity is None or LIMITED_PROXY in identity.dn):
        return answer(False, NO_TLS)
    if method.production and not (identity is not None and identity.production):
        return answer(False, NO_ROLE)
    if request.method != method.http:
        return answer(False, f"expecting {method.http}, received {request.method}")
    try:
        arguments = bind(method, params, request.method)
    except Refused as refusal:
        return answer(False, str(refusal))
    return handler(Call(request, store, arguments))
