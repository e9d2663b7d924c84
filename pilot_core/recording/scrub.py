"""Taking secrets out of what is recorded: by the name of a field, by the look of a value, and by the values known.

A recording is made to be given away, so three nets hang behind each other. Structured data loses every value whose
field is named as a secret; texts lose whatever looks like a private key, a token or a password in a URL; and all that
is written loses the secrets that this pilot has come to know, in the forms in which they travel.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

from pilot_core.logs import HIDDEN, Redactor

__all__ = ["SECRET_FIELDS", "SECRET_HEADERS", "LearningRedactor", "Scrubber", "is_secret_field"]

SHORTEST = 6
"""Characters of a secret that is looked for by its value: shorter ones would hide half of every line."""
SHORTEST_ENCODED = 8
"""Characters of its Base64 forms: the ends depend on what stands beside it and are left out."""

# fmt: off
SECRET_FIELDS = frozenset({
    "accesskey", "accesstoken", "apikey", "authorization", "bearer", "clientsecret", "cookie", "credentials",
    "idtoken", "passphrase", "passwd", "password", "pilotsecrets", "privatekey", "proxyauthorization",
    "refreshtoken", "secret", "secretkey", "secrets", "setcookie", "token", "tokenkey", "userproxy",
})
# fmt: on
"""Names of fields whose values never get into a recording; compared in lower case, without `_`, `-` and blanks."""
_ENDS = (
    "accesskey apikey authorization authz credential passphrase passwd password privatekey secret secretkey signature "
    "token"
)
"""Ends of such names: `db_password`, `X-Amz-Security-Token`."""
_NO_SECRET_ENDS = ("dblocktoken", "spacetoken")
"""Storage's names of its parts are called tokens too, and everybody may know them."""
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-auth-token"})
"""Names of headers, in lower case, of which no more than the scheme is kept."""

_TEXTS = (
    re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"),
    re.compile(r"(?:(?<=\b[Bb]earer[ +])|(?<=\bBEARER )|(?<=\b[Bb]earer%20))[A-Za-z0-9._~+/=%-]{6,}"),
    re.compile(r"(?<=\b[Bb]asic )[A-Za-z0-9+/]{8,}={0,2}"),
    re.compile(r"\b(?:gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{15,})"),
    re.compile(r"(?<=://)[^\s/@\"'<>]+(?=@)"),
)
"""What a secret looks like in a text: a private key in PEM, a JSON Web Token, a bearer token or a password of
HTTP, the tokens of well-known forges, a user in a URL."""
_WORDS = (
    r"(?:(?<!dblock)(?<!space)token|secret|password|passwd|passphrase|signature|authz|credential|"
    r"(?:api|private|access|secret)[_-]?key)"
)
_NAMED = re.compile(
    # name=value in URLs, shells and options; --name value. Quotes may stand between, those of shells in shells and of
    # JSON too; the end of a value is left alone as soon as it could be one, so that JSON stays JSON. It begins where a
    # word begins, or a long word would be gone through from each of its letters
    rf"((?:(?<![\w.-])[\w.-]*{_WORDS}|(?<=[?&;])sig)=[\\\"']*|(?<![\w-])--?[\w-]*{_WORDS} +[\\\"']*(?!-))"
    r"[^\s&;,\"'<>\\|():{}\[\]][^\s&;,\"'<>\\|()]*",
    re.IGNORECASE,
)
"""A secret that has its name before it."""
_OPTION = re.compile(rf"--?[\w-]*{_WORDS}", re.IGNORECASE)
"""A word of a command whose next word is a secret."""


def is_secret_field(name: str) -> bool:
    """Say whether a field's name is one of `SECRET_FIELDS`, or ends as such names do."""
    plain = re.sub(r"[_\-\s]", "", name).lower()
    return plain in SECRET_FIELDS or (plain.endswith(tuple(_ENDS.split())) and not plain.endswith(_NO_SECRET_ENDS))


