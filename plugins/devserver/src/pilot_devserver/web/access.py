"""Who may use the pages: whoever has the key that `serve` printed, in a browser on this machine, and nobody by proxy.

The key comes once, in the address, and is exchanged for a cookie. Names other than the loopback's are refused, so that
no other site's name can be made to lead here (DNS rebinding); a form needs its token and the right origin (CSRF).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["HEADERS", "Access"]

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # not "no-referrer", with which browsers say of our own forms that their origin is null
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""What every answer says to the browser."""

_NAMES = ("127.0.0.1", "localhost")


def _random() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """The secrets of one server's pages; new ones at each start."""

    port: int
    key: str = field(default_factory=_random, repr=False)
    """What the address has that `serve` prints."""
    session: str = field(default_factory=_random, repr=False)
    """The cookie's value."""
    token: str = field(default_factory=_random, repr=False)
    """What every form carries."""

    @property
    def url(self) -> str:
        """Return the address that lets its reader in."""
        return f"http://127.0.0.1:{self.port}/?key={self.key}"

    @property
    def cookie(self) -> str:
        """Return the cookie's name: browsers keep cookies by host, not by port."""
        return f"pilot_devserver_{self.port}"

    def host_is_ours(self, host: str) -> bool:
        """Say whether the Host header names this server as we do."""
        return host.lower() in {f"{name}:{self.port}" for name in _NAMES}

    def key_is_right(self, key: str) -> bool:
        """Say whether this is the key, in a time that tells nothing of it."""
        return hmac.compare_digest(key.encode(errors="replace"), self.key.encode())

    def is_known(self, cookies: Mapping[str, str]) -> bool:
        """Say whether the browser has shown the key before."""
        return hmac.compare_digest(cookies.get(self.cookie, "").encode(errors="replace"), self.session.encode())

    def may_change(self, host: str, headers: Mapping[str, str], token: str) -> str:
        """Return why a form is not from one of our own pages, "" if it is."""
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return "the form was sent from another site"
        if site is not None and site != "same-origin":
            return "the form was sent from another site"
        if not hmac.compare_digest(token.encode(errors="replace"), self.token.encode()):
            return "the form's token is missing or old: load the page again"
        return ""
