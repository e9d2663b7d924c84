"""Settings: one frozen dataclass gives the option, the file's key, the environment variable and the help text.

The order is defaults < file < environment < command line. Everything wrong is a `ConfigError` that names the
place: the file and the key's path, the variable, or the option.
"""

from __future__ import annotations

import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pilot_core.api.provider import KINDS
from pilot_core.errors import ConfigError, PluginError

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
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the file says."""
    sets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """`--set a.b.c=v`: dotted path -> text; part of the command line, so it wins over file and environment."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The process's environment; a variable that is empty counts as not set."""

    @classmethod
    def read(cls, file: Path | None, sets: Iterable[str] = (), environment: Mapping[str, str] | None = None) -> Config:
        """Read a TOML file (None = there is none) and `--set` texts.

        Raises `ConfigError` if the file is missing, unreadable or malformed, or has a table that means nothing.
        """
        data = _read_toml(file) if file is not None else {}
        config = cls(file, data, _parse_sets(sets), os.environ if environment is None else environment)
        for key, table in data.items():
            if key not in SECTIONS:
                raise ConfigError(f"{config.where(key)}: unknown key{did_you_mean(key, SECTIONS)}")
            if not isinstance(table, dict):
                raise ConfigError(f"{config.where(key)}: must be a table ([{key}])")
            for name in table if key in KINDS else ():
                if not isinstance(table[name], dict):
                    raise ConfigError(f"{config.where(f'{key}.{name}')}: must be a table ([{key}.NAME])")
        return config

    def where(self, path: str) -> str:
        """Return how messages name a key of the file."""
        return f"{self.file}: {path}" if self.file else path

    def names(self, kind: str) -> set[str]:
        """Return the providers of a kind for which the file or `--set` has settings."""
        return set(self.data.get(kind, {})) | {path.split(".")[1] for path in self.sets if path.startswith(f"{kind}.")}

    def section(
        self,
        path: str,
        cls: type[S],
        options: Mapping[str, Any] | None = None,
        *,
        over: Mapping[str, Any] | None = None,
        over_place: str = "",
    ) -> S:
        """Make the settings of one table from all layers; `options` are those of the command line, by field name.

        `over` is another table, whose keys win over the file's own; messages call it `over_place`.

        Raises `ConfigError` for an unknown key, a wrong type, a value out of range, or a missing mandatory key.
        """
        described = _described_fields(cls)
        values: dict[str, Any] = {}
        values.update(self._from_file(path, described))
        values.update(self._from_table(over or {}, described, over_place))
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
        return self._from_table(table, described, self.where(path))

    def _from_table(
        self, table: Mapping[str, Any], described: Mapping[str, tuple[Field[Any], Any]], name: str
    ) -> dict[str, Any]:
        """Return the values of one table; messages call it `name`."""
        base = self.file.parent if self.file else None
        values = {}
        for key, value in table.items():
            place = f"{name}.{key}"
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

    The options' own default is None, so that what was not given can be told from what was. A flag gets its `--no-`
    form too.
    """
    import argparse  # noqa: PLC0415  (who gives a parser has imported it)

    wanted = None if only is None else set(only)
    for name, (item, kind) in _described_fields(cls).items():
        if wanted is not None and name not in wanted:
            continue
        option = "--" + name.replace("_", "-")
        text = _help_of(item, kind).replace("%", "%%")
        if kind is bool:
            # both ways: what the file switches on, the command line can switch off
            both = argparse.BooleanOptionalAction
            parser.add_argument(option, dest=name, default=None, action=both, help=text)
        else:
            metavar = item.metadata.get("metavar") or _METAVARS.get(kind, "A,B")
            parser.add_argument(option, dest=name, default=None, metavar=metavar, help=text)


_METAVARS: Mapping[Any, str] = {int: "N", float: "N", str: "TEXT", Path: "F"}


def _help_of(item: Field[Any], kind: Any) -> str:
    """Return the help text of an option: what it is, its choices, where else it comes from."""
    text = str(item.metadata.get("help", ""))
    if item.metadata.get("choices"):
        text += f": {', '.join(item.metadata['choices'])}"
    if item.metadata.get("env"):
        text += f" [environment: {item.metadata['env']}]"
    default = item.default
    if default not in (MISSING, None, "", ()) and kind is not bool and not item.metadata.get("secret"):
        shown = ",".join(default) if isinstance(default, tuple) else f"{default:g}" if kind is float else default
        text += f" [default: {shown}]"
    return text


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
    except (ValueError, RecursionError) as error:
        # not only TOMLDecodeError: numbers of thousands of digits, tables nested hundreds deep
        raise ConfigError(f"{file}: not valid TOML: {error}") from None


def _parse_sets(texts: Iterable[str]) -> dict[str, str]:
    """Take `a.b.c=v` texts apart: `pilot.KEY=v`, `plugins.KEY=v`, `KIND.NAME.KEY=v`; no value is in a message."""
    sets = {}
    known = SECTIONS - {"queues"}
    for text in texts:
        path, equals, value = text.partition("=")
        parts = path.split(".")
        if not equals or not all(parts):
            raise ConfigError(f"--set {path}: write it as a.b.c=value, e.g. --set stager.http.timeout=5")
        if parts[0] not in known:
            raise ConfigError(f"--set {path}: unknown key {parts[0]!r}{did_you_mean(parts[0], known)}")
        if len(parts) != (3 if parts[0] in KINDS else 2):
            form = f"{parts[0]}.NAME.KEY=value" if parts[0] in KINDS else f"{parts[0]}.KEY=value"
            raise ConfigError(f"--set {path}: write it as {form}")
        sets[path] = value
    return sets


def _described_fields(cls: type) -> dict[str, tuple[Field[Any], Any]]:
    """Return the fields of a settings dataclass with their types, `X | None` reduced to X.

    Raises `PluginError` for a class that `pilot_core.setting` does not allow.
    """
    place = f"{cls.__module__}.{cls.__qualname__}"
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise PluginError(
            f"settings {place}: the type {error.name!r} is not known at run time; its authors have to import it "
            "outside of `if TYPE_CHECKING`"
        ) from error
    described = {}
    for item in fields(cls):
        kind = hints[item.name]
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            kinds = [part for part in typing.get_args(kind) if part is not type(None)]
            kind = kinds[0] if len(kinds) == 1 else kind
        if kind not in _KINDS:
            raise PluginError(f"settings {place}: {item.name} is of type {kind}, which a setting cannot have")
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
        elif kind == _TEXTS:
            value = tuple(part.strip() for part in text.split(",") if part.strip())
    except (KeyError, ValueError):
        raise ConfigError(f"{place}: {_shown(text, item)} is not {_KINDS[kind]}") from None
    return _convert(value, item, kind, place, None)


def _convert(value: Any, item: Field[Any], kind: Any, place: str, base: Path | None) -> Any:
    """Check a value against its field and return it in the field's type."""
    if kind is Path and isinstance(value, (str, Path)):
        return _path(str(value), place, base)
    if kind == _TEXTS:
        if not isinstance(value, (list, tuple)) or not all(isinstance(part, str) for part in value):
            raise ConfigError(f"{place}: {_shown(value, item)} is not {_KINDS[kind]}")
        for part in value:
            _check_choice(part, item, place)
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
        value = float(value)
    wrong_bool = isinstance(value, bool) and kind is not bool
    if not isinstance(value, kind) or wrong_bool or (kind is float and not math.isfinite(value)):
        raise ConfigError(f"{place}: {_shown(value, item)} is not {_KINDS[kind]}")
    _check_choice(value, item, place)
    minimum = item.metadata.get("minimum")
    if minimum is not None and value < minimum:
        raise ConfigError(f"{place}: {_shown(value, item)} is below {minimum:g}, the least that makes sense")
    return value


