"""Single values of PanDA's job dictionary, whatever JSON they are: a value of the right kind, or `BadField`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pilot_core import JobDescriptionError, PilotErrorCode

__all__ = ["BadField", "Fields", "check_lfn", "is_unset"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}(\.0*)?")
_LARGEST = 2**63 - 1
_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no"})


class BadField(JobDescriptionError):
    """A field of a job description that cannot be used: its name and what is wrong with it, in one line."""

    def __init__(self, name: str, wrong: str, code: PilotErrorCode = PilotErrorCode.CONVERSIONFAILURE) -> None:
        super().__init__(f"{name}: {wrong}", error_code=code)


def is_unset(value: Any) -> bool:
    """Say whether a value is one of PanDA's ways to say nothing: null, an empty text, the text `NULL`."""
    return value is None or (isinstance(value, str) and value in {"", "NULL"})


def shown(value: Any) -> str:
    """Return a value for a message, short and in one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = repr(value[:200] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:60] + "..."


def check_lfn(name: str, lfn: str, code: PilotErrorCode) -> None:
    """Check that a logical file name can be the name of a file in the job's directory, and of nothing else.

    Raises `BadField` with `code`.
    """
    try:
        length = len(lfn.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadField(name, f"{shown(lfn)} is not valid Unicode", code) from None
    if not lfn or lfn in {".", ".."} or "/" in lfn or length > 255:
        raise BadField(name, f"{shown(lfn)} cannot be a file name", code)
    if any(not c.isprintable() for c in lfn):
        raise BadField(name, f"{shown(lfn)} has a control character in it", code)


class Fields:
    """A job dictionary, read field by field; knows which fields were read."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self._entry = entry
        self._read: set[str] = set()

    def raw(self, name: str) -> Any:
        """Return a value as it is; None if it is not set."""
        self._read.add(name)
        value = self._entry.get(name)
        return None if is_unset(value) else value

    def rest(self) -> dict[str, Any]:
        """Return the fields that nobody has read."""
        return {name: value for name, value in self._entry.items() if name not in self._read}

    def text(self, name: str) -> str:
        """Return a text; a number is taken as its text, unset as empty."""
        value = self.raw(name)
        if value is None:
            return ""
        if isinstance(value, (dict, list)):
            raise BadField(name, f"a text was expected, not {shown(value)}")
        text = value if isinstance(value, str) else str(value)
        if "\0" in text:
            raise BadField(name, "has a NUL character in it")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise BadField(name, "is not valid Unicode") from None
        return text

    def integer(self, name: str) -> int | None:
        """Return an integer, given as a number or as its text; None if unset."""
        value = self.raw(name)
        if value is None:
            return None
        number: int | None = None
        if isinstance(value, bool):
            pass
        elif isinstance(value, int):
            number = value
        elif isinstance(value, float):
            number = int(value) if math.isfinite(value) else None
        elif isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            number = int(value.strip().partition(".")[0])
        if number is None or abs(number) > _LARGEST:
            raise BadField(name, f"{shown(value)} is not an integer")
        return number

    def amount(self, name: str) -> int:
        """Return an integer that counts something; unset and below 0 mean 0."""
        return max(0, self.integer(name) or 0)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a truth value, given as one, as a number or as a text."""
        value = self.raw(name)
        if value is None:
            return default
        word = str(value).strip().lower() if isinstance(value, (str, bool, int)) else ""
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise BadField(name, f"{shown(value)} is neither true nor false")

    def listing(self, name: str) -> list[str]:
        """Return the parts of a comma-joined text (or the texts of a list); unset parts are empty texts."""
        value = self.raw(name)
        if isinstance(value, list):
            if any(isinstance(part, (dict, list)) for part in value):
                raise BadField(name, "a list of texts was expected")
            parts = ["" if part is None else str(part) for part in value]
        else:
            text = self.text(name)
            parts = text.split(",") if text else []
        return ["" if is_unset(part) else part for part in parts]

    def mapping(self, name: str, *, secret: bool = False) -> dict[str, Any]:
        """Return an object, given as one or as a JSON text of one; unset is empty."""
        value = self.raw(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise BadField(name, "is not valid JSON") from None
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise BadField(name, "an object was expected" + ("" if secret else f", not {shown(value)}"))
        return {str(key): item for key, item in value.items()}
