"""Exchanges as HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/), which browsers' network panels open.

Names that begin with `_` are ours, as that specification allows. Bodies are shown decoded; how they travelled is in
`_compression`. The file is a whole HAR after every entry, so that a pilot that is killed leaves one behind.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from pilot_core._version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.traffic import Exchange, Headers
    from pilot_core.recording.scrub import Scrubber

__all__ = ["HarFile", "har_entry", "iso_time", "unpacked"]

_HEAD = {"version": "1.2", "creator": {"name": "pilot-core", "version": __version__}}
_END = b"\n]}}\n"
_ANY_HEADER = 47
"""zlib's window bits for a gzip or zlib header, whichever is there."""
_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_BODY = 64 * 1024 * 1024
"""Bytes that a compressed body is unpacked to at most."""


class HarFile:
    """A HAR that grows; every method raises `OSError`, and leaves a whole HAR all the same."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        head = json.dumps({"log": {**_HEAD, "pages": [], "entries": []}}).encode()
        self._end = 0
        self._empty = True
        self._put(head[: -len(b"]}}")])

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry, which takes one line of the file."""
        self._put((b"\n" if self._empty else b",\n") + json.dumps(entry).encode())
        self._empty = False

    def close(self) -> None:
        """Close the file; nothing can be added any more."""
        os.close(self._file)

    def _put(self, data: bytes) -> None:
        """Write data in the place of the file's end, and a new end behind it, in one go."""
        rest = data + _END
        at = self._end
        try:
            while rest:
                done = os.pwrite(self._file, rest, at)
                rest, at = rest[done:], at + done
        except OSError:
            with suppress(OSError):
                # these bytes were in the file before, so there is room for them
                os.pwrite(self._file, _END, self._end)
                os.ftruncate(self._file, self._end + len(_END))
            raise
        self._end += len(data)


def har_entry(exchange: Exchange, scrubber: Scrubber) -> dict[str, Any]:
    """Return an exchange as an entry of a HAR, without secrets.

    An exchange without an answer has the status 0 there, as browsers write it, and says why in `_error`.
    """
    milliseconds = exchange.seconds * 1000
    connect = -1.0 if exchange.connect_seconds is None else exchange.connect_seconds * 1000
    wait = exchange.wait_seconds * 1000
    entry = {
        "startedDateTime": iso_time(exchange.started),
        "time": round(milliseconds, 3),
        "request": _request(exchange, scrubber),
        "response": _response(exchange, scrubber),
        "cache": {},
        "timings": {
            "blocked": -1,
            "dns": -1,
            "ssl": -1,
            "connect": round(connect, 3),
            "send": 0,
            "wait": round(wait, 3),
            "receive": round(max(0.0, milliseconds - max(0.0, connect) - wait), 3),
        },
    }
    if exchange.failure:
        entry |= {"_failure": exchange.failure, "_error": scrubber.text(exchange.error)}
    return entry


def iso_time(moment: float) -> str:
    """Return a wall time as HAR writes it (ISO 8601), in UTC."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _request(exchange: Exchange, scrubber: Scrubber) -> dict[str, Any]:
    """Return the object `request`."""
    parts = urlsplit(exchange.url)
    query = scrubber.query(parts.query)
    found: dict[str, Any] = {
        "method": exchange.method,
        "url": scrubber.text(urlunsplit(parts._replace(query=query))),
        "httpVersion": "HTTP/1.1",
        "cookies": _cookies(exchange.request_headers, "cookie"),
        "headers": _headers(exchange.request_headers, scrubber),
        "queryString": [
            {"name": unquote_plus(name), "value": scrubber.text(unquote_plus(value))}
            for name, _, value in (part.partition("=") for part in query.split("&") if part)
        ],
        "headersSize": -1,
        "bodySize": len(exchange.request_body),
    }
    if exchange.request_body:
        body = _body(exchange.request_headers, exchange.request_body, scrubber)
        del body["_size"]
        if "encoding" in body:  # HAR 1.2 knows it for answers only
            body["_encoding"] = body.pop("encoding")
        found["postData"] = {"params": [], **body}
    return found


def _response(exchange: Exchange, scrubber: Scrubber) -> dict[str, Any]:
    """Return the object `response`."""
    headers = exchange.response_headers
    body = _body(headers, exchange.response_body, scrubber)
    found: dict[str, Any] = {
        "status": exchange.status,
        "statusText": scrubber.text(exchange.reason),
        "httpVersion": "HTTP/1.1" if exchange.status else "",
        "cookies": _cookies(headers, "set-cookie"),
        "headers": _headers(headers, scrubber),
        "content": {"size": body.pop("_size"), **body},
        "redirectURL": scrubber.text(_value(headers, "location")),
        "headersSize": -1,
        "bodySize": len(exchange.response_body) if exchange.status else -1,
    }
    if exchange.failure:
        found["_error"] = scrubber.text(exchange.error)
    return found


def _body(headers: Headers, data: bytes, scrubber: Scrubber) -> dict[str, Any]:
    """Return a body as text, or as Base64 where it is none, decoded from its compression."""
    found: dict[str, Any] = {"mimeType": _value(headers, "content-type") or "x-unknown"}
    plain = unpacked(data)
    if plain is not data:
        found |= {"_compression": "gzip", "comment": f"sent compressed (gzip, {len(data)} bytes)"}
    found["_size"] = len(plain)
    try:
        found["text"] = scrubber.body(plain.decode("utf-8"))
    except UnicodeDecodeError:
        # byte for byte, so that a secret in it is found all the same
        clean = scrubber.text(plain.decode("latin-1")).encode("latin-1")
        found |= {"text": base64.b64encode(clean).decode("ascii"), "encoding": "base64"}
    return found


def unpacked(data: bytes) -> bytes:
    """Return a body without its gzip compression, which servers and clients do not always declare."""
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        unpacker = zlib.decompressobj(wbits=_ANY_HEADER)
        plain = unpacker.decompress(data, _LARGEST_BODY)
    except zlib.error:
        return data
    return plain if unpacker.eof else data


def _headers(headers: Headers, scrubber: Scrubber) -> list[dict[str, str]]:
    return [{"name": name, "value": scrubber.header(name, value)} for name, value in headers]


def _cookies(headers: Headers, header: str) -> list[dict[str, str]]:
    """Return the cookies' names; their values are credentials."""
    values = [value for name, value in headers if name.lower() == header]
    pairs = [pair for value in values for pair in (value.split(";") if header == "cookie" else [value.split(";")[0]])]
    return [{"name": pair.partition("=")[0].strip(), "value": ""} for pair in pairs]


def _value(headers: Headers, header: str) -> str:
    """Return a header's value, empty if it is not there."""
    return next((value for name, value in headers if name.lower() == header), "")
