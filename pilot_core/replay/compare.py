"""Comparing what a pilot says now with what was recorded: field by field, volatile ones by their kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from urllib.parse import parse_qsl

from pilot_core.replay.volatile import VOLATILE_HEADERS, is_volatile

__all__ = ["Comparison", "Difference", "Message"]

SHOWN = 160
"""Characters of a value that a message shows."""
_JOB_DIR = re.compile(r"(?<=job-)(\d+)-[a-z0-9_]{8}\b")
"""What `tempfile.mkdtemp` adds to the name of a job's directory."""


@dataclass(frozen=True)
class Difference:
    """One field that is not as recorded."""

    field: str
    """Its path: `body.job_status`, `header Content-Type`."""
    recorded: str
    now: str


@dataclass(frozen=True)
class Message:
    """A request, as it is compared."""

    method: str
    target: str
    """Path and query."""
    headers: Sequence[tuple[str, str]]
    body: bytes
    """Without compression."""

    @property
    def endpoint(self) -> str:
        """Method and path."""
        return f"{self.method} {self.target.partition('?')[0]}"


class Comparison:
    """Compares values of two runs. `same` makes texts of the two comparable: machine's names, directories."""

    def __init__(self, *, real: bool = False, same: Callable[[str], str] = str) -> None:
        self._real = real
        self._same = same

    def requests(self, recorded: Message, now: Message) -> list[Difference]:
        """Return where two requests to one endpoint differ: query, headers, body."""
        where = recorded.endpoint
        found = list(self.values(_query(recorded.target), _query(now.target), "query", where))
        found += list(self._headers(recorded.headers, now.headers))
        return found + list(self.values(_parsed(recorded.body), _parsed(now.body), "body", where))

    def values(self, recorded: Any, now: Any, path: str, where: str) -> Iterator[Difference]:
        """Yield where two values of plain JSON data differ; `where` is the endpoint: some is volatile there only."""
        volatile = is_volatile(path, where, real=self._real)
        if volatile:
            if _kind(recorded) != _kind(now) and not volatile.may_be_missing:
                yield Difference(path, f"{_shown(recorded)} ({_kind(recorded)})", f"{_shown(now)} ({_kind(now)})")
        elif isinstance(recorded, Mapping) and isinstance(now, Mapping):
            yield from self._mappings(recorded, now, path, where)
        elif isinstance(recorded, list) and isinstance(now, list):
            yield from self._lists(recorded, now, path, where)
        elif isinstance(recorded, str) and isinstance(now, str):
            yield from self._texts(recorded, now, path, where)
        elif recorded != now or type(recorded) is not type(now):
            yield Difference(path, _shown(recorded), _shown(now))

    def _mappings(
        self, recorded: Mapping[str, Any], now: Mapping[str, Any], path: str, where: str
    ) -> Iterator[Difference]:
        for name in (*recorded, *(name for name in now if name not in recorded)):
            inner = f"{path}.{name}"
            if name in recorded and name in now:
                yield from self.values(recorded[name], now[name], inner, where)
            else:
                volatile = is_volatile(inner, where, real=self._real)
                if not (volatile and volatile.may_be_missing):
                    missing = "(not there)"
                    yield Difference(
                        inner,
                        _shown(recorded[name]) if name in recorded else missing,
                        _shown(now[name]) if name in now else missing,
                    )

    def _lists(self, recorded: Sequence[Any], now: Sequence[Any], path: str, where: str) -> Iterator[Difference]:
        for index, (one, other) in enumerate(zip(recorded, now, strict=False)):
            yield from self.values(one, other, f"{path}[{index}]", where)
        if len(recorded) != len(now):
            yield Difference(path, f"{len(recorded)} entries", f"{len(now)} entries")

    def _texts(self, recorded: str, now: str, path: str, where: str) -> Iterator[Difference]:
        """Compare texts; JSON in a text is compared as what it is."""
        if recorded[:1] in {"{", "["} and now[:1] in {"{", "["}:
            one, other = _json(recorded), _json(now)
            if isinstance(one, (dict, list)) and isinstance(other, (dict, list)):
                yield from self.values(one, other, path, where)
                return
        if self._plain(recorded) != self._plain(now):
            # long texts from shortly before the place where they part
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(recorded, now, strict=False)))
            start = max(0, same - SHOWN // 2)
            yield Difference(path, _shown(recorded, start), _shown(now, start))

    def _headers(self, recorded: Sequence[tuple[str, str]], now: Sequence[tuple[str, str]]) -> Iterator[Difference]:
        one, other = ({name.lower(): value for name, value in pairs} for pairs in (recorded, now))
        for name in sorted({*one, *other} - VOLATILE_HEADERS):
            if one.get(name) != other.get(name):
                yield Difference(f"header {name}", one.get(name, "(not there)"), other.get(name, "(not there)"))

    def _plain(self, text: str) -> str:
        """Return a text without what is this machine's, or this run's, own."""
        return _JOB_DIR.sub(r"\1-*", self._same(text))


def _query(target: str) -> Any:
    """Return the query of a target as lists of values by name."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(target.partition("?")[2], keep_blank_values=True):
        found.setdefault(name, []).append(value)
    return found


def _parsed(body: bytes) -> Any:
    """Return what a body says: JSON, a form, or a text."""
    text = body.decode("utf-8", "backslashreplace")
    value = _json(text)
    if value is not None:
        return value
    if "=" in text and not re.search(r"[\s<{]", text):
        return _query(f"?{text}")
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _kind(value: Any) -> str:
    """Return what sort of value it is; numbers of both sorts are one, for JSON has one only."""
    if isinstance(value, bool):
        return "true or false"
    for kind, name in (((int, float), "number"), (str, "text"), (list, "list"), (Mapping, "object")):
        if isinstance(value, kind):
            return name
    return "nothing"


def _shown(value: Any, start: int = 0) -> str:
    """Return a value for a message, from a certain character on."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = f"... {text[start:]}" if start else text
    text = text if text.isprintable() else json.dumps(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
