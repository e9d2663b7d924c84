"""Settings: one frozen dataclass gives the option, the file's key, the environment variable and the help text.

The order is defaults < file < environment < command line. Everything wrong is a `ConfigError` that names the
place: the file and the key's path, the variable, or the option.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pilot_core.api.provider import KINDS
from pilot_core.errors import ConfigError

if TYPE_CHECKING:
    import argparse

__all__ = ["Config", "add_options", "did_you_mean", "given_options"]

S = TypeVar("S")

SECTIONS = frozenset({"pilot", "plugins", "queues", *KINDS})
"""The tables that a configuration file may have at its top."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known word, else the list of what is known."""
    import difflib  # noqa: PLC0415  (only ever needed on the way to an error)

    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


@dataclass(frozen=True)
class Config:
    """The layers of settings under the command line's own options: the file, `--set`, the environment."""

    file: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the file says."""
    sets: Mapping[str, str] = field(default_factory=dict)
    """`--set a.b.c=v`: dotted path -> text; part of the command line, so it wins over file and environment."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path | None, sets: Iterable[str] = (), environment: Mapping[str, str] | None = None) -> Config:
        """Read a TOML file (None = there is none) and `--set` texts.

        Raises `ConfigError` if the file is missing, unreadable or malformed, or has a table that means nothing.
        """
        data = _read_toml(file) if file is not None else {}
        config = cls(file, data, _parse_sets(sets), os.environ if environment is None else environment)
        for key in data:
            if key not in SECTIONS:
                raise ConfigError(f"{config.where(key)}: unknown key{did_you_mean(key, SECTIONS)}")
            if not isinstance(data[key], dict):
                raise ConfigError(f"{config.where(key)}: must be a table ([{key}])")
        for path in config.sets:
            head = path.split(".")[0]
            if head not in SECTIONS or head == "queues":
                raise ConfigError(f"--set {path}: unknown key {head!r}{did_you_mean(head, SECTIONS - {'queues'})}")
        return config

    def where(self, path: str) -> str:
        """Return how messages name a key of the file."""
        return f"{self.file}: {path}" if self.file else path

    def names(self, kind: str) -> set[str]:
        """Return the providers of a kind for which the file or `--set` has settings."""
        found = set(self.data.get(kind, {}))
        return found | {path.split(".")[1] for path in self.sets if path.startswith(f"{kind}.") and path.count(".") > 1}

    def section(self, path: str, cls: type[S], options: Mapping[str, Any] | None = None) -> S:
        """Make the settings of one table from all layers; `options` are those of the command line, by field name.

        Raises `ConfigError` for an unknown key, a wrong type, a value out of range, or a missing mandatory key.
        """
        described = _described_fields(cls)
        values: dict[str, Any] = {}
        values.update(self._from_file(path, described))
        values.update(self._from_environment(described))
        values.update(self._from_sets(path, described))
        for name, value in (options or {}).items():
            if value is not None:
                item, kind = described[name]
                values[name] = _convert(value, item, kind, f"--{name.replace('_', '-')}", None)
        for name, (item, _) in described.items():
            if name not in values and item.default is MISSING and item.default_factory is MISSING:
                raise ConfigError(f"{self.where(f'{path}.{name}')}: is needed ({item.metadata.get('help', '')})")
        return cls(**values)

    def _from_file(self, path: str, described: Mapping[str, tuple[Field[Any], Any]]) -> dict[str, Any]:
        """Return the values that the file gives for one table."""
        table: Any = self.data
        walked: list[str] = []
        for part in path.split("."):
            walked.append(part)
            table = table.get(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{self.where('.'.join(walked))}: must be a table ([{'.'.join(walked)}])")
        base = self.file.parent if self.file else None
        values = {}
        for key, value in table.items():
            place = self.where(f"{path}.{key}")
            if key not in described:
                raise ConfigError(f"{place}: unknown key{did_you_mean(key, described)}")
            item, kind = described[key]
            values[key] = _convert(value, item, kind, place, base)
        return values

    def _from_environment(self, described: Mapping[str, tuple[Field[Any], Any]]) -> dict[str, Any]:
        """Return the values that environment variables give."""
        values = {}
        for key, (item, kind) in described.items():
            variable = item.metadata.get("env", "")
            if variable and self.environment.get(variable, ""):
                values[key] = _parse(self.environment[variable], item, kind, f"environment variable {variable}")
        return values

    def _from_sets(self, path: str, described: Mapping[str, tuple[Field[Any], Any]]) -> dict[str, Any]:
        """Return the values that `--set` gives for one table."""
        values = {}
        for dotted, text in self.sets.items():
            table, _, key = dotted.rpartition(".")
            if table != path:
                continue
            if key not in described:
                raise ConfigError(f"--set {dotted}: unknown key {key!r}{did_you_mean(key, described)}")
            item, kind = described[key]
            values[key] = _parse(text, item, kind, f"--set {dotted}")
        return values


def add_options(parser: argparse._ActionsContainer, cls: type, *, only: Iterable[str] | None = None) -> None:
    """Give the parser an option for each field of a settings dataclass (for those named in `only`).

    The options' own default is None, so that what was not given can be told from what was.
    """
    wanted = None if only is None else set(only)
    for name, (item, kind) in _described_fields(cls).items():
        if wanted is not None and name not in wanted:
            continue
        option = "--" + name.replace("_", "-")
        text = item.metadata["help"]
        if item.metadata["env"]:
            text += f" [environment: {item.metadata['env']}]"
        if item.default not in (MISSING, None, "", ()) and kind is not bool:
            text += f" [default: {item.default}]"
        text = text.replace("%", "%%")
        if kind is bool:
            parser.add_argument(option, dest=name, default=None, action="store_true", help=text)
        else:
            parser.add_argument(option, dest=name, default=None, metavar=item.metadata["metavar"] or "X", help=text)


def given_options(arguments: argparse.Namespace, cls: type) -> dict[str, Any]:
    """Return the options of a settings dataclass that the command line gave, parsed."""
    given = {}
    for name, (item, kind) in _described_fields(cls).items():
        value = getattr(arguments, name, None)
        if isinstance(value, str):
            value = _parse(value, item, kind, "--" + name.replace("_", "-"))
        if value is not None:
            given[name] = value
    return given


def _read_toml(file: Path) -> dict[str, Any]:
    """Read one TOML file; raises `ConfigError`."""
    import tomli  # noqa: PLC0415  (a pilot without a file does not need it)

    try:
        return tomli.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: the configuration file does not exist; check --config") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot read the configuration file: {error.strerror}") from None
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None


