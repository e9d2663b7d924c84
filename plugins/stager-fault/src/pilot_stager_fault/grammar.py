"""The URL of a storage that fails: `fault://FAULT[;KEY=VALUE]...[,FAULT...]/URL`, URL being that of the real file.

The real URL stands there as it is, to its end; keys' values are percent-encoded where they have other characters than
letters, digits and `.-+_~`.
"""

from __future__ import annotations

import difflib
import math
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from pilot_core import BackendUnavailable
from pilot_core.api.url import shown_url
from pilot_stager_fault.kinds import CONDITIONS, KINDS, MOVING, OPERATIONS, Key, Kind

__all__ = ["FaultUrl", "StorageFault", "parse"]

_SHAPE = re.compile(r"(?i:fault)://([^/?#]*)/([A-Za-z][A-Za-z0-9+.-]*:.*)", re.DOTALL)
_NUMBERS: Mapping[type, re.Pattern[str]] = MappingProxyType(
    {
        int: re.compile(r"-?[0-9]{1,15}", re.ASCII),
        float: re.compile(r"-?[0-9]{1,15}(\.[0-9]{0,15})?(e[+-]?[0-9]{1,2})?", re.ASCII),
    }
)
_EXAMPLE = "write it like fault://transient;first=2/file:///data/x"


@dataclass(frozen=True, kw_only=True)
class StorageFault:
    """One fault of a URL."""

    kind: Kind
    operations: tuple[str, ...]
    first: int | None = None
    after: int = 0
    probability: float = 1.0
    seed: str = "0"
    values: Mapping[str, Any] = field(default_factory=dict)
    """The kind's own keys."""

    def strikes(self, operation: str, attempt: int, url: str) -> bool:
        """Say whether it strikes an attempt (1 = the first) at a file: always the same for the same values."""
        if operation not in self.operations or attempt <= self.after:
            return False
        if self.first is not None and attempt > self.first + self.after:
            return False
        if self.probability >= 1.0:
            return True
        # a text as the seed, so that neighbours have nothing in common
        chance = random.Random(f"{self.seed}/{self.kind.name}/{operation}/{attempt}/{url}")  # noqa: S311
        return chance.random() < self.probability


@dataclass(frozen=True, kw_only=True)
class FaultUrl:
    """A URL taken apart."""

    url: str
    """The real file's."""
    before: str
    """What stands before it: a URL of the other stager behind this leads to the same faults."""
    faults: tuple[StorageFault, ...]

    def due(self, operation: str, attempt: int) -> list[StorageFault]:
        """Return the faults that strike an attempt, in the URL's order."""
        return [fault for fault in self.faults if fault.strikes(operation, attempt, self.url)]


def parse(url: str) -> FaultUrl:
    """Take a URL apart; raises `BackendUnavailable`, in one line, for one that makes no sense."""
    found = _SHAPE.fullmatch(url)
    if not found:
        raise BackendUnavailable(f"{shown_url(url)}: not the URL of a storage that fails; {_EXAMPLE}")
    faults, real = found.groups()
    if "@" in faults:
        raise BackendUnavailable(f"{shown_url(url)}: user and password belong into the real URL, behind the faults")
    try:
        parsed = tuple(_fault(text) for text in faults.split(","))
        return FaultUrl(url=real, before=url[: found.start(2)], faults=parsed)
    except ValueError as error:
        raise BackendUnavailable(f"{shown_url(url)}: {error}") from None


def _fault(text: str) -> StorageFault:
    """Read one fault; raises `ValueError`."""
    name, *words = text.split(";")
    if name not in KINDS:
        raise ValueError(f"unknown fault {name[:80]!r}; {_did_you_mean(name, KINDS)}")
    kind = KINDS[name]
    known = {key.name: key for key in (*CONDITIONS, *kind.keys)}
    values: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in known:
            raise ValueError(f"unknown key {key[:80]!r} of {name}; {_did_you_mean(key, known)}")
        if not equals or key in values:
            raise ValueError(f"{name}: write {key}=VALUE, once")
        values[key] = _value(unquote(value), known[key], f"{name}: {key}")
    probability = values.pop("probability", 1.0)
    if probability > 1:
        raise ValueError(f"{name}: probability={probability:g} is above 1")
    return StorageFault(
        kind=kind,
        operations=_operations(values.pop("on", None), kind),
        first=values.pop("first", None),
        after=values.pop("after", 0),
        probability=probability,
        seed=values.pop("seed", "0"),
        values=MappingProxyType({key.name: values.get(key.name, key.default) for key in kind.keys}),
    )


def _operations(text: str | None, kind: Kind) -> tuple[str, ...]:
    """Return what a fault strikes; raises `ValueError` for what it cannot."""
    if text is None:
        return tuple(operation for operation in kind.operations if operation in MOVING)
    chosen = tuple(text.split("+"))
    for operation in chosen:
        if operation not in OPERATIONS:
            raise ValueError(f"{kind.name}: on={operation[:80]!r}; {_did_you_mean(operation, OPERATIONS)}")
        if operation not in kind.operations:
            raise ValueError(f"{kind.name}: cannot strike {operation}, only {', '.join(kind.operations)}")
    return chosen


def _value(text: str, key: Key, place: str) -> Any:
    """Return a key's value in its type; raises `ValueError`."""
    if key.type is str:
        return text
    # not int() and float() of whatever: they take spaces, underscores and digits of all scripts
    if not _NUMBERS[key.type].fullmatch(text):
        name = "a whole number" if key.type is int else "a number"
        raise ValueError(f"{place}={text[:80]!r}: must be {name}")
    value = key.type(text)
    if not math.isfinite(value) or not key.minimum <= value <= 1e15:
        raise ValueError(f"{place}={text}: must be {key.minimum:g} or more")
    return value


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
