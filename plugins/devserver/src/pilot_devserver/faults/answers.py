"""What a spoiled answer is: the texts and bytes that a server in trouble, or something in front of it, sends."""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING

from pilot_core.api.server import ServerResponse

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping
    from typing import Any

__all__ = ["error_page", "http_date", "noise", "portal", "turned_away", "with_date", "with_noise"]

_HTML = "text/html; charset=utf-8"
_ERROR = "<!DOCTYPE html>\n<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n"
_PORTAL = """\
<!DOCTYPE html>
<html><head><title>Sign in</title></head>
<body><h1>Sign in</h1><form method="post" action="/login"><input name="user"><input type="submit"></form></body></html>
"""


def http_date(wall: float) -> str:
    """Return a time, in seconds since 1970, as HTTP headers have it."""
    return formatdate(wall, usegmt=True)


def noise(chance: random.Random, count: int) -> bytes:
    """Return bytes that are neither HTTP nor UTF-8, the same for the same `chance`."""
    return b"\xff" * bool(count) + chance.randbytes(max(0, count - 1))


def portal() -> ServerResponse:
    """Return a page that has nothing to do with PanDA, with status 200."""
    return ServerResponse(body=_PORTAL.encode(), content_type=_HTML)


def error_page(options: Mapping[str, Any]) -> ServerResponse:
    """Return an error with the status, body and headers that the options of the fault `status` name."""
    status = int(options["status"])
    body = options["body"] or _ERROR.format(status=status)
    return ServerResponse(status=status, body=body.encode(), content_type=_HTML, headers=dict(options["headers"] or {}))


def turned_away(options: Mapping[str, Any], wall: float) -> ServerResponse:
    """Return an answer with Retry-After, by the options of the fault `retry-after`; `wall` is now."""
    seconds = float(options["seconds"])
    # a whole number in both forms, rounded up: nobody is to come back too early
    whole = int(-(-seconds // 1))
    text = str(whole) if options["form"] == "seconds" else http_date(int(-(-wall // 1)) + whole)
    page = error_page({"status": options["status"], "body": "", "headers": None})
    return replace(page, headers={"Retry-After": text})


def with_date(response: ServerResponse, wall: float) -> ServerResponse:
    """Return the answer with another `Date`."""
    return replace(response, headers={**response.headers, "Date": http_date(wall)})


def with_noise(response: ServerResponse | None, content: bytes) -> ServerResponse:
    """Return an answer with status 200 and bytes that make no sense."""
    base = response or ServerResponse()
    return replace(base, status=200, body=content, headers={})
