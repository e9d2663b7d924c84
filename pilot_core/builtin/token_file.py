"""The credential source `token-file`: a bearer token in a file that somebody else renews."""

from __future__ import annotations

import base64
import binascii
import json
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.credential import BearerToken
from pilot_core.api.provider import Context, Provider
from pilot_core.api.settings import setting
from pilot_core.errors import AuthError, ConfigError
from pilot_core.hookspecs import hookimpl

if TYPE_CHECKING:
    import os

    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = ["TokenFile", "TokenFileSettings", "token_expiry"]

_ORIGIN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*[.:][A-Za-z0-9_-]+")
_TOKEN = re.compile(rb"[\x21-\x7e]+")
_LARGEST = 65536
"""Bytes; a header of an HTTP request cannot be longer anywhere."""


@dataclass(frozen=True, kw_only=True)
class TokenFileSettings:
    """Settings of the credential source `token-file`."""

    file: Path = setting(help="file with the bearer token; read again whenever it changes", metavar="FILE")
    origin: str = setting(help="virtual organisation and role of the token, sent beside it", metavar="VO.ROLE")


def token_expiry(token: str) -> float | None:
    """Return when a JSON Web Token ends (`exp`, seconds since 1970), or None if it does not say or is no JWT.

    Nothing is verified: that is the server's business.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims: Any = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(end, bool) or not isinstance(end, (int, float)) or not 0 <= end < 1e12:
        return None
    return float(end)


class TokenFile:
    """Gives the token of a file, read again when the file's time, size or inode changes."""

    def __init__(self, settings: TokenFileSettings, context: Context) -> None:
        if not _ORIGIN.fullmatch(settings.origin):
            raise ConfigError(f"token origin {settings.origin!r}: write it as VO.ROLE, e.g. panda_dev.production")
        self._file = settings.file
        self._origin = settings.origin
        self._clock = context.clock
        self._log = context.log
        self._lock = threading.Lock()
        self._version: tuple[int, ...] | None = None
        self._token: BearerToken | None = None
        self._seen: dict[str, None] = {}

    def credential(self, *, cancel: CancelToken, deadline: Deadline) -> BearerToken:  # noqa: ARG002
        """Return the token that the file holds now.

        Raises `AuthError` if the file is missing, unreadable, holds no token, or one that has expired.
        """
        with self._lock:
            token = self._current()
        if token.expires is not None and token.expires <= self._clock.wall():
            ended = datetime.fromtimestamp(token.expires, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
            raise AuthError(f"the token in {self._file} expired at {ended}: write a new one into the file")
        return token

    def secrets(self) -> tuple[str, ...]:
        """Return every token read so far."""
        return tuple(self._seen)

    def _current(self) -> BearerToken:
        """Return the file's token, from memory if the file is the same as before."""
        try:
            status = self._file.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
            if self._token is not None and version == self._version:
                return self._token
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
                raise AuthError(f"{self._file} is not a file with a token; check --token-file")
            content = self._file.read_bytes().strip()
        except OSError as error:
            raise AuthError(f"cannot read the token file {self._file}: {error.strerror}; check --token-file") from None
        self._token = self._parse(content)
        self._version = version
        self._warn_if_open(status)
        return self._token

    def _parse(self, content: bytes) -> BearerToken:
        """Return the token that the file's bytes are."""
        if not content:
            raise AuthError(f"the token file {self._file} is empty: write the token into it")
        if not _TOKEN.fullmatch(content):
            raise AuthError(f"{self._file} does not hold one token (it must be a single word of printable ASCII)")
        value = content.decode("ascii")
        self._seen[value] = None
        return BearerToken(value=value, origin=self._origin, expires=token_expiry(value), source=str(self._file))

    def _warn_if_open(self, status: os.stat_result) -> None:
        """Warn if others may read the token."""
        if status.st_mode & 0o007:
            self._log.warning("the token file %s can be read by every user of this machine: chmod 600 it", self._file)


@hookimpl
def pilot_credentials() -> Iterator[Provider[TokenFile]]:
    """Offer `token-file`."""
    yield Provider(name="token-file", factory=TokenFile, settings=TokenFileSettings)
