"""The token that every request to Rucio carries: from a file, or from a login with password or certificate.

A login's token is renewed before it ends. When that is, is told by the server's own clock: the answer's `Date` and
`X-Rucio-Auth-Token-Expires`. A token that Rucio refuses is got again once, whatever it said.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_catalog_rucio.answers import TokenRefused, trouble
from pilot_core import AuthError, ClientCertificate, CommunicationError
from pilot_core.api.web import WebRequest

if TYPE_CHECKING:
    from pilot_catalog_rucio.settings import Settings
    from pilot_core import CancelToken, Context, Deadline
    from pilot_core.api.web import Headers, WebClient

__all__ = ["Tokens"]

EARLY = 300.0
"""Seconds before its end at which a token is renewed: a request that uses it may take a while."""
SHORTEST = 10.0
"""A new token is used so long, whatever end it says."""
UNKNOWN = 1800.0
"""A token that does not say when it ends is renewed after so many seconds; Rucio's live an hour."""
LARGEST = 65536
"""Bytes of a file with a token or a password."""


@dataclass(frozen=True)
class _Token:
    value: str
    until: float
    """By the monotonic clock."""


class Tokens:
    """Gives the token that is good now. Several threads that need a new one at once may each get one: no harm."""

    def __init__(self, settings: Settings, context: Context, web: WebClient, headers: dict[str, str]) -> None:
        self._settings = settings
        self._context = context
        self._clock = context.clock
        self._web = web
        self._headers = headers
        self._token: _Token | None = None

    def get(self, cancel: CancelToken, deadline: Deadline) -> str:
        """Return a token; raises `AuthError` if there is none to be had, and what a request raises."""
        if self._settings.token_file:
            return _secret_in(self._settings.token_file, "token_file")
        token = self._token
        if token is None or self._clock.monotonic() >= token.until:
            token = self._token = self._login(cancel, deadline)
        return token.value

    def refused(self, value: str) -> None:
        """Do not use this token again."""
        if self._token is not None and self._token.value == value:
            self._token = None

    def _login(self, cancel: CancelToken, deadline: Deadline) -> _Token:
        """Get a token for a password or a certificate."""
        headers, certificate = dict(self._headers), None
        if self._settings.username and self._settings.password_file:
            path = "auth/userpass"
            headers["X-Rucio-Username"] = self._settings.username
            headers["X-Rucio-Password"] = _secret_in(self._settings.password_file, "password_file")
        else:
            certificate = self._certificate(cancel, deadline)
            # as Rucio's own client: a server may want to let in proxies at one of the two only
            path = "auth/x509_proxy" if certificate.cert_file == certificate.key_file else "auth/x509"
        base = (self._settings.auth_url or self._settings.url).rstrip("/")
        what = f"login at {base}"
        request = WebRequest(method="GET", url=f"{base}/{path}", headers=headers, certificate=certificate, what=what)
        with self._web.send(request, cancel=cancel, deadline=deadline) as answer:
            error = trouble(answer, what, self._clock.wall())
            if isinstance(error, TokenRefused):
                raise AuthError(f"{error}; look at {self._way()} and the account in [catalog.rucio]")
            if error is not None:
                raise error
            value = answer.headers.get("X-Rucio-Auth-Token", "")
            if answer.status != 200 or not (value and value.isascii() and value.isprintable()):
                raise CommunicationError(f"{what}: the answer has no token; is it a Rucio server?")
            return _Token(value, self._clock.monotonic() + lifetime(answer.headers))

    def _way(self) -> str:
        if self._settings.username:
            return "username, password_file"
        return "x509_proxy" if self._settings.x509_proxy else "the pilot's own certificate"

    def _certificate(self, cancel: CancelToken, deadline: Deadline) -> ClientCertificate:
        """Return the certificate to log in with: that of the settings, or the pilot's own; never its bearer token."""
        file = self._settings.x509_proxy
        if file:
            return ClientCertificate(cert_file=file, key_file=file)
        source = self._context.credential
        credential = source.credential(cancel=cancel, deadline=deadline) if source else None
        if isinstance(credential, ClientCertificate):
            return credential
        raise AuthError(
            "Rucio wants to know who asks, and the pilot has no certificate: "
            "set token_file, x509_proxy, or username and password_file in [catalog.rucio]"
        )


def lifetime(headers: Headers) -> float:
    """Return for how many seconds the token of an answer is to be used."""
    try:
        end = parsedate_to_datetime(headers["X-Rucio-Auth-Token-Expires"])
        now = parsedate_to_datetime(headers["Date"])
        return max(SHORTEST, (end.replace(tzinfo=None) - now.replace(tzinfo=None)).total_seconds() - EARLY)
    except (KeyError, TypeError, ValueError, OverflowError):
        return UNKNOWN


def _secret_in(file: Path, key: str) -> str:
    """Return the one line that a file holds, read again each time; raises `AuthError`, never with any part of it."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise AuthError(f"catalog.rucio.{key}: cannot read {file}: {error.strerror}") from None
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or len(data) > LARGEST:
        raise AuthError(f"catalog.rucio.{key}: {file} does not hold one line of printable ASCII")
    return text
