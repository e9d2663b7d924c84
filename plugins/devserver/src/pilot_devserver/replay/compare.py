"""Comparing an answer with the recorded one: status, the headers that matter, and the body."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot_devserver.replay.recording import Exchange

__all__ = ["Reply", "differences"]

_PATH = re.compile(r'File "[^"]*"')
_SHOWN = 200


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    content_type: str
    body: str
    content_encoding: str = ""


def differences(exchange: Exchange, reply: Reply) -> list[str]:
    """Return what is not as recorded; nothing = the answers are equal.

    Bodies are compared as text, but for the paths in Python tracebacks, which tell where the real server was installed.
    Where the texts differ, the message names the values that do.
    """
    found = []
    if reply.status != exchange.status:
        found.append(f"status {reply.status}, recorded {exchange.status}")
    if _type(reply.content_type) != _type(exchange.content_type):
        found.append(f"Content-Type {reply.content_type}, recorded {exchange.content_type}")
    if reply.content_encoding != exchange.content_encoding:
        found.append(f"Content-Encoding {reply.content_encoding!r}, recorded {exchange.content_encoding!r}")
    mine, recorded = _normal(reply.body), _normal(exchange.response)
    if mine != recorded:
        found += _values(_parsed(recorded), _parsed(mine), "body") or [f"body {mine[:_SHOWN]!r} has another form"]
    return found


def _type(value: str) -> str:
    """Return a content type without a charset that says what is the default anyway."""
    kind, _, parameters = value.partition(";")
    charset = parameters.strip().lower()
    return kind.strip().lower() + ("" if charset in ("", "charset=utf-8") else f"; {charset}")


def _normal(body: str) -> str:
    return _PATH.sub('File "<path>"', body)


def _parsed(body: str) -> Any:
    """Return a body's values: JSON, a Python literal, or the text."""
    try:
        return json.loads(body)
    except ValueError:
        pass
    try:
        return ast.literal_eval(body) if body.startswith("{") else body
    except (ValueError, SyntaxError):
        return body


def _values(recorded: Any, mine: Any, place: str) -> list[str]:
    """Return the places where two values differ."""
    if isinstance(recorded, dict) and isinstance(mine, dict):
        found = [f"{place}.{key} is missing" for key in recorded if key not in mine]
        found += [f"{place}.{key} is not recorded" for key in mine if key not in recorded]
        for key in recorded:
            if key in mine:
                found += _values(recorded[key], mine[key], f"{place}.{key}")
        return found
    if isinstance(recorded, list) and isinstance(mine, list) and len(recorded) == len(mine):
        return [
            item for i, pair in enumerate(zip(recorded, mine, strict=True)) for item in _values(*pair, f"{place}[{i}]")
        ]
    if recorded != mine or type(recorded) is not type(mine):
        return [f"{place} {str(mine)[:_SHOWN]!r}, recorded {str(recorded)[:_SHOWN]!r}"]
    return []
