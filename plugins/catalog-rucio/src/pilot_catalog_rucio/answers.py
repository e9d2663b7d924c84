"""What Rucio's answers say: errors by the class of Rucio's exception, and lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pilot_core import AuthError, BackendUnavailable, CommunicationError, RequestRefused, TransientError
from pilot_core.api.web import retry_after

if TYPE_CHECKING:
    from pilot_core.api.web import WebAnswer

__all__ = ["LARGEST", "Refused", "TokenRefused", "json_lines", "json_of", "trouble"]

LARGEST = 64 << 20
"""Bytes of one line of an answer."""
_PERMANENT = frozenset(
    {
        "InputValidationError",
        "InvalidObject",
        "InvalidPath",
        "InvalidType",
        "RSEFileNameNotSupported",
        "RSEOperationNotSupported",
        "RSEProtocolDomainNotSupported",
        "RSEProtocolNotSupported",
        "UnsupportedOperation",
    }
)
"""Rucio's exceptions that come as status 500 where its view does not catch them, and that no repetition helps."""


class Refused(RequestRefused):
    """Rucio understood and refused; `kind` is the name of its exception."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class TokenRefused(Exception):
    """Rucio does not take this token (any more)."""


def trouble(answer: WebAnswer, what: str, now: float) -> Exception | None:
    """Return the error that an answer amounts to, None for one that is well.

    `now` is the wall time in seconds since 1970. Rucio names its exception in the headers `ExceptionClass` and
    `ExceptionMessage` (`flaskapi/v1/common.py`).
    """
    status, headers = answer.status, answer.headers
    if 200 <= status < 300:
        return None
    kind, said = headers.get("ExceptionClass", ""), _one_line(headers.get("ExceptionMessage", ""))
    text = f"{what}: Rucio answered {status}" + "".join(f" {part}" for part in (kind, f"({said})") if part.strip("() "))
    if 300 <= status < 400:
        return Refused(f"{text}: it is elsewhere, and no token goes there; set catalog.rucio.url to where it is", kind)
    if status == 401 and kind != "AccessDenied":
        return TokenRefused(text)
    if status in {401, 403}:
        return AuthError(f"{text}: the account may not do that")
    if status in {408, 425, 429} or (status >= 500 and kind not in _PERMANENT):
        return TransientError(text, retry_after=retry_after(headers, now))
    return Refused(text, kind)


def json_lines(answer: WebAnswer, what: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of an answer of type `application/x-json-stream`, as they come."""
    for line in _lines(answer.blocks(), what):
        if line.strip():
            found = _parsed(line, what)
            if not isinstance(found, dict):
                raise CommunicationError(f"{what}: Rucio's answer is no list of objects")
            yield found


def json_of(body: bytes, what: str) -> Mapping[str, Any]:
    """Return the one object of an answer."""
    found = _parsed(body, what)
    if not isinstance(found, dict):
        raise CommunicationError(f"{what}: Rucio's answer is no object")
    return found


def _lines(blocks: Iterable[memoryview], what: str) -> Iterator[bytes]:
    begun: list[bytes] = []
    size = 0
    for block in blocks:
        *whole, rest = bytes(block).split(b"\n")
        for line in whole:
            yield b"".join([*begun, line])
            begun, size = [], 0
        begun.append(rest)
        size += len(rest)
        if size > LARGEST:
            raise BackendUnavailable(f"{what}: an answer with a line of more than {LARGEST} bytes")
    yield b"".join(begun)


def _parsed(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise CommunicationError(f"{what}: Rucio's answer is no JSON; is catalog.rucio.url a Rucio server?") from None


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:300].strip()
