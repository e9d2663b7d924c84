"""Recorded exchanges with a PanDA server: one JSON object a line, as `curl` saw request and response.

A line has `id`, `title`, `request` (request line and headers), `body`, `status`, `response_headers` and `response`.
Some bodies are not there as they were sent: packed ones are noted as `<gzip N bytes>`, long ones are cut at 20000
characters. They are rebuilt so that they mean the same, from the request that is nearest to them and from the title.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pilot_core.errors import BadInput

__all__ = ["Exchange", "Unreadable", "load"]

_CUT = 20000
_UNITS = {"kB": 10**3, "MB": 10**6}
_SIZES = re.compile(r"(\d+) (kB|MB) (\w+)")
_BOUNDARY = re.compile(r'multipart/form-data;.*boundary="?([^";]+)')
_PACKED = re.compile(r"<gzip \d+ bytes>")
_STATES = re.compile(r"\b(starting|running|finished|failed|holding|transferring|started)\b")


class Unreadable(Exception):
    """A body that was not recorded and cannot be rebuilt; the text says why."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    id: str
    title: str
    method: str
    target: str
    """Path and query as they were sent."""
    version: str
    """`HTTP/1.1` or `HTTP/1.0`."""
    headers: Sequence[tuple[str, str]]
    recorded_body: str
    body: bytes | None
    """What is to be sent; None = unknown."""
    status: int | None
    """None = there was no answer."""
    content_type: str
    response: str
    content_encoding: str
    time: float | None
    """Seconds since 1970, from the answer's Date."""

    @property
    def series(self) -> str:
        """Return the part of the id before its number."""
        return _order(self.id)[0]

    @property
    def number(self) -> int:
        """Return the number within the series."""
        return _order(self.id)[1]

    @property
    def port(self) -> int:
        """Return the server's port, which tells the server and whether it spoke TLS."""
        return int(self.header("host").rpartition(":")[2] or 443)

    @property
    def path(self) -> str:
        """Return the path, decoded."""
        return unquote(urlsplit(self.target).path)

    def header(self, name: str) -> str:
        """Return a request header; "" if it was not sent."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the request, as far as they can be read: from query, form or JSON."""
        query = urlsplit(self.target).query
        if query:
            return _multi(parse_qsl(query, keep_blank_values=True))
        return _read_body(self.body or b"", self.header("content-type"))


def load(paths: Iterable[Path]) -> list[Exchange]:
    """Return the exchanges of several files together, in the order in which they happened.

    They are put in order by series (the part of the id before the number) and number; series follow each other by their
    first date. Raises `BadInput` for what is no recording.
    """
    rows: dict[str, dict[str, Any]] = {}
    for path in paths:
        for row in _rows(path):
            rows.setdefault(str(row["id"]), row)
    ordered = [_exchange(row) for row in sorted(rows.values(), key=lambda row: _order(str(row["id"])))]
    first: dict[str, float] = {}
    for exchange in ordered:
        if exchange.time is not None:
            first.setdefault(exchange.series, exchange.time)
    ordered.sort(key=lambda exchange: first.get(exchange.series, 0.0))
    return [_with_body(ordered, index) for index in range(len(ordered))]


def _rows(path: Path) -> list[dict[str, Any]]:
    wanted = ("id", "title", "request", "body", "status", "response_headers", "response")
    rows = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            row: Any = json.loads(line) if line.strip() else None
            if row is None:
                continue
            if not isinstance(row, dict) or any(key not in row for key in wanted) or not row["request"]:
                raise BadInput(f"{path}:{number}: not a recorded exchange; it needs {', '.join(wanted)}")
            rows.append(row)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name a file of recorded exchanges") from None
    except ValueError as error:
        raise BadInput(f"{path}: not JSON lines: {error}") from None
    return rows


def _order(identifier: str) -> tuple[str, int]:
    series, _, number = identifier.rpartition("-")
    return series, int(number) if number.isdigit() else 0


def _exchange(row: dict[str, Any]) -> Exchange:
    method, _, rest = str(row["request"][0]).partition(" ")
    target, _, version = rest.rpartition(" ")
    answered = dict(_header(line) for line in row["response_headers"] if ":" in line)
    date = answered.get("date", "")
    status = str(row["status"])
    return Exchange(
        id=str(row["id"]),
        title=str(row["title"]),
        method=method,
        target=target,
        version=version,
        headers=[_header(line, lower=False) for line in row["request"][1:] if ":" in line],
        recorded_body=str(row["body"]),
        body=None,
        status=int(status) if status.isdigit() else None,
        content_type=answered.get("content-type", ""),
        response=str(row["response"]),
        content_encoding=answered.get("content-encoding", ""),
        time=parsedate_to_datetime(date).astimezone(timezone.utc).timestamp() if date else None,
    )


