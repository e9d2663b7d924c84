"""Sending recorded requests to the protocols themselves, without a socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from pilot_core.api.server import ServerRequest
from pilot_devserver import apache
from pilot_devserver.replay.compare import Reply
from pilot_devserver.replay.who import Wallet, certificate_kind, is_plain

if TYPE_CHECKING:
    from pilot_core.api.server import JobStore, ServerProtocol, ServerResponse
    from pilot_devserver.identity import Authenticator
    from pilot_devserver.replay.recording import Exchange

__all__ = ["LEGACY", "LEGACY_PATH", "LEGACY_PORTS", "NOT_INSTALLED", "Direct"]

LEGACY = "panda-legacy"
LEGACY_PATH = "/server/panda/"
LEGACY_PORTS = frozenset({25444, 25081})
"""Ports of the second server of the recordings, 0.8.1; the first knows no form API."""
NOT_INSTALLED = "it needs the form API, and pilot-communicator-panda-legacy is not installed"


class Direct:
    """Hands requests to protocols, in the order in which they are asked."""

    def __init__(
        self,
        protocols: Mapping[str, ServerProtocol],
        store: JobStore,
        wallet: Wallet,
        authenticator: Authenticator,
    ) -> None:
        self._protocols = protocols
        self._store = store
        self._wallet = wallet
        self._authenticator = authenticator

    def obstacle(self, exchange: Exchange) -> str:
        """Return why the protocols cannot answer; empty = they can."""
        wanted = exchange.port in LEGACY_PORTS and exchange.path.startswith(LEGACY_PATH)
        return NOT_INSTALLED if wanted and LEGACY not in self._protocols else ""

    def send(self, exchange: Exchange) -> Reply:
        """Send a request and return the answer."""
        headers = {name.lower(): value for name, value in exchange.headers}
        if "authorization" in headers:
            headers["authorization"] = self._wallet.authorization(exchange)
        refused = apache.refuse(exchange.method, headers)
        if refused is not None:
            return _reply(refused)
        credential = self._wallet.certificate(certificate_kind(exchange))
        der = credential.certificate.public_bytes(Encoding.DER) if credential else None
        identity, denied = self._authenticator.identify(der, headers)
        path, _, query = exchange.target.partition("?")
        request = ServerRequest(
            method=exchange.method,
            path=apache.clean_path(path),
            query=query,
            headers=headers,
            body=exchange.body or b"",
            secure=not is_plain(exchange),
            identity=identity,
            denied=denied,
        )
        return _reply(self._respond(request, exchange.port in LEGACY_PORTS))

    def _respond(self, request: ServerRequest, legacy: bool) -> ServerResponse:
        for name, protocol in self._protocols.items():
            if (legacy or name != LEGACY) and protocol.handles(request):
                return protocol.respond(request, self._store)
        return apache.not_found()


def _reply(response: ServerResponse) -> Reply:
    body = response.body.decode("utf-8", "replace")
    return Reply(status=response.status, content_type=response.content_type, body=body)
