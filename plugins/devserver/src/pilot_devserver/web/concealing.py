"""What nobody sees on a page: credentials and secrets are taken out of whatever is shown of an exchange.

Three nets, one behind the other: fields by their names, answers of methods that hand out credentials, and texts that
look like a token or a key or are a secret that the server itself keeps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pilot_devserver.web.decoding import Nested

__all__ = ["HIDDEN", "TOO_DEEP", "Concealer"]

HIDDEN = "[hidden]"
TOO_DEEP = "[too deep to be shown]"
_DEEPEST = 40

_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-auth-token"})
_FIELDS = frozenset(
    {
        *("secrets", "pilotsecrets", "token", "accesstoken", "refreshtoken", "idtoken", "tokenkey", "password"),
        *("userproxy", "proxy", "privatekey", "publickey", "authorization", "secret", "clientsecret"),
    }
)
"""Names of fields whose values are secrets, in lower case and without underscores."""
_ENDS = ("password", "passphrase", "secretkey", "accesskey", "privatekey", "apikey", "authtoken")
"""Ends of such names: `db_password`, `X-Rucio-Auth-Token`."""
_SECRET_METHODS = frozenset(
    {
        *("getusersecrets", "setusersecrets", "setusersecret", "getkeypair", "getproxy", "getaccesstoken"),
        "gettokenkey",
    }
)
_OPEN = frozenset({"success", "message", "statuscode", "errordialog", "role", "dn", "clientname", "keys", "key"})
"""What may be seen even of those methods' calls and answers."""
_PATTERNS = (
    re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}(\.[\w-]*)?"),
    re.compile(r"-----BEGIN [A-Z ]*(PRIVATE KEY|CERTIFICATE)-----.*?(-----END [A-Z ]*-----|\Z)", re.DOTALL),
    re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"),
    re.compile(r"(?<=://)[^\s/@\"'<>]+(?=@)"),
)
_IN_TEXT = re.compile(
    r"""(["']?\b(?:pilotSecrets|secrets|token|access_token|refresh_token|id_token|token_key|password|userProxy|secret)\b["']?
    \s*[:=]\s*) ("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|\{[^}]*\}?|[^\s&,;}]+)""",
    re.IGNORECASE | re.VERBOSE,
)
"""A secret field in a text that could not be parsed: what is cut short has no end."""
_SHORTEST = 4
"""Characters of the shortest secret that is looked for in texts: shorter ones would hide half of everything."""


@dataclass(frozen=True)
class Concealer:
    """Hides secrets in headers, texts and decoded values; `known` are secrets as the server keeps them."""

    known: tuple[str, ...] = ()

    @classmethod
    def of(cls, known: Iterable[str]) -> Concealer:
        """Make one that knows these secrets, each as it is and as JSON writes it, the longest first."""
        forms = {form for text in known for form in (text, json.dumps(text)[1:-1]) if len(text) >= _SHORTEST}
        return cls(tuple(sorted(forms, key=lambda form: (-len(form), form))))

    def text(self, text: str) -> str:
        """Return a text without anything that is or looks like a secret."""
        for secret in self.known:
            text = text.replace(secret, HIDDEN)
        text = _IN_TEXT.sub(rf"\1{HIDDEN}", text)
        for pattern in _PATTERNS:
            text = pattern.sub(HIDDEN, text)
        return text

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers without credentials; of Authorization the scheme stays."""
        return {name: self._header(name, value) for name, value in headers.items()}

    def _header(self, name: str, value: str) -> str:
        if name.lower() not in _HEADERS and not _is_secret(name):
            return self.text(value)
        scheme, space, _ = value.partition(" ")
        known = name.lower() == "authorization" and space and scheme.lower() in ("bearer", "basic")
        return f"{scheme} {HIDDEN}" if known else HIDDEN

    def value(self, value: Any, method: str = "") -> Any:
        """Return a decoded value without secrets; `method` is the last part of the endpoint's path.

        What is nested deeper than anybody reads is left out.
        """
        return self._value(value, _plain(method) in _SECRET_METHODS, _DEEPEST)

    def _value(self, value: Any, secret: bool, depth: int) -> Any:
        if depth == 0:
            return TOO_DEEP
        if isinstance(value, Nested):
            return Nested(self._value(value.value, secret, depth - 1), value.how)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self._field(str(name), item, secret, depth) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._value(item, secret, depth - 1) for item in value]
        if secret and isinstance(value, str) and value:
            return HIDDEN
        return self.text(value) if isinstance(value, str) else value

    def _field(self, name: str, value: Any, secret: bool, depth: int) -> Any:
        if _is_secret(name) and value not in (None, "", "NULL", "{}", "None"):
            return HIDDEN
        if secret and isinstance(value, str):
            return self.text(value) if _plain(name) in _OPEN else self._value(value, True, depth - 1)
        return self._value(value, secret, depth - 1)


def _is_secret(name: str) -> bool:
    """Say whether a field or a header is a secret by its name."""
    plain = _plain(name)
    return plain in _FIELDS or plain.endswith(_ENDS)


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