def _header(line: str, *, lower: bool = True) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return (name.strip().lower() if lower else name.strip()), value.strip()


# -- bodies ------------------------------------------------------------------------------------------------------------


def _with_body(exchanges: Sequence[Exchange], index: int) -> Exchange:
    exchange = exchanges[index]
    try:
        body: bytes | None = _body(exchanges, index)
    except Unreadable:
        body = None
    return replace(exchange, body=body)


def _body(exchanges: Sequence[Exchange], index: int) -> bytes:
    exchange = exchanges[index]
    text = exchange.recorded_body
    if _PACKED.fullmatch(text):
        return gzip.compress(json.dumps(_nearest(exchanges, index)).encode(), mtime=0)
    if text.startswith("<") and text.endswith(">") and "\n" not in text:
        raise Unreadable(f"the body was recorded as {text}")
    boundary = _BOUNDARY.search(exchange.header("content-type"))
    if boundary and boundary.group(1) not in text:
        return _as_multipart(_multi(parse_qsl(text, keep_blank_values=True)), boundary.group(1))
    length = exchange.header("content-length")
    if len(text) == _CUT and length.isdigit() and int(length) > _CUT:
        return json.dumps(_completed(exchange)).encode()
    return text.encode()


def _as_multipart(params: dict[str, Any], boundary: str) -> bytes:
    """Return a form with parts; the recorder noted the fields only."""
    head = 'Content-Disposition: form-data; name="{}"'
    parts = [f"--{boundary}\r\n{head.format(name)}\r\n\r\n{value}\r\n" for name, value in params.items()]
    return "".join([*parts, f"--{boundary}--\r\n"]).encode()


def _completed(exchange: Exchange) -> dict[str, Any]:
    """Return a JSON body that was cut within a string, with the values whose sizes the title tells."""
    try:
        params = json.loads(exchange.recorded_body + '"}')
    except ValueError:
        raise Unreadable("the body was cut where it cannot be completed") from None
    values = {name: "x" * (int(count) * _UNITS[unit]) for count, unit, name in _SIZES.findall(exchange.title)}
    return {**params, **values}


def _nearest(exchanges: Sequence[Exchange], index: int) -> dict[str, Any]:
    """Return the parameters of a packed request: those of the nearest request to the same method that can be read.

    One that has the recorded size when it is packed goes before the others; into those the title's state is put.
    """
    wanted = exchanges[index]
    found = []
    for other in sorted(range(len(exchanges)), key=lambda other: (abs(other - index), other > index)):
        candidate = exchanges[other]
        if candidate.path == wanted.path and not _PACKED.fullmatch(candidate.recorded_body):
            params = _read_body(candidate.recorded_body.encode(), candidate.header("content-type"))
            found += [params] if params else []
    for params in found:
        if wanted.recorded_body == f"<gzip {len(gzip.compress(json.dumps(params).encode()))} bytes>":
            return params
    if not found:
        raise Unreadable("the body was packed, and no other request to this method is in the recordings")
    return _with_state(found[0], wanted.title)


def _with_state(params: dict[str, Any], title: str) -> dict[str, Any]:
    """Put the state that the title names in the place of the other request's."""
    name = next((key for key in ("state", "status", "job_status") if key in params), "")
    found = _STATES.search(title)
    if not name:
        return params
    if found:
        return {**params, name: found.group(1)}
    return {**params, name: "started"} if name == "status" else params


def _read_body(body: bytes, content_type: str) -> dict[str, Any]:
    try:
        text = gzip.decompress(body).decode() if body[:2] == b"\x1f\x8b" else body.decode()
        if text.startswith(("{", "[")):
            params: Any = json.loads(text)
            return params if isinstance(params, dict) else {}
    except (ValueError, OSError):
        return {}
    return _multi(parse_qsl(text, keep_blank_values=True)) if "json" not in content_type else {}


def _multi(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return pairs as a dictionary; a name that comes several times has a list."""
    params: dict[str, Any] = {}
    for name, value in pairs:
        params[name] = [*_as_list(params[name]), value] if name in params else value
    return params


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
