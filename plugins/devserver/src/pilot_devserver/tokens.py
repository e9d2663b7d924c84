"""Bearer tokens as PanDA takes them: RS256 JWTs whose groups say what the bearer may be.

The texts of refusals are those of panda-server 1.0.4 and 0.8.1, as observed; pilots in the field tell from them
whether a new token would help.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pilot_core.api.server import Identity

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock

__all__ = ["AUDIENCE", "EXPIRED", "ISSUER", "TokenDenied", "TokenIssuer", "read_key"]

ISSUER = "https://localhost/pilot-devserver"
AUDIENCE = "pilot-devserver"
"""The only client id that this server knows."""
EXPIRED = "Invalid token. Signature has expired"

# What the real server says (with "ERROR : Token authentication failed. " before it) when its own code stumbles
_NO_ORIGIN = """\
Token decode failure. 'NoneType' object has no attribute 'replace' Traceback (most recent call last):
  File "<path>", line 36, in decode_token
    vo_role = vo.replace(":", ".")
              ^^^^^^^^^^
AttributeError: 'NoneType' object has no attribute 'replace'
"""
_NO_ROLE = """\
Token decode failure. '{vo}' Traceback (most recent call last):
  File "<path>", line 92, in decode_token
    for role_candidate in panda_config.auth_vo_dict[vo_role].get("auto_roles", []):
                          ~~~~~~~~~~~~~~~~~~~~~~~~~^^^^^^^^^
KeyError: '{vo}'
"""


class TokenDenied(Exception):
    """A token that is not accepted; the text is what the real server says about it."""


def read_key(pem: bytes) -> rsa.RSAPrivateKey:
    """Return the RSA key in a PEM text that we wrote ourselves; raises `ValueError` if there is none."""
    # checking that the numbers are primes takes 50 ms, at every start
    key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not an RSA key")  # noqa: TRY004  (the text is wrong, not the caller's type)
    return key


@dataclass(frozen=True)
class TokenIssuer:
    """Issues tokens and verifies them again; `vos` are the organisations whose members are let in."""

    key: rsa.RSAPrivateKey
    clock: Clock
    vos: frozenset[str] = frozenset({"wlcg"})

    @classmethod
    def create(cls, clock: Clock, vos: Sequence[str] = ("wlcg",)) -> TokenIssuer:
        """Make an issuer with a new key."""
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=2048), clock, frozenset(vos))

    @property
    def key_pem(self) -> bytes:
        """Return the private key, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def key_id(self) -> str:
        """Return the name of the key that tokens carry (`kid`)."""
        return format(self.key.public_key().public_numbers().n & 0xFFFFFFFFFFFFFFFF, "016x")

    def issue(
        self,
        *,
        name: str = "Development Pilot",
        groups: Sequence[str] = ("/wlcg/production", "/wlcg/pilot"),
        seconds: float = 86400.0,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Return a token; a negative lifetime gives one that has expired, `claims` replaces single claims."""
        now = self.clock.wall()
        content = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": name.lower().replace(" ", "-"),
            "name": name,
            "wlcg.groups": list(groups),
            "iat": int(min(now, now + seconds)),
            "exp": int(now + seconds),
            # no two tokens are the same, also of one second (RFC 7519, 4.1.7)
            "jti": secrets.token_hex(16),
            **(claims or {}),
        }
        return jwt.encode(content, self.key, algorithm="RS256", headers={"kid": self.key_id})

    def identify(self, token: str, origin: str | None) -> Identity:
        """Return who sends a token with an `Origin` header (`vo.role` or `vo:role`).

        Raises `TokenDenied`. The order of the checks is the real server's, since it decides which text is sent.
        """
        if origin is None:
            raise TokenDenied(_NO_ORIGIN)
        claims = self._verify(token)
        vo, role = _parse_origin(origin)
        if vo not in self.vos:
            raise TokenDenied(f"Unknown vo : {vo}")
        if not role:
            raise TokenDenied(_NO_ROLE.format(vo=vo))
        groups = claims.get("wlcg.groups", claims.get("groups", ()))
        if f"{vo}/{role}" not in groups and f"/{vo}/{role}" not in groups:
            raise TokenDenied(f"Not a member of the {vo}/{role} group")
        return Identity(dn=_subject(claims), fqans=(f"/{vo}/Role={role}",))

    def _verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token that is ours and has not expired."""
        try:
            header = jwt.get_unverified_header(token)
            audience = jwt.decode(token, options={"verify_signature": False}).get("aud")
            if audience != AUDIENCE:
                raise TokenDenied("Invalid token. cannot extract client_id from token")
            if "kid" not in header:
                raise TokenDenied("Invalid token. cannot extract kid from headers")
            if header["kid"] != self.key_id:
                raise TokenDenied(f"Invalid token. JWK not found for kid={header['kid']}")
            # the library would read the system's time: expiry is checked below, by the injected clock
            claims: Mapping[str, Any] = jwt.decode(
                token,
                self.key.public_key(),
                algorithms=["RS256"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "require": ["sub", "exp"]},
            )
        except jwt.InvalidTokenError as error:
            raise TokenDenied(f"Invalid token. {error}") from None
        if claims["exp"] <= self.clock.wall():
            raise TokenDenied(EXPIRED)
        return claims


def _parse_origin(origin: str) -> tuple[str, str]:
    """Take `vo:role` or `vo.role` apart, the last dot of the latter; the role may be missing."""
    if ":" in origin:
        vo, _, role = origin.partition(":")
        return vo, role
    vo, dot, role = origin.rpartition(".")
    return (vo, role) if dot else (origin, "")


def _subject(claims: Mapping[str, Any]) -> str:
    """Return what the real server uses as the DN of a token's bearer."""
    if "name" not in claims:
        return str(claims["sub"])
    dn = " ".join(word.capitalize() for word in str(claims["name"]).split())
    return f"{dn}/CN=nickname:{claims['preferred_username']}" if "preferred_username" in claims else dn
