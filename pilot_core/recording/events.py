"""What the events of a recording have in them, as far as a replay relies on it: the whole table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["FIELDS", "check_event"]

_NUMBER, _TEXT, _LIST, _TABLE, _TEXTS = "a whole number", "a text", "a list", "a table", "a list of texts"
_ALWAYS = {"n": _NUMBER}

FIELDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "call": {"call": _NUMBER, "method": _TEXT},
        "answer": {"call": _NUMBER},
        "state": {"job": _NUMBER, "old": _TEXT, "new": _TEXT},
        "signal": {"number": _NUMBER},
        "program": {"job": _NUMBER},
        "command": {"hook": _TEXT, "job": _NUMBER, "before": _TEXTS, "after": _TEXTS},
        "diagnosis": {"hook": _TEXT, "job": _NUMBER},
        "metadata": {"hook": _TEXT, "job": _NUMBER, "answer": _TABLE},
        "hook-error": {"hook": _TEXT, "job": _NUMBER, "error": _TABLE},
        "payload-start": {"job": _NUMBER, "argv": _TEXTS},
        "payload-end": {"job": _NUMBER, "result": _TABLE},
        "payload-error": {"job": _NUMBER, "error": _TABLE},
        "limit": {"job": _NUMBER, "code": _NUMBER, "message": _TEXT},
        "outputs": {"job": _NUMBER, "files": _LIST},
        "stager": {
            "hook": _TEXT,
            "name": _TEXT,
            "schemes": _TEXTS,
            "priority": _NUMBER,
            "capabilities": _TEXTS,
            "distribution": _TEXT,
            "version": _TEXT,
        },
        "stager-call": {"stager": _TEXT, "method": _TEXT, "url": _TEXT},
        "catalog-call": {"method": _TEXT, "files": _TEXT, "rse": _TEXT},
        "stager-error": {"hook": _TEXT, "name": _TEXT, "error": _TABLE},
    }
)
"""The fields that an event of each kind has to have; what is not in the table is not looked at."""


def check_event(event: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an event that lacks a field, or has one of another type."""
    at = event.get("at")
    if not isinstance(at, (int, float)) or isinstance(at, bool) or not math.isfinite(at):
        raise ValueError("at: a time was expected")
    for name, wanted in {**_ALWAYS, **FIELDS.get(event["what"], {})}.items():
        if not _is(event.get(name), wanted):
            raise ValueError(f"{name}: {wanted} was expected in an event {event['what']!r}")
    if "error" in event and not _is(event["error"], _TABLE):
        raise ValueError(f"error: {_TABLE} was expected")


def _is(value: Any, wanted: str) -> bool:
    """Say whether a value is what one of the table's words stands for."""
    if wanted == _NUMBER:
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted == _TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, {_TEXT: str, _LIST: list, _TABLE: dict}[wanted])
