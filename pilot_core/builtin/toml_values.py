"""Typed values out of TOML: every mistake is a `ConfigError` that names the file and the key's path."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import SplitResult, urlsplit

from pilot_core import ConfigError

__all__ = [
    "Place",
    "hint",
    "read_base_url",
    "read_choice",
    "read_environment",
    "read_fields",
    "read_flag",
    "read_list",
    "read_matching",
    "read_seconds",
    "read_storage_url",
    "read_table",
    "read_tables",
    "read_text",
    "read_whole",
]

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True)
class Place:
    """A key's path within a file, for messages."""

    where: str
    keys: tuple[str, ...] = ()

    def __truediv__(self, key: str | int) -> Place:
        """Return the place of a key of this table, or of an item of this array."""
        if isinstance(key, int):
            return Place(self.where, (*self.keys[:-1], f"{self.keys[-1]}[{key}]"))
        return Place(self.where, (*self.keys, key if _BARE_KEY.fullmatch(key) else _quoted(key)))

    def fail(self, problem: str) -> NoReturn:
        """Raise the error for this place."""
        raise ConfigError(f"{self.where}: {'.'.join(self.keys)}: {problem}")


def _quoted(text: str) -> str:
    """Return the text as a TOML string on one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in escaped) + '"'


def _shown(value: object) -> str:
    """Return a value as it fits into one line of a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _type_name(value: object) -> str:
    """Return what TOML calls the value's type."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "a string", int: "an integer", float: "a float", list: "an array"}
    return names.get(type(value), "a date or time")


def hint(name: str, known: Collection[str]) -> str:
    """Return a did-you-mean, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


# -- readers: (value, place) -> typed value --------------------------------------------------------------------------


def read_table(value: object, place: Place) -> Mapping[str, Any]:
    """Return a table."""
    if not isinstance(value, Mapping):
        place.fail(f"must be a table, not {_type_name(value)}")
    return value


def read_text(value: object, place: Place) -> str:
    """Return a string without NUL characters."""
    if not isinstance(value, str):
        place.fail(f"must be a string, not {_type_name(value)}")
    if "\0" in value:
        place.fail("must not contain a NUL character")
    return value


def read_matching(pattern: re.Pattern[str], what: str, value: object, place: Place) -> str:
    """Return a string that matches a pattern as a whole; `what` says what such a string is."""
    text = read_text(value, place)
    if not pattern.fullmatch(text):
        place.fail(f"{_shown(text)} is not {what}")
    return text


def read_choice(choices: tuple[str, ...], value: object, place: Place) -> str:
    """Return one of some strings."""
    text = read_text(value, place)
    if text not in choices:
        place.fail(f"{_shown(text)} is not one of {', '.join(choices)}{hint(text, choices)}")
    return text


def read_flag(value: object, place: Place) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool):
        place.fail(f"must be true or false, not {_type_name(value)}")
    return value


def read_whole(value: object, place: Place) -> int:
    """Return an integer, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        place.fail(f"must be an integer, not {_type_name(value)}")
    if value < 0:
        place.fail(f"must be 0 or more, not {value}")
    return value


def read_seconds(value: object, place: Place, *, above: bool = False) -> float:
    """Return a number of seconds, 0 or more; `above`: more than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        place.fail(f"must be a number of seconds, not {_type_name(value)}")
    if not math.isfinite(value) or abs(value) > 1e9:
        place.fail(f"must be a number of seconds up to 1e9, not {_shown(value)}")
    if value < 0 or (above and value == 0):
        place.fail(f"must be {'above 0' if above else '0 or more'}, not {value}")
    return float(value)


def read_list(read: Callable[[object, Place], T], value: object, place: Place) -> tuple[T, ...]:
    """Return an array, each item read by `read`, without repetitions."""
    if not isinstance(value, list):
        place.fail(f"must be an array, not {_type_name(value)}")
    items = tuple(read(item, place / number) for number, item in enumerate(value))
    for number, item in enumerate(items):
        if item in items[:number]:
            (place / number).fail(f"{_shown(item)} is listed twice")
    return items


def read_environment(value: object, place: Place) -> dict[str, str]:
    """Return variables by name."""
    variables = {}
    for name, text in read_table(value, place).items():
        if not _VARIABLE.fullmatch(name):
            (place / name).fail("is not the name of an environment variable")
        variables[name] = read_text(text, place / name)
    return variables


def _url(value: object, place: Place) -> tuple[str, SplitResult]:
    text = read_text(value, place).rstrip("/")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        place.fail(f"{_shown(value)} is not a URL: {error}")
    if not _SCHEME.fullmatch(parts.scheme) or any(char.isspace() or not char.isprintable() for char in text):
        place.fail(f"{_shown(value)} is not a URL (like file:///data or davs://host:443/path)")
    return text, parts


def read_storage_url(value: object, place: Place) -> str:
    """Return the prefix of a storage's URLs, without a trailing slash."""
    text, parts = _url(value, place)
    if parts.query or parts.fragment:
        place.fail(f"{_shown(value)} must not have a query or a fragment")
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            place.fail(f"{_shown(value)} is not an absolute file URL (like file:///data)")
        if ".." in parts.path.split("/"):
            place.fail(f"{_shown(value)} must not contain '..'")
    elif not parts.netloc:
        place.fail(f"{_shown(value)} names no host")
    return text


def read_base_url(value: object, place: Place) -> str:
    """Return an https or http URL without a trailing slash."""
    text, parts = _url(value, place)
    if parts.scheme not in {"https", "http"} or not parts.netloc:
        place.fail(f"{_shown(value)} is not an https:// or http:// URL")
    return text


def read_fields(value: object, place: Place, readers: Mapping[str, Callable[[object, Place], Any]]) -> dict[str, Any]:
    """Read a table whose keys are all known."""
    table = read_table(value, place)
    for key in table:
        if key not in readers:
            (place / key).fail(f"unknown key{hint(key, readers)}")
    return {key: readers[key](item, place / key) for key, item in table.items()}


def read_tables(read: Callable[[object, Place], T], value: object, place: Place) -> tuple[T, ...]:
    """Return an array of tables, each read by `read`."""
    if not isinstance(value, list):
        place.fail(f"must be an array of tables, not {_type_name(value)}")
    return tuple(read(item, place / number) for number, item in enumerate(value))