class Scrubber:
    """Knows this pilot's secrets and takes them out. Safe in several threads."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def learn(self, secrets: Iterable[str]) -> None:
        """Learn secrets; those shorter than `SHORTEST` are left to the other nets."""
        new = {form for secret in secrets for form in _forms(secret)}
        with self._lock:
            if new - self._known:
                self._known |= new
                longest_first = sorted(self._known, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        """Return a text without what is, or looks like, a secret."""
        for pattern in _TEXTS:
            text = pattern.sub(HIDDEN, text)
        text = _NAMED.sub(rf"\1{HIDDEN}", text)
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def body(self, text: str) -> str:
        """Return the text of a message's body; JSON and forms lose their secret fields too."""
        value = _json(text)
        if isinstance(value, (dict, list)):
            clean = self._fields(value)
            return self.text(text if clean == value else json.dumps(clean))
        if "=" in text and not re.search(r"[\s<{]", text):
            text = self.query(text)
        return self.text(text)

    def query(self, text: str) -> str:
        """Return `a=b&c=d` without the values of secret fields."""
        pairs = (part.partition("=") for part in text.split("&"))
        return "&".join(
            name + sep + (HIDDEN if sep and is_secret_field(name) else self._coded(value)) for name, sep, value in pairs
        )

    def _coded(self, value: str) -> str:
        """Return a value of a form or a query, coded as it was, without what is a secret once it is decoded."""
        plain = unquote_plus(value)
        clean = self._texts(self._fields(plain))
        return value if clean == plain else quote_plus(clean, safe="<>")

    def header(self, name: str, value: str) -> str:
        """Return a header's value; of a credential only its scheme is left."""
        if name.lower() not in SECRET_HEADERS and not is_secret_field(name):
            return self.text(value)
        scheme, blank, _ = value.partition(" ")
        return f"{scheme} {HIDDEN}" if blank and name.lower().endswith("authorization") else HIDDEN

    def value(self, value: Any) -> Any:
        """Return plain JSON data without secrets."""
        return self._texts(self._fields(value))

    def _fields(self, value: Any) -> Any:
        """Return JSON data in which the values of secret fields are hidden."""
        if isinstance(value, Mapping):
            return {
                key: hide(inner) if is_secret_field(str(key)) else self._fields(inner) for key, inner in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [
                HIDDEN if _is_secret_word(before, inner) else self._fields(inner)
                for before, inner in zip(("", *value), value, strict=False)
            ]
        if isinstance(value, str) and value[:1] in {"{", "["}:
            inner = _json(value)
            if isinstance(inner, (dict, list)):
                clean = self._fields(inner)
                return value if clean == inner else json.dumps(clean)
        return value

    def _texts(self, value: Any) -> Any:
        """Return JSON data whose texts, and names of fields, are clean."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._texts(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._texts(inner) for inner in value]
        return value


class LearningRedactor(Redactor):
    """The log's redactor that tells a scrubber whatever it is told."""

    def __init__(self, scrubber: Scrubber) -> None:
        super().__init__()
        self._scrubber = scrubber

    def add(self, secrets: Iterable[str]) -> None:
        """Learn secrets, for the log and for the recording."""
        secrets = tuple(secrets)
        super().add(secrets)
        self._scrubber.learn(secrets)


def hide(value: Any) -> Any:
    """Return the value of a secret field with its form and without its content, so that a replay can still read it."""
    if isinstance(value, Mapping):
        return {key: hide(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide(inner) for inner in value]
    if isinstance(value, str) and value[:1] in {"{", "["}:
        inner = _json(value)
        if isinstance(inner, (dict, list)):
            return json.dumps(hide(inner))
    return value if value in (None, "", True, False) else HIDDEN


def _is_secret_word(before: Any, word: Any) -> bool:
    """Say whether a word of a command follows an option that takes a secret."""
    texts = isinstance(before, str) and isinstance(word, str)
    return texts and not word.startswith("-") and _OPTION.fullmatch(before) is not None


def _json(text: str) -> Any:
    """Return what a text is as JSON; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _forms(secret: str) -> Iterable[str]:
    """Return a secret as it may travel: plain, line by line, as JSON (in JSON), URL-encoded, hexadecimal, Base64."""
    for part in {secret, *secret.splitlines()}:
        if len(part) < SHORTEST:
            continue
        data = part.encode("utf-8", "surrogatepass")
        escaped = json.dumps(part)[1:-1]
        yield from (
            part,
            repr(part)[1:-1],
            escaped,
            json.dumps(escaped)[1:-1],
            json.dumps(part, ensure_ascii=False)[1:-1],
        )
        for coded in (quote(data, safe=""), quote(data), quote_plus(data)):
            yield from (coded, re.sub("%..", lambda match: match[0].lower(), coded), quote(coded, safe=""))
        yield from (data.hex(), data.hex().upper())
        yield from _base64_forms(data)


def _base64_forms(data: bytes) -> Iterable[str]:
    """Return what of a secret's Base64 does not depend on what stands before and after it: three alignments."""
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + data).decode("ascii")
        first, last = -(-shift * 8 // 6), (shift + len(data)) * 8 // 6
        core = coded[first:last]
        if len(core) >= SHORTEST_ENCODED:
            yield from (core, core.translate(str.maketrans("+/", "-_")), quote(core, safe=""))
