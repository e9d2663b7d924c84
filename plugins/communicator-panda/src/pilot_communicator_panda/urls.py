"""A server's address, taken apart and checked once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from pilot_core import ConfigError

__all__ = ["BaseUrl"]

_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(
    r"(?=.{1,253}$)([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|[0-9a-f:.]*:[0-9a-f:.]*(%[a-z0-9]+)?", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class BaseUrl:
    """Scheme, host and port, and what lies before every path."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    user: str = field(default="", repr=False)
    """`user:password` of a proxy, decoded."""

    @classmethod
    def parse(cls, url: str, what: str = "the server's URL", *, user_allowed: bool = False) -> BaseUrl:
        """Take a URL apart; raises `ConfigError` that says what is wrong and what one looks like."""
        hint = "write it as https://HOST:PORT"
        shown = re.sub(r"//[^/@]*@", "//***@", url)
        if not url:
            raise ConfigError(f"{what} is not set: {hint}")
        if re.search(r"[\s\x00-\x1f\x7f]", url):
            raise ConfigError(f"{what} {shown!r} has a blank or control character in it: {hint}")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ConfigError(f"{what} {shown!r}: {error}; {hint}") from None
        if parts.scheme not in _PORTS:
            raise ConfigError(f"{what} {shown!r} does not begin with https://; {hint}")
        if not host or not _HOST.fullmatch(host) or port == 0:
            raise ConfigError(f"{what} {shown!r} has no usable host and port; {hint}")
        if (parts.username is not None and not user_allowed) or parts.query or parts.fragment:
            raise ConfigError(f"{what} {shown!r} has more than host, port and path; {hint}")
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
        prefix = parts.path.rstrip("/")
        return cls(scheme=parts.scheme, host=host, port=port or _PORTS[parts.scheme], prefix=prefix, user=user)

    @property
    def secure(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Return `host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"
