"""URLs in messages."""

from __future__ import annotations

import re

__all__ = ["has_login", "shown_url", "without_password"]

LONGEST = 300
"""Characters of a URL that a message shows."""
_PASSWORD = re.compile(r"(?<=://)[^/?#@]*(?:@[^/?#@]*)*@")
_SECRET = re.compile(
    r"(?i)(?<=[?&;])((?:[^=&;#]*(?:auth|token|sig|secret|passw|credential|access-?key)[^=&;#]*)=)[^&;#]+",
)
"""A parameter whose name says that its value opens something: `authz=`, `X-Amz-Signature=`, `access_token=` ..."""


def has_login(url: str) -> bool:
    """Say whether a URL has a user, or user and password, before its host."""
    return _PASSWORD.search(url) is not None


def without_password(url: str) -> str:
    """Return a URL without user and password, and without the values of parameters that are as good as these."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub("", url))


def shown_url(url: str) -> str:
    """Return a URL as logs and errors may show it: on one line, not too long, without what must not be shown."""
    text = without_password(url)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
