"""What an `s3` URL means: service, bucket and key.

One rule: an authority with a port is a service (`s3://HOST:PORT/BUCKET/KEY`, as Rucio and PanDA write it), one without
is a bucket of the service that the setting `endpoint` names (`s3://BUCKET/KEY`, as AWS writes it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from pilot_core import BackendUnavailable, ConfigError, HandledError, PilotErrorCode, SourceNotFound, TransferError
from pilot_core.api.url import shown_url
from pilot_core.api.web import WebAddress
from pilot_stager_s3.sigv4 import encoded

if TYPE_CHECKING:
    from pilot_stager_s3.settings import Settings

__all__ = ["LONGEST_KEY", "Location", "Locator"]

LONGEST_KEY = 1024
"""Bytes of a key (Amazon S3 user guide, "Creating object key names")."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_SCHEMES = {"s3": "", "s3+https": "https", "s3+http": "http"}


@dataclass(frozen=True, kw_only=True)
class Location:
    """One object of a service."""

    service: WebAddress
    bucket: str
    key: str
    ours: bool
    """Whether the service is that of the setting `endpoint`."""
    virtual: bool
    """Whether the bucket's name is part of the host's."""

    @property
    def address(self) -> WebAddress:
        """Host and path as they go over the wire, without a query."""
        host, path = self.service.host, encoded(self.key, safe="/")
        if self.virtual:
            return WebAddress(self.service.scheme, f"{self.bucket}.{host}", self.service.port, f"/{path}")
        return WebAddress(self.service.scheme, host, self.service.port, f"/{self.bucket}/{path}")


class Locator:
    """Reads URLs, as the settings have it."""

    def __init__(self, settings: Settings) -> None:
        """Read the setting `endpoint`; raises `ConfigError`."""
        self._plain = settings.plain_http
        self._virtual = settings.addressing == "virtual"
        self._endpoint: WebAddress | None = None
        if not settings.endpoint:
            return
        try:
            address = WebAddress.parse(settings.endpoint)
        except ValueError as error:
            raise ConfigError(f"stager.s3.endpoint: {error}; write it as https://HOST or https://HOST:PORT") from None
        if address.target != "/" or "@" in settings.endpoint:
            raise ConfigError(f"stager.s3.endpoint: {shown_url(settings.endpoint)} has more than https://HOST:PORT")
        if not address.secure and not self._plain:
            raise ConfigError(
                f"stager.s3.endpoint: {shown_url(settings.endpoint)} is without TLS; write https://, or, for a test on "
                "this machine, set stager.s3.plain_http"
            )
        self._endpoint = address

    def find(self, url: str, *, reading: bool) -> Location:
        """Return what a URL means.

        Raises `BackendUnavailable` for a service that cannot be used here; for a URL that names no object
        `SourceNotFound` when reading and `TransferError` when writing.
        """
        what = repr(shown_url(url))
        try:
            parts = urlsplit(url)
            path = unquote_to_bytes(parts.path).decode("utf-8")
        except ValueError:
            raise _bad_name(f"{what}: not a URL of text in UTF-8", reading=reading) from None
        if parts.scheme not in _SCHEMES:
            raise BackendUnavailable(f"{what}: the stager `s3` serves s3://, s3+https:// and s3+http:// only")
        # urlsplit drops line breaks without a word, so the text itself is looked at
        if not url.isprintable() or not all(char >= " " and char != "\x7f" for char in path):
            raise _bad_name(f"{what}: has a control character", reading=reading)
        if "?" in url or "#" in url:
            raise _bad_name(f"{what}: write ? and # in a key as %3F and %23", reading=reading)
        if "@" in parts.netloc:
            raise _bad_name(f"{what}: keys are in the file stager.s3.credentials_file, not in URLs", reading=reading)
        service, ours, bucket, key = self._taken_apart(parts.scheme, parts.netloc, path, what)
        if not _BUCKET.fullmatch(bucket) or not _is_key(key):
            raise _bad_name(
                f"{what}: names no object; write s3://HOST:PORT/BUCKET/KEY or s3://BUCKET/KEY, with a key of at most "
                f"{LONGEST_KEY} bytes, no slash at its end and no part that is . or ..",
                reading=reading,
            )
        return Location(service=service, bucket=bucket, key=key, ours=ours, virtual=self._virtual)

    def _taken_apart(self, scheme: str, netloc: str, path: str, what: str) -> tuple[WebAddress, bool, str, str]:
        """Return service, whether it is ours, bucket and key."""
        if ":" not in netloc:
            return self._default(_SCHEMES[scheme], what), True, netloc, path[1:]
        try:
            service = WebAddress.parse(f"{_SCHEMES[scheme] or 'https'}://{netloc}/")
        except ValueError as error:
            raise BackendUnavailable(f"{what}: {error}") from None
        if not service.secure and not self._plain:
            raise BackendUnavailable(f"{what}: without TLS, which stager.s3.plain_http does not allow")
        # Rucio's prefixes begin with a slash, so a URL may have two before the bucket
        bucket, _, key = path.lstrip("/").partition("/")
        ours = self._endpoint is not None and service.origin == self._endpoint.origin
        return service, ours, bucket, key

    def _default(self, scheme: str, what: str) -> WebAddress:
        """Return the service of the setting `endpoint`."""
        if self._endpoint is None:
            raise BackendUnavailable(
                f"{what}: names no service; set stager.s3.endpoint, or write s3://HOST:PORT/BUCKET"
            )
        if scheme not in {"", self._endpoint.scheme}:
            raise BackendUnavailable(f"{what}: stager.s3.endpoint is a service of {self._endpoint.scheme}")
        return self._endpoint


def _is_key(key: str) -> bool:
    """Say whether a key can be asked for: proxies make something else of `.` and `..`."""
    return 0 < len(key.encode()) <= LONGEST_KEY and not key.endswith("/") and not {".", ".."} & set(key.split("/"))


def _bad_name(text: str, *, reading: bool) -> HandledError:
    """Return the error for a name that no object can have."""
    if reading:
        return SourceNotFound(text)
    return TransferError(text, error_code=PilotErrorCode.BADOUTPUTFILENAME)
