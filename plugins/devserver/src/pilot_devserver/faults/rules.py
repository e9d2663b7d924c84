"""A rule: which requests a fault strikes, when, and how. Pure data, read from plain values, with the matching."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pilot_core.errors import BadInput
from pilot_devserver.faults.kinds import CONDITIONS, KINDS, Kind, Option, Place

if TYPE_CHECKING:
    from pilot_devserver.faults.subject import Subject

__all__ = ["Rule", "did_you_mean"]

_NAMES: Mapping[type, str] = MappingProxyType(
    {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table of texts"}
)
_LARGEST = 10**18
"""Numbers beyond it are a mistake."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One fault to be done; made by `Rule.read`."""

    kind: Kind
    endpoint: str = "*"
    job: int | None = None
    state: str = ""
    queue: str = ""
    after: int = 0
    count: int = 1
    probability: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    """The kind's own options, all of them."""

    @classmethod
    def read(cls, values: Mapping[str, Any], place: str = "fault") -> Rule:
        """Make a rule of plain values: `fault` is its kind's name, the others are conditions and options.

        Raises `BadInput`, in one line that begins with `place` and the key.
        """
        if "fault" not in values:
            raise BadInput(f"{place}: the key 'fault' is missing; known: {', '.join(sorted(KINDS))}")
        kind = _kind(values["fault"], place)
        conditions = () if kind.place is Place.CONNECTION else CONDITIONS[:4]
        known = {option.name: option for option in (*conditions, *CONDITIONS[4:], *kind.options)}
        found: dict[str, Any] = {}
        for name, value in values.items():
            if name == "fault":
                continue
            if name not in known:
                raise BadInput(f"{place}.{_plain(name)}: {_unknown(name, kind, known)}")
            found[name] = _checked(value, known[name], f"{place}.{name}")
        own = {option.name: found.pop(option.name, option.default) for option in kind.options}
        rule = cls(kind=kind, options=MappingProxyType(own), **found)
        # names with dots are those of other protocols than PanDA's
        foreign = {"/", "."} & set(rule.endpoint)
        if kind.endpoints and not foreign and not any(rule.is_for(f"/{name}") for name in kind.endpoints):
            methods = ", ".join(kind.endpoints)
            raise BadInput(f"{place}.endpoint: {rule.endpoint!r} can never have the fault {kind.name}; use {methods}")
        return rule

    @classmethod
    def from_words(cls, kind: str, words: Iterable[str]) -> Rule:
        """Make a rule of a command's words `key=value`; raises `BadInput`."""
        found = _kind(kind, "fault")
        known = {option.name: option for option in (*CONDITIONS, *found.options)}
        values: dict[str, Any] = {"fault": kind}
        for word in words:
            name, equals, text = word.partition("=")
            if not equals:
                raise BadInput(f"{word!r}: write key=value, for example count=2")
            values[name] = _from_text(text, known[name].type) if name in known else text
        return cls.read(values)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, of which `read` makes the same rule; what is not set is left out."""
        values: dict[str, Any] = {"fault": self.kind.name}
        for option in CONDITIONS:
            value = getattr(self, option.name)
            if value != option.default:
                values[option.name] = value
        values.update({name: value for name, value in self.options.items() if value is not None})
        return values

    def __str__(self) -> str:
        values = self.to_json()
        return " ".join([values.pop("fault"), *(f"{name}={_plain(str(value))}" for name, value in values.items())])

    def is_for(self, path: str) -> bool:
        """Say whether the endpoint's glob fits a path."""
        return fnmatchcase(path if "/" in self.endpoint else path.rpartition("/")[2], self.endpoint)

    def matches(self, subject: Subject, queue_of: Callable[[int], str]) -> bool:
        """Say whether a request is one of those that the rule is about; `queue_of` tells a job's queue."""
        if not self._is_about_method(subject):
            return False
        jobs = [job for job, state in subject.jobs if self.state in ("", state)]
        # which job is handed out twice is no matter of the request
        chosen = self.job if self.kind.name != "duplicate-dispatch" else None
        if chosen is not None:
            jobs = [job for job in jobs if job == chosen]
        if not jobs and (self.state or chosen is not None):
            return False
        return self.queue in ("", subject.queue) or any(queue_of(job) == self.queue for job in jobs)

    def _is_about_method(self, subject: Subject) -> bool:
        """Say whether the fault can strike such a request at all, and its endpoint is meant."""
        kind = self.kind
        meant = not kind.endpoints or subject.method in kind.endpoints or kind.task in subject.tasks
        if kind.place is Place.CONNECTION or not meant:
            return False
        named = self.is_for(subject.path) or any(fnmatchcase(name, self.endpoint) for name in subject.calls)
        return named and (subject.bearer or kind.name != "expired-token")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the nearest known word, else the list of what is known."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def _kind(name: Any, place: str) -> Kind:
    if not isinstance(name, str):
        raise BadInput(f"{place}.fault: must be a text, not {_shown(name)}")
    if name not in KINDS:
        raise BadInput(f"{place}: unknown fault {_shown(name)}; {did_you_mean(name, KINDS)}")
    return KINDS[name]


