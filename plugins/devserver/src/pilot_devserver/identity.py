"""Who sends a request: from the client certificate that TLS has verified, or from a bearer token.

The development server reads no VOMS attributes (an attribute certificate needs a VOMS server's signature): which
roles a certificate has is configured, by its DN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from pilot_core.api.server import Identity
from pilot_devserver.certificates import PROXY_CERT_INFO, slash_dn
from pilot_devserver.tokens import EXPIRED, TokenDenied

if TYPE_CHECKING:
    from pilot_devserver.tokens import TokenIssuer

__all__ = ["Authenticator", "certificate_dn"]

LIMITED_PROXY = "/CN=limited proxy"


def certificate_dn(der: bytes) -> str:
    """Return the DN of a client certificate in slash form, levels of a proxy taken off.

    Limited proxies of the old kind keep theirs, by which the real server knows them: it judges by the DN's text
    alone, so that an RFC 3820 proxy with a limited policy is accepted (observed on panda-server 1.0.4).
    """
    certificate = x509.load_der_x509_certificate(der)
    names = list(certificate.subject)
    if _is_proxy(certificate):
        # the file may hold a proxy of a proxy, and TLS hands us the first of the chain only
        while len(names) > 1 and _is_proxy_level(names[-1]):
            names.pop()
    return slash_dn(x509.Name(names))


def _is_proxy(certificate: x509.Certificate) -> bool:
    """Say whether a certificate is an RFC 3820 proxy; TLS accepts no other kind."""
    try:
        certificate.extensions.get_extension_for_oid(PROXY_CERT_INFO)
    except x509.ExtensionNotFound:
        return False
    return True


def _is_proxy_level(item: x509.NameAttribute[str | bytes]) -> bool:
    """Say whether a part of a proxy's subject is what a level of delegation adds."""
    text = str(item.value)
    return item.oid == NameOID.COMMON_NAME and (text == "proxy" or (text.isascii() and text.isdigit()))


@dataclass
class Authenticator:
    """Turns what TLS and the headers say into an identity."""

    tokens: TokenIssuer
    roles: Mapping[str, tuple[str, ...]]
    """FQANs by DN."""
    expired: frozenset[str] = field(default=frozenset(), repr=False)
    """Tokens to refuse as if they had expired, whatever they say."""
    _known: dict[bytes, str] = field(default_factory=dict)

    def identify(self, certificate: bytes | None, headers: Mapping[str, str]) -> tuple[Identity | None, str]:
        """Return the identity (None = anonymous) and why a credential was refused ("" = it was not).

        `certificate` is the DER of the verified client certificate, `headers` have lower-case names. A certificate
        goes before a token, but a bad token is refused all the same.
        """
        identity = self._by_certificate(certificate) if certificate else None
        words = headers.get("authorization", "").split()
        if len(words) < 2:
            # the real server ignores what has no scheme
            return identity, ""
        if words[1] in self.expired:
            return identity, EXPIRED
        try:
            bearer = self.tokens.identify(words[1], headers.get("origin"))
        except TokenDenied as denial:
            return identity, str(denial)
        return identity or bearer, ""

    def _by_certificate(self, certificate: bytes) -> Identity | None:
        """Return the identity of a certificate, None for a limited proxy."""
        if certificate not in self._known:
            if len(self._known) >= 1000:
                self._known.clear()
            self._known[certificate] = certificate_dn(certificate)
        dn = self._known[certificate]
        return None if LIMITED_PROXY in dn else Identity(dn=dn, fqans=self.roles.get(dn, ()))