def _parse_sets(texts: Iterable[str]) -> dict[str, str]:
    """Take `a.b.c=v` texts apart."""
    sets = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or path.count(".") < 1 or not all(path.split(".")):
            raise ConfigError(f"--set {text}: write it as a.b.c=value, e.g. --set stager.http.timeout=5")
        sets[path] = value
    return sets


def _described_fields(cls: type) -> dict[str, tuple[Field[Any], Any]]:
    """Return the fields of a settings dataclass with their types, `X | None` reduced to X."""
    hints = typing.get_type_hints(cls)
    described = {}
    for item in fields(cls):
        kind = hints[item.name]
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            kinds = [part for part in typing.get_args(kind) if part is not type(None)]
            kind = kinds[0] if len(kinds) == 1 else kind
        described[item.name] = (item, kind)
    return described


def _parse(text: str, item: Field[Any], kind: Any, place: str) -> Any:
    """Turn a text from an option or a variable into a field's value."""
    value: Any = text
    try:
        if kind is bool:
            value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        elif kind in (int, float):
            value = kind(text)
        elif typing.get_origin(kind) is tuple:
            value = tuple(part.strip() for part in text.split(",") if part.strip())
    except (KeyError, ValueError):
        raise ConfigError(f"{place}: {text!r} is not {_name_of(kind)}") from None
    return _convert(value, item, kind, place, None)


def _convert(value: Any, item: Field[Any], kind: Any, place: str, base: Path | None) -> Any:
    """Check a value against its field and return it in the field's type."""
    if kind is Path and isinstance(value, (str, Path)):
        if not str(value):
            raise ConfigError(f"{place}: is empty; give a path")
        path = Path(value).expanduser()
        return path if base is None or path.is_absolute() else base / path
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(part, str) for part in value):
            raise ConfigError(f"{place}: must be a list of strings, not {value!r}")
        return tuple(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{place}: {value!r} is not {_name_of(kind)}")
    choices = item.metadata.get("choices", ())
    if choices and value not in choices:
        raise ConfigError(f"{place}: {value!r} is not one of {', '.join(choices)}{_near(value, choices)}")
    minimum = item.metadata.get("minimum")
    # NaN compares false with everything
    if minimum is not None and not value >= minimum:
        raise ConfigError(f"{place}: {value!r} is below {minimum}, the least that makes sense")
    return value


def _near(value: Any, choices: Iterable[str]) -> str:
    hint = did_you_mean(str(value), choices)
    return hint if "did you mean" in hint else ""


def _name_of(kind: Any) -> str:
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        Path: "a path",
    }
    return names.get(kind, str(kind))
