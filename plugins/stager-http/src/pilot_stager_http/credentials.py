"""Who the pilot is towards a storage: a token from a file, an X.509 proxy."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core import AuthError, ClientCertificate

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline
    from pilot_stager_http.settings import Settings

__all__ = ["Credentials", "TokenFile"]

_TOKEN = re.compile(r"[!-~]+")
_LARGEST = 65536


class TokenFile:
    """A bearer token in a file that somebody else renews. Thread safe; its value never shows in a repr."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version: tuple[int, ...] = ()
        self._value = ""
        self._before = ""

    def value(self) -> str:
        """Return the token, read again if the file has changed; raises `AuthError` if there is none."""
        with self._lock:
            try:
                status = self._path.stat()
                version = (status.st_mtime_ns, status.st_size, status.st_ino)
                if version != self._version:
                    self._before = self._value or self._before
                    with self._path.open("rb") as file:
                        self._value = file.read(_LARGEST).decode("ascii", "replace").strip()
                    self._version = version
            except OSError as error:
                raise AuthError(
                    f"cannot read the token file {self._path}: {error.strerror}; check stager.http.token_file"
                ) from None
            if not _TOKEN.fullmatch(self._value):
                self._version = ()
                raise AuthError(f"{self._path} holds no token: one word is expected; check stager.http.token_file")
            return self._value

    def without(self, text: str) -> str:
        """Return a text without the token, and without the one before it, which may still be on its way."""
        for secret in (self._value, self._before):
            text = text.replace(secret, "(the token)") if secret else text
        return text


class Credentials:
    """What is presented to the storages that URLs name, and never to where they redirect."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._token = TokenFile(settings.token_file) if settings.token_file is not None else None
        self._token_over_http = settings.token_over_http
        self._source = context.credential if settings.use_pilot_certificate else None
        self._certificate: ClientCertificate | None = None
        if settings.x509_proxy is not None:
            key = settings.x509_key or settings.x509_proxy
            self._certificate = ClientCertificate(cert_file=settings.x509_proxy, key_file=key)

    def token(self, *, secure: bool) -> str:
        """Return the token to send, empty for none; raises `AuthError` if its file is no good."""
        if self._token is None or not (secure or self._token_over_http):
            return ""
        return self._token.value()

    def without_secrets(self, text: str) -> str:
        """Return a text of a storage without the token that it was sent."""
        return self._token.without(text) if self._token else text

    def certificate(self, *, cancel: CancelToken, deadline: Deadline) -> ClientCertificate | None:
        """Return the certificate to present, None for none; the pilot's bearer token is not for storages."""
        if self._certificate is not None or self._source is None:
            return self._certificate
        found = self._source.credential(cancel=cancel, deadline=deadline)
        return found if isinstance(found, ClientCertificate) else None
