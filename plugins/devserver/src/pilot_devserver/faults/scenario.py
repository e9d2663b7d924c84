"""Scenarios: faults written down in TOML. One table `[[faults]]` for each, and `seed` at the top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tomli

from pilot_core.errors import BadInput, ConfigError
from pilot_devserver.faults.rules import Rule, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Scenario", "parse_scenario", "read_scenario"]

_KEYS = ("seed", "faults")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a file says."""

    seed: int = 0
    """From which everything is drawn that is left to chance."""
    rules: tuple[Rule, ...] = ()


def read_scenario(path: Path) -> Scenario:
    """Read a file; raises `ConfigError`, in one line with file, table and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the scenario: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return parse_scenario(text, str(path))


def parse_scenario(text: str, where: str) -> Scenario:
    """Make a scenario of a file's text; raises `ConfigError`, in one line that begins with `where`."""
    try:
        values: dict[str, Any] = tomli.loads(text)
    except (ValueError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{where}: not TOML: {first}") from None
    for name in values:
        if name not in _KEYS:
            raise ConfigError(f"{where}: {name!r}: unknown key; {did_you_mean(name, _KEYS)}")
    seed, tables = values.get("seed", 0), values.get("faults")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"{where}: seed: must be a whole number, not {str(seed)[:80]!r}")
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{where}: has no faults: write one [[faults]] table for each")
    rules = []
    for number, table in enumerate(tables):
        place = f"{where}: faults[{number}]"
        if not isinstance(table, dict):
            raise ConfigError(f"{place}: must be a table")
        try:
            rules.append(Rule.read(table, place))
        except BadInput as error:
            raise ConfigError(str(error)) from None
    return Scenario(seed=seed, rules=tuple(rules))