def _path(text: str, place: str, base: Path | None) -> Path:
    """Return a path; a relative one of the file is relative to the file."""
    if not text or "\0" in text:
        raise ConfigError(f"{place}: is {'empty' if not text else 'no path (it has a NUL character)'}; give a path")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{place}: {text}: the home directory is not known; write the path out") from None
    return path if base is None or path.is_absolute() else base / path


def _check_choice(value: Any, item: Field[Any], place: str) -> None:
    """Raise `ConfigError` unless the field allows the value."""
    choices = item.metadata.get("choices", ())
    if choices and value not in choices:
        hint = did_you_mean(str(value), choices)
        near = hint if "did you mean" in hint else ""
        raise ConfigError(f"{place}: {_shown(value, item)} is not one of {', '.join(choices)}{near}")


def _shown(value: Any, item: Field[Any]) -> str:
    """Return a value for a message: short, and nothing of a secret."""
    if item.metadata.get("secret"):
        return "the value given"
    text = repr(value) if not isinstance(value, int) or abs(value) < 2**64 else "a number that large"
    return text if len(text) <= 80 else f"{text[:77]}..."


_TEXTS = tuple[str, ...]
_KINDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    _TEXTS: "a list of texts",
}
"""What a field of a settings dataclass may be, in words."""
