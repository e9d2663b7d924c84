"""Where a request goes: the parts of an `http` or `https` URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pilot_core.api.url import shown_url

__all__ = ["WebAddress"]

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?|[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]{1,15})?")
_TARGET = re.compile(r"[!-~]+")
LONGEST = 65536
"""Characters of a URL."""


@dataclass(frozen=True)
class WebAddress:
    """A URL taken apart. User and password in it are dropped: they are never sent."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Lower case; an IPv6 address without brackets."""
    port: int
    target: str
    """Path and query as they go over the wire."""

    @classmethod
    def parse(cls, url: str) -> WebAddress:
        """Take a URL apart; raises `ValueError`, in one line without the URL, for what cannot be asked for.

        The URL must be ready for the wire: characters beyond printable ASCII, and spaces, percent-encoded.
        """
        if len(url) > LONGEST:
            raise ValueError(f"a URL of more than {LONGEST} characters")
        # urlsplit drops line breaks without a word, so the text itself is looked at
        if not _TARGET.fullmatch(url):
            raise ValueError("a URL with a space, a control character or one beyond ASCII that is not percent-encoded")
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise ValueError("not a URL of HTTP")
        host = (parts.hostname or "").lower()
        if not _HOST.fullmatch(host):
            raise ValueError("a URL without the name of a host")
        port = parts.port  # raises ValueError for what is no port
        if port == 0:
            raise ValueError("a URL with port 0")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], target)

    @property
    def secure(self) -> bool:
        """Whether it is asked over TLS."""
        return self.scheme == "https"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: where these are the same, credentials may be sent."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL, whole: signatures in its query are credentials."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def __str__(self) -> str:
        """Return the URL as messages may show it: without its query, where signatures and tokens are."""
        return shown_url(f"{self.scheme}://{self.authority}{self.target.partition('?')[0]}")
