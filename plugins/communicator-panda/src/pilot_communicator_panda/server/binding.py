"""Checking a request's parameters against a method's signature, with the texts of panda-server 1.0.4.

The rules are those of its decorator `request_validation` (`api/v1/common.py`) on Python 3.11. They are strict and odd:
a value that equals the default is not looked at (so `60.0` and `True` pass for 60 and 1), `True` is an int, an int is
no float, and a wrong value for a parameter of several types makes the check itself fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilot_communicator_panda.server.signatures import REQUIRED, Method, Parameter

__all__ = ["Crash", "Refused", "bind", "checked"]

_CLASSES: Mapping[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


class Refused(Exception):
    """The request is refused with status 200; the text is the message."""


class Crash(Exception):
    """The real server's own code fails; the text is the body of the 500, `kind` the exception's class there."""

    def __init__(self, text: str, kind: str = "TypeError") -> None:
        super().__init__(text)
        self.kind = kind


def bind(method: Method, given: Any, http: str) -> dict[str, Any]:
    """Return all parameters of a call, defaults included.

    `http` is the request's HTTP method: the values of a GET are text and are converted. Raises `Refused` or `Crash`.
    """
    if not isinstance(given, Mapping):
        raise Crash(f"{method.python_name}() argument after ** must be a mapping, not {type(given).__name__}")
    if "req" in given:
        raise Crash(f"{method.name}() got multiple values for argument 'req'")
    known = {parameter.name for parameter in method.parameters}
    for parameter in method.parameters:
        if parameter.default is REQUIRED and parameter.name not in given:
            raise Refused(f"Argument error: missing a required argument: '{parameter.name}'")
    for name in given:
        if name not in known:
            raise Refused(f"Argument error: got an unexpected keyword argument '{name}'")
    return {parameter.name: checked(parameter, given, http) for parameter in method.parameters}


def checked(parameter: Parameter, given: Mapping[str, Any], http: str) -> Any:
    """Return a parameter's value as the method gets it; raises `Refused` or `Crash`."""
    value = given.get(parameter.name, parameter.default)
    if parameter.types == ("any",) or parameter.default == value:
        return value
    if http == "GET":
        value = _converted(parameter, value)
    _check(parameter, value)
    return value


def _converted(parameter: Parameter, value: Any) -> Any:
    """Convert the text of a query; raises `Refused` or `Crash`."""
    wanted = parameter.types[0]
    if value == "None" and parameter.default is None:
        return None
    if wanted.startswith("list[") and isinstance(value, str):
        value = [value]
    try:
        return _convert(wanted, value)
    except (ValueError, TypeError):
        raise Refused(
            f"Type error: '{parameter.name}' with value '{value}' could not be casted to type {_title(wanted)}"
            f" from {type(value).__name__}."
        ) from None
    except (OverflowError, AttributeError) as error:
        raise Crash(str(error), type(error).__name__) from None


def _convert(wanted: str, value: Any) -> Any:
    if wanted == "bool":
        return value.lower() in ("true", "1")
    if wanted == "int":
        return int(float(value))
    if wanted == "list[int]":
        return [int(float(item)) for item in value]
    return value


def _check(parameter: Parameter, value: Any) -> None:
    """Raise `Refused` or `Crash` for a value of another type."""
    wanted = parameter.types[0]
    if wanted.startswith("list["):
        _check_list(parameter.name, wanted[5:-1], value)
        return
    if value is None and parameter.default is None:
        return
    if isinstance(value, tuple(_CLASSES[name] for name in parameter.types)):
        return
    if len(parameter.types) > 1:
        raise Crash("'types.UnionType' object has no attribute '__name__'", "AttributeError")
    raise Refused(f"Type error: '{parameter.name}' must be of type {wanted}, got {type(value).__name__}.")


def _check_list(name: str, item_type: str, value: Any) -> None:
    if not isinstance(value, list):
        raise Refused(f"Type error: '{name}' must be of type list, got {type(value).__name__}.")
    if not all(isinstance(item, _CLASSES[item_type]) for item in value):
        raise Refused(f"Type error: All elements in '{name}' must be {item_type}.")


def _title(wanted: str) -> str:
    """Return the name of a type as the message has it: generic types are called by their alias."""
    return "List" if wanted.startswith("list") else wanted
