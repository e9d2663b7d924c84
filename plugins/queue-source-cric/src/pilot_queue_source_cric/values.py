"""Typed values out of other people's JSON: what is wrong is named with its place, what is missing has a default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pilot_core import ConfigError

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """A JSON object and where it stands. Null counts as missing, as in CRIC's exports."""

    data: Mapping[str, Any]
    place: str
    """For messages: file or URL, then the key's path."""

    @classmethod
    def of(cls, value: object, place: str) -> Table:
        """Return the object, or raise `ConfigError` if it is something else."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place}: must be an object, not {_name(value)}")
        return cls(value, place)

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise `ConfigError` for one key."""
        raise ConfigError(f"{self.at(key)}: {problem}")

    def at(self, key: str) -> str:
        """Return the place of one key."""
        return f"{self.place}{'' if self.place.endswith(': ') else '.'}{key if key.isprintable() else ascii(key)}"

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fail(key, f"must be a string, not {_name(value)}")
        return value.strip()

    def whole(self, key: str) -> int:
        """Return a number, 0 or more; what is missing, empty or negative (CRIC's "not limited") is 0."""
        value = self.data.get(key)
        if value is None or value == "":
            return 0
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                self.fail(key, f"{_shown(value)} is not a whole number")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, f"must be a whole number, not {_name(value)}")
        return max(0, value)

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean, given as one or, as in older exports, as the text True or False."""
        value = self.data.get(key)
        if value is None or value == "":
            return default
        if value in ("True", "False"):
            return bool(value == "True")
        if not isinstance(value, bool):
            self.fail(key, f"must be true or false, not {_name(value)}")
        return value

    def table(self, key: str) -> Table:
        """Return an object; a missing one is empty, and so is an empty array (PHP's and Perl's empty object)."""
        value = self.data.get(key)
        if value is None or value in ([], ""):
            value = {}
        return Table.of(value, self.at(key))

    def tables(self, key: str) -> list[Table]:
        """Return an array of objects."""
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(key, f"must be an array, not {_name(value)}")
        return [Table.of(item, f"{self.at(key)}[{number}]") for number, item in enumerate(value)]

    def names(self, key: str) -> tuple[str, ...]:
        """Return an array of strings without repetitions; a string alone counts as an array of one."""
        value = self.data.get(key)
        if value is None or value == "":
            return ()
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            self.fail(key, f"must be an array of strings, not {_shown(value)}")
        return tuple(dict.fromkeys(item.strip() for item in items if item.strip()))


def _name(value: object) -> str:
    """Return what JSON calls a value's type."""
    names = {
        bool: "a boolean",
        str: "a string",
        int: "a number",
        float: "a number",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _shown(value: object) -> str:
    """Return a value as it fits into one line of a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
