"""What Apache, in front of PanDA's server, answers by itself, and what it does to paths; no HTTP library needed.

Observed on Apache 2.4 as panda-server 1.0.4 and 0.8.1 configure it. Everything else reaches a protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_core.api.server import ServerResponse

__all__ = ["clean_path", "forbidden", "length_required", "not_found", "refuse"]

HTML = "text/html; charset=iso-8859-1"

_PAGE = """\
<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html><head>
<title>{status} {reason}</title>
</head><body>
<h1>{reason}</h1>
<p>{text}</p>
</body></html>
"""
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})


def refuse(method: str, headers: Mapping[str, str]) -> ServerResponse | None:
    """Return Apache's own answer, or None if the request is let through. Header names are in lower case.

    Call it before the body is read: a chunked request is refused whatever it contains.
    """
    if method not in _METHODS:
        return forbidden()
    if headers.get("transfer-encoding"):
        return length_required(method)
    return None


def clean_path(path: str) -> str:
    """Return the path with runs of slashes merged (`MergeSlashes`); a slash at its end stays."""
    return re.sub("/{2,}", "/", path)


def forbidden() -> ServerResponse:
    """Return the page for methods that are not allowed (PUT, DELETE ...)."""
    return _page(403, "Forbidden", "You don't have permission to access this resource.")


def length_required(method: str) -> ServerResponse:
    """Return the page for a chunked request body; the connection is closed."""
    text = f"A request of the requested method {method} requires a valid Content-length.<br />\n"
    response = _page(411, "Length Required", text)
    return ServerResponse(
        status=response.status, body=response.body, content_type=HTML, headers={"Connection": "close"}
    )


def not_found() -> ServerResponse:
    """Return the page for a path that belongs to nobody."""
    return _page(404, "Not Found", "The requested URL was not found on this server.")


def _page(status: int, reason: str, text: str) -> ServerResponse:
    body = _PAGE.format(status=status, reason=reason, text=text).encode("iso-8859-1")
    return ServerResponse(status=status, body=body, content_type=HTML)
