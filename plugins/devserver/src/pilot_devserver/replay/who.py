"""Who sent a recorded request: read from the title, the Authorization header and the port; and real credentials for it.

Certificates and proxies come from an authority, tokens from an issuer, and both are verified by the server as any
others: only the choice is made here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jwt

from pilot_devserver.certificates import Credential, make_proxy
from pilot_devserver.tokens import TokenIssuer

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_devserver.certificates import Authority
    from pilot_devserver.replay.recording import Exchange

__all__ = ["ANONYMOUS", "LIMITED", "PILOT", "PROXY", "USER", "Wallet", "certificate_kind", "is_plain"]

PLAIN_PORTS = frozenset({25080, 25081, 25085})
ANONYMOUS, PILOT, USER, PROXY, LIMITED = "anonymous", "pilot", "user", "proxy", "limited proxy"
USER_NAME = "Jane User"
"""The plain user of the recordings, whose jobs have this name in their `prodUserID`."""

_NO_CERTIFICATE = re.compile(r"\bno cert|without (a )?(client )?cert|no auth|anonymous")
_NO_ROLE = re.compile(r"cert\w* without (\w+ )?role|plain user|no role")


def is_plain(exchange: Exchange) -> bool:
    """Say whether a request was sent over plain HTTP."""
    return exchange.port in PLAIN_PORTS


def certificate_kind(exchange: Exchange) -> str:
    """Return which client certificate a request was sent with."""
    title = exchange.title
    if is_plain(exchange) or exchange.header("authorization"):
        return ANONYMOUS
    if _NO_ROLE.search(title):
        return USER
    if _NO_CERTIFICATE.search(title):
        return ANONYMOUS
    if re.search(r"\bproxy\b", title):
        return LIMITED if "limited" in title else PROXY
    return PILOT


@dataclass
class Wallet:
    """Credentials of all kinds for one server."""

    pilot: Credential
    authority: Authority
    issuer: TokenIssuer
    clock: Clock

    def certificate(self, kind: str) -> Credential | None:
        """Return a certificate with its key; None for an anonymous request."""
        if kind == ANONYMOUS:
            return None
        if kind == USER:
            return self.authority.client(USER_NAME)
        if kind in (PROXY, LIMITED):
            return make_proxy(self.pilot, self.clock, limited=kind == LIMITED)
        return self.pilot

    def authorization(self, exchange: Exchange) -> str:
        """Return the Authorization header to send: the recorded one, with a real token in it."""
        recorded = exchange.header("authorization")
        return recorded.replace("<token>", self._token(exchange.title.lower()))

    def _token(self, title: str) -> str:
        """Return a token of the kind that the title tells."""
        return next((make(self.issuer) for words, make in _TOKENS if re.search(words, title)), self.issuer.issue())


def _forged(issuer: TokenIssuer) -> str:
    """Return a token that says it was signed with the issuer's key, and was signed with another."""
    token = issuer.issue()
    content = jwt.decode(token, options={"verify_signature": False})
    other = TokenIssuer.create(issuer.clock).key
    return jwt.encode(content, other, algorithm="RS256", headers={"kid": issuer.key_id})


_TOKENS: Sequence[tuple[str, Callable[[TokenIssuer], str]]] = (
    ("garbage|not a token|malformed", lambda _: "garbage"),
    ("expired", lambda issuer: issuer.issue(seconds=-3600)),
    ("without the group|not a member|other group", lambda issuer: issuer.issue(groups=("/wlcg/other",))),
    ("signature|forged|tampered|another key|wrong key", _forged),
    ("issuer", lambda issuer: issuer.issue(claims={"iss": "https://issuer.invalid/"})),
    ("audience|client id|unknown client", lambda issuer: issuer.issue(claims={"aud": "nobody", "sub": "nobody"})),
)
"""Tokens that are not as they should be, by words in the title."""
