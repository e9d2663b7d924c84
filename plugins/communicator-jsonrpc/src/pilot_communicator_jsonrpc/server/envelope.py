"""JSON-RPC 2.0, the server's part: bytes become calls, what they come to an answer. It knows no method."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "INVALID_PARAMS", "INVALID_REQUEST", "LARGEST_BATCH", "METHOD_NOT_FOUND", "PARSE_ERROR", "Call", "Fault", "answer",
    "error", "parse", "read_call",
]  # fmt: skip

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
"""Codes of the specification, section 5.1."""
TEXTS = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid Request",
    METHOD_NOT_FOUND: "Method not found",
    INVALID_PARAMS: "Invalid params",
}
LARGEST_BATCH = 1000


class Fault(Exception):
    """A call that fails: becomes the error object of its answer."""

    def __init__(self, code: int, text: str = "", data: Any = None) -> None:
        super().__init__(text or TEXTS[code])
        self.code = code
        self.data = data


@dataclass(frozen=True)
class Call:
    """One request object."""

    method: str
    params: Any
    """An object or a list."""
    id: Any = None
    notification: bool = False
    """Nobody wants an answer."""


def answer(body: bytes, carry_out: Callable[[Call], Any]) -> Any:
    """Return the answer to a body as JSON data; None where the specification wants no answer at all.

    `carry_out` returns the result of a call or raises `Fault`.
    """
    try:
        said = parse(body)
    except ValueError:
        return error(None, Fault(PARSE_ERROR))
    if not isinstance(said, list):
        return _answer_one(said, carry_out)
    if not 0 < len(said) <= LARGEST_BATCH:
        return error(None, Fault(INVALID_REQUEST))
    answers = [told for each in said if (told := _answer_one(each, carry_out)) is not None]
    return answers or None


def parse(body: bytes) -> Any:
    """Return JSON data; raises `ValueError` for anything else, `NaN` and numbers beyond all bounds included."""
    try:
        return json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_call(said: Any) -> Call:
    """Return one request object; raises `Fault`."""
    if not isinstance(said, dict) or said.get("jsonrpc") != "2.0":
        raise Fault(INVALID_REQUEST)
    method, params = said.get("method"), said.get("params", {})
    if not isinstance(method, str) or not isinstance(params, dict | list) or not _is_id(said.get("id")):
        raise Fault(INVALID_REQUEST)
    return Call(method, params, said.get("id"), notification="id" not in said)


def error(call_id: Any, fault: Fault) -> dict[str, Any]:
    """Return the answer of a call that failed."""
    told = {"code": fault.code, "message": str(fault)}
    return {"jsonrpc": "2.0", "error": told if fault.data is None else {**told, "data": fault.data}, "id": call_id}


def _answer_one(said: Any, carry_out: Callable[[Call], Any]) -> dict[str, Any] | None:
    """Answer one request object, None for a notification."""
    try:
        call = read_call(said)
    except Fault as fault:
        known = said.get("id") if isinstance(said, dict) and _is_id(said.get("id")) else None
        return error(known, fault)
    try:
        told = {"jsonrpc": "2.0", "result": carry_out(call), "id": call.id}
    except Fault as fault:
        told = error(call.id, fault)
    return None if call.notification else told


def _is_id(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text[:20]} is no number of JSON")
