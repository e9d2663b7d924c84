"""The first part of an HTTP/1.1 answer: status line and header fields (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

__all__ = ["LARGEST_HEAD", "Head", "Headers", "end_of_head", "retry_after"]

LARGEST_HEAD = 65536
"""Bytes of an answer's status line and headers together."""
LONGEST_PAUSE = 86400.0
"""Seconds of a Retry-After that are believed."""
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (.*))?", re.DOTALL)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_END = re.compile(rb"\r?\n\r?\n")


class Headers(Mapping[str, str]):
    """Header fields by name, whatever its case; those that came several times are joined with commas."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        self._fields: dict[str, str] = {name.lower(): value for name, value in (fields or {}).items()}

    def add(self, name: str, value: str) -> None:
        """Add a field as it came."""
        key = name.lower()
        self._fields[key] = f"{self._fields[key]}, {value}" if key in self._fields else value

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        # values are not shown: Location and Set-Cookie may hold credentials
        return f"Headers({', '.join(self._fields)})"

    def tokens(self, name: str) -> set[str]:
        """Return the comma-separated words of a field, in lower case."""
        return {word.strip().lower() for word in self.get(name, "").split(",")} - {""}


@dataclass(frozen=True)
class Head:
    """An answer's status line and headers."""

    minor: int
    """0 or 1, for HTTP/1.0 and HTTP/1.1."""
    status: int
    reason: str
    headers: Headers

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """Read a head, the empty line excluded; raises `ValueError` for what is no HTTP/1.0 or 1.1."""
        first, *lines = data.decode("latin-1").replace("\r\n", "\n").split("\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise ValueError("the answer is not HTTP/1.1")
        headers = Headers()
        for line in _unfolded(lines):
            name, colon, value = line.partition(":")
            if not colon or not _NAME.fullmatch(name):
                raise ValueError("the answer has a header field that is none")
            headers.add(name, value.strip(" \t"))
        return cls(int(status[1]), int(status[2]), status[3] or "", headers)

    @property
    def interim(self) -> bool:
        """Whether another head follows (100 Continue, 103 Early Hints)."""
        return self.status < 200

    @property
    def keeps(self) -> bool:
        """Whether the other side keeps the connection."""
        words = self.headers.tokens("connection")
        return "close" not in words and (self.minor == 1 or "keep-alive" in words)

    def length(self) -> int | None:
        """Return the Content-Length, None if there is none; raises `ValueError` for what is no length.

        Several equal ones are one (RFC 9112, 6.3).
        """
        words = self.headers.tokens("content-length")
        if not words:
            return None
        word = words.pop()
        if words or not (word.isascii() and word.isdigit() and len(word) < 20):
            raise ValueError("the answer's Content-Length is no length")
        return int(word)


def end_of_head(data: bytes | bytearray) -> tuple[int, int] | None:
    """Return where a head ends and where what follows it begins, None as long as its end has not come."""
    found = _END.search(data)
    return found.span() if found else None


def _unfolded(lines: list[str]) -> Iterator[str]:
    """Yield the fields of a head, those joined again that were folded over several lines (RFC 9112, 5.2)."""
    field = ""
    for line in lines:
        if line[:1] in {" ", "\t"} and field:
            field = f"{field} {line.strip()}"
            continue
        if field:
            yield field
        field = line
    if field:
        yield field


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110, 10.2.3), None where there is none or it is senseless.

    `now` is the wall time in seconds since 1970.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, moment - now), LONGEST_PAUSE)
