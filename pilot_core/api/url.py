"""URLs in messages."""

from __future__ import annotations

import re

__all__ = ["shown_url", "without_password"]

LONGEST = 300
"""Characters of a URL that a message shows."""
_PASSWORD = re.compile(r"(?<=://)[^/?#@]*(?:@[^/?#@]*)*@")


def without_password(url: str) -> str:
    """Return a URL without user and password."""
    return _PASSWORD.sub("", url)


def shown_url(url: str) -> str:
    """Return a URL as logs and errors may show it: on one line, not too long, without user and password."""
    text = without_password(url)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
