"""Settings are frozen dataclasses; one declaration gives option, file key, environment variable and help."""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any

__all__ = ["setting"]


def setting(
    default: Any = MISSING,
    *,
    help: str,  # noqa: A002  (the name every option library uses)
    env: str = "",
    secret: bool = False,
    metavar: str = "",
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
) -> Any:
    """Declare a field of a settings dataclass.

    `help` says what it is, with its unit. `env` names an environment variable that sets it. A `secret` is never
    shown. `choices` and `minimum` are checked when the value is read, with the key's path in the message. Fields may
    be `str`, `int`, `float`, `bool`, `Path`, a `tuple[str, ...]`, or one of these `| None`.
    """
    if not help:
        raise ValueError("a setting needs a help text")
    metadata = {
        "help": help,
        "env": env,
        "secret": secret,
        "metavar": metavar,
        "choices": choices,
        "minimum": minimum,
    }
    if default is MISSING:
        return field(metadata=metadata, repr=not secret)
    if isinstance(default, (dict, list, set)):
        raise TypeError("use an immutable default")
    return field(default=default, metadata=metadata, repr=not secret)