def _unknown(name: str, kind: Kind, known: Mapping[str, Option]) -> str:
    if any(name == option.name for option in CONDITIONS):
        return f"the fault {kind.name} strikes before there is a request; known: {', '.join(known)}"
    return f"unknown key of the fault {kind.name}; {did_you_mean(name, known)}"


def _checked(value: Any, option: Option, place: str) -> Any:
    """Return a value in its option's type; raises `BadInput`."""
    if option.type is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
        value = float(value)
    if not isinstance(value, option.type) or (option.type is int and isinstance(value, bool)):
        raise BadInput(f"{place}: must be {_NAMES[option.type]}, not {_shown(value)}")
    if isinstance(value, (int, float)):
        _check_number(value, option, place)
    if isinstance(value, str) and option.choices and value not in option.choices:
        raise BadInput(f"{place}: {_shown(value)} is none of {', '.join(option.choices)}")
    if isinstance(value, dict):
        _check_headers(value, place)
    if option.name == "endpoint" and not value:
        raise BadInput(f"{place}: must not be empty; * is every endpoint")
    return value


def _check_number(value: float, option: Option, place: str) -> None:
    """Raise `BadInput` for a number that makes no sense."""
    low, high = option.minimum, option.maximum
    if not -_LARGEST <= value <= _LARGEST or not math.isfinite(value):
        raise BadInput(f"{place}: {_shown(value)} is out of range")
    if low is not None and high is not None and not low <= value <= high:
        raise BadInput(f"{place}: {_shown(value)} is out of range; {low:g} to {high:g}")
    if low is not None and value < low:
        raise BadInput(f"{place}: {_shown(value)} is too small; at least {low:g}")


def _check_headers(values: Mapping[Any, Any], place: str) -> None:
    """Raise `BadInput` for what cannot be a header."""
    for name, text in values.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise BadInput(f"{place}: must be {_NAMES[dict]}, not {_shown(values)}")
        token = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if not token or not text.isprintable() or not text.isascii():
            raise BadInput(f"{place}: {_shown(name)} is no header")


def _from_text(text: str, kind: type) -> Any:
    """Return the value that a word of a command stands for; the text itself if it is of the wrong kind."""
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    try:
        if kind in (int, float):
            return kind(text)
        if kind is dict:
            import json  # noqa: PLC0415

            return json.loads(text)
    except (ValueError, RecursionError):
        pass
    return text


def _plain(text: str) -> str:
    """Return a text as it is if it is a plain word, else so that it takes one line and can be told from the rest."""
    return text if text.isprintable() and " " not in text and text else repr(text)


def _shown(value: Any) -> str:
    """Return a value for a message of one line."""
    try:
        text = repr(value)
    except ValueError:  # an int of too many digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:80]}..."
