"""The pilot's own values as plain JSON data, and back."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

__all__ = ["decode", "encode"]

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Return a value as plain JSON data: dataclasses as objects, tuples as lists, what JSON has no form for as text."""
    if isinstance(value, Enum):
        return encode(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [encode(inner) for inner in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    return str(value)


def decode(cls: type[T], value: Any, place: str = "") -> T:
    """Make a dataclass from what `encode` returned; fields that are not there get their default.

    Raises `ValueError` that names the place of what does not fit.
    """
    made: T = _decode(cls, value, place or cls.__name__)
    return made


def _decode(kind: Any, value: Any, place: str) -> Any:
    """Return a value of a type as annotations name it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    made: Any = value
    if origin in {typing.Union, types.UnionType}:
        inner = next(argument for argument in arguments if argument is not type(None))
        made = None if value is None else _decode(inner, value, place)
    elif isinstance(kind, type) and is_dataclass(kind):
        made = _dataclass(kind, value, place)
    elif origin is tuple:
        items = _plain(list, value, place)
        made = tuple(_decode(arguments[0], inner, f"{place}[{index}]") for index, inner in enumerate(items))
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        pairs = _plain(dict, value, place)
        made = {key: _decode(arguments[1], inner, f"{place}.{key}") for key, inner in pairs.items()}
    elif kind is not Any:
        made = _plain(kind, value, place)
    return made


def _plain(kind: type, value: Any, place: str) -> Any:
    """Return a plain value of a type; a whole number may stand for any number."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{place}: a value of type {kind.__name__} was expected, not {type(value).__name__}")
    return value


def _dataclass(cls: type, value: Any, place: str) -> Any:
    """Return a dataclass made from an object."""
    pairs = _plain(dict, value, place)
    kinds = typing.get_type_hints(cls)
    unknown = sorted(pairs.keys() - kinds.keys())
    if unknown:
        raise ValueError(f"{place}.{unknown[0]}: there is no such field")
    try:
        return cls(**{name: _decode(kinds[name], inner, f"{place}.{name}") for name, inner in pairs.items()})
    except TypeError as error:
        raise ValueError(f"{place}: {error}") from None
