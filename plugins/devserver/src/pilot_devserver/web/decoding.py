"""Bodies taken apart for people: unpacked, parsed, and texts within them that are JSON themselves.

Whatever was sent can be decoded: what makes no sense is a text or a dump, and says why.
"""

from __future__ import annotations

import ast
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["Body", "Nested", "decode", "decode_query", "job_ids", "unfold"]

MOST_BYTES = 4 * 1024**2
"""Bytes to which a packed body is unpacked at most; the rest is left out."""
_MOST_PYTHON = 64 * 1024
_DEPTH = 12
_DUMPED = 512
_FORM = re.compile(r"[A-Za-z_]\w*=[^&\s]*(&[A-Za-z_]\w*=[^&\s]*)*", re.ASCII)
_ONE_JOB = frozenset({"job_id", "jobId", "PandaID", "panda_id", "pandaID"})
_JOBS = frozenset({"job_ids", "ids"})


@dataclass(frozen=True)
class Nested:
    """A value that was a text within another value."""

    value: Any
    how: str
    """What the text was: `JSON`, `form`."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """A decoded body."""

    kind: str
    """empty, json, form, python (a dictionary as Python prints it), text, html or binary."""
    value: Any = None
    """What was parsed, for json, form and python."""
    text: str = ""
    """Everything else, as text."""
    notes: tuple[str, ...] = ()
    """What was done to it, and why it could not be read."""

    @property
    def structured(self) -> bool:
        """Whether there are fields to show."""
        return self.kind in ("json", "form", "python")


def decode(data: bytes, content_type: str, encoding: str = "", *, size: int | None = None) -> Body:
    """Decode a body; `size` is the number of bytes that it had, if `data` is only its beginning."""
    notes = []
    if size is not None and size > len(data):
        notes.append(f"only the first {len(data):,} of {size:,} bytes were kept")
    if not data:
        return Body(kind="empty", notes=tuple(notes))
    if data[:2] == b"\x1f\x8b" or "gzip" in encoding:
        data, note = _unpack(data)
        notes.append(note)
    kind = content_type.partition(";")[0].strip().lower()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if kind == "application/x-www-form-urlencoded" or b"\0" not in data[:_DUMPED]:
            notes.append(f"byte {error.start} is not UTF-8")
            return Body(kind="text", text=data.decode(errors="backslashreplace"), notes=tuple(notes))
        return Body(kind="binary", text=_dump(data), notes=(*notes, f"{len(data):,} bytes that are no text"))
    return _parse(text, kind, tuple(notes))


def decode_query(query: str) -> Body:
    """Decode a query string."""
    return Body(kind="form", value=_fields(query)) if query else Body(kind="empty")


def _unpack(data: bytes) -> tuple[bytes, str]:
    """Unpack gzip as far as it goes, up to `MOST_BYTES`."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, MOST_BYTES)
    except zlib.error as error:
        return data, f"cannot be unpacked: {error}"
    if unpacker.unconsumed_tail:
        return plain, f"unpacked from gzip, cut after {MOST_BYTES:,} bytes"
    if not unpacker.eof:
        return plain, f"unpacked from gzip as far as it goes: {len(plain):,} bytes"
    return plain, f"unpacked from gzip: {len(data):,} to {len(plain):,} bytes"


def _parse(text: str, content_type: str, notes: tuple[str, ...]) -> Body:
    if content_type == "application/x-www-form-urlencoded":
        return Body(kind="form", value=_fields(text), notes=notes)
    maybe = content_type in ("application/json", "text/plain", "")
    if maybe and text.lstrip()[:1] in ("{", "[", '"', "("):
        return _parse_json(text, content_type, notes)
    if maybe and _FORM.fullmatch(text):
        return Body(kind="form", value=_fields(text), notes=notes)
    return Body(kind="html" if content_type == "text/html" else "text", text=text, notes=notes)


def _parse_json(text: str, content_type: str, notes: tuple[str, ...]) -> Body:
    """Parse JSON, or what Python prints, which PanDA's server sends to who asks for no JSON."""
    try:
        return Body(kind="json", value=json.loads(text), notes=notes)
    except ValueError as error:
        problem = f"no JSON: {error}"
    except RecursionError:
        problem = "no JSON that can be read: too deep"
    literal = _python(text) if content_type != "application/json" else None
    if literal is None:
        return Body(kind="text", text=text, notes=(*notes, problem))
    return Body(kind="python", value=literal, notes=(*notes, "as Python prints it, for a client that asks for no JSON"))


def _python(text: str) -> Any:
    """Return the dictionary or list that Python printed; None if the text is none."""
    if len(text) > _MOST_PYTHON:
        return None
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, (dict, list, tuple)) else None


def _fields(text: str) -> dict[str, Any]:
    """Return the fields of a form; one that comes several times has a list."""
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="backslashreplace"):
        if name in fields:
            before = fields[name]
            fields[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            fields[name] = value
    return fields


def _dump(data: bytes) -> str:
    """Return the first bytes as hexadecimal numbers and characters."""
    lines = []
    for start in range(0, min(len(data), _DUMPED), 16):
        row = data[start : start + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:04x}  {row.hex(' '):<47}  {shown}")
    if len(data) > _DUMPED:
        lines.append("...")
    return "\n".join(lines)


def unfold(value: Any, depth: int = _DEPTH) -> Any:
    """Return a value in which texts that are JSON objects or lists themselves are `Nested`."""
    if depth == 0:
        return value
    if isinstance(value, Mapping):
        return {str(name): unfold(item, depth - 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [unfold(item, depth - 1) for item in value]
    return _unfold_text(value, depth) if isinstance(value, str) else value


def _unfold_text(text: str, depth: int) -> Any:
    if len(text) >= 2 and text[0] in "{[" and text.rstrip()[-1:] in ("}", "]"):
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return Nested(unfold(inner, depth - 1), "JSON")
    if "&" in text and _FORM.fullmatch(text):
        return Nested(unfold(_fields(text), depth - 1), "form")
    return text


def job_ids(value: Any, depth: int = _DEPTH) -> Iterator[int]:
    """Yield the PandaIDs that a decoded value names, by the names that PanDA's protocols have for them."""
    if isinstance(value, Nested):
        yield from job_ids(value.value, depth)
    elif isinstance(value, Mapping) and depth:
        for name, item in value.items():
            if name in _ONE_JOB:
                yield from _numbers(item)
            elif name in _JOBS:
                inner = item.value if isinstance(item, Nested) else item
                for number in inner if isinstance(inner, list) else str(inner).split(","):
                    yield from _numbers(number)
            else:
                yield from job_ids(item, depth - 1)
    elif isinstance(value, (list, tuple)) and depth:
        for item in value:
            yield from job_ids(item, depth - 1)


def _numbers(value: Any) -> Iterator[int]:
    text = str(value).strip()
    if not isinstance(value, bool) and text.isascii() and text.isdigit() and len(text) < 20:
        yield int(text)
