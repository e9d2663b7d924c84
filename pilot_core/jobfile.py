"""A job in a file: `Job` as TOML or JSON with the names of its fields, or a server's own description as JSON.

The least that a job is made of are `transformation` and, as a rule, `parameters`. A file may be given by its name
alone where nothing else is known of it: `inputs = ["words.txt"]` is `inputs = [{lfn = "words.txt"}]`.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from pilot_core.api.checksums import parse
from pilot_core.api.job import InputFile, Job, OutputFile, Step
from pilot_core.errors import BadInput, JobDescriptionError
from pilot_core.payload import plain_name
from pilot_core.settings import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_servers", "job_of", "read_data"]

SERVERS = frozenset({"PandaID", "jobPars", "StatusCode", "success", "data", "jobs"})
"""Keys by which a JSON object is a server's description, or its answer with one: none is a field of `Job`."""
LEAST = {"id": 1, "core_count": 1}
"""Numbers that have to be above 0."""
ANY_SIGN = frozenset({"priority"})
LARGEST = 2**63 - 1
LONGEST = 16 * 1024**2
"""Characters that are read of a file, which may be a device without an end."""
SHORT = {InputFile: "lfn", OutputFile: "lfn", Step: "command"}
"""What a text stands for where one of these is expected."""
CHOICES = {"alt_stageout": ("", "on", "off"), "access_mode": ("", "direct", "copy")}
"""Texts that are one of a few."""
DEFAULTS: Mapping[type, Mapping[str, Any]] = {Job: {"id": 1}}
"""Fields that may be left out of a file."""


def read_data(path: Path) -> tuple[Any, bool]:
    """Return the data of a file, and whether it is JSON (else TOML); raises `BadInput` if it cannot be read.

    By the name's ending, and without `.toml` or `.json` by the first character: JSON begins with `{` or `[`.
    """
    import tomli  # noqa: PLC0415

    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(LONGEST + 1)
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file; name the file with the job's description") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    if len(text) > LONGEST:
        raise BadInput(f"{path}: is longer than {LONGEST} characters, which no job's description is")
    if path.suffix != ".toml" and (path.suffix == ".json" or text.lstrip()[:1] in {"{", "["}):
        try:
            return json.loads(text), True
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}: not valid JSON: {error}") from None
    try:
        return tomli.loads(text), False
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid TOML: {error}") from None


def is_servers(data: Any) -> bool:
    """Say whether a JSON file's data is a server's description of a job rather than a `Job` with its fields' names."""
    return not isinstance(data, Mapping) or not SERVERS.isdisjoint(data)


def job_of(data: Any, where: str) -> Job:
    """Return the job that a file's data describes; `where` names the file in messages.

    Raises `BadInput`, in one line with the field's path: for an unknown key, a wrong type, a value that makes no sense.
    """
    job: Job = _read(data, Job, _Place(where))
    _check_files(job, where)
    return job


class _Place:
    """A field's path within a file."""

    def __init__(self, where: str, path: str = "") -> None:
        self.where = where
        self.path = path

    def __truediv__(self, key: str | int) -> _Place:
        if isinstance(key, int):
            return _Place(self.where, f"{self.path}[{key}]")
        shown = key if key.isidentifier() else json.dumps(key[:80])
        return _Place(self.where, f"{self.path}.{shown}" if self.path else shown)

    def wrong(self, what: str) -> BadInput:
        """Return the error for this place."""
        return BadInput(f"{self.where}: {self.path}: {what}" if self.path else f"{self.where}: {what}")


def _read(value: Any, kind: Any, place: _Place) -> Any:
    """Return a value as the type that its field has; raises `BadInput`."""
    if kind is Any:
        return value
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = [part for part in parts if part is not type(None)]
        return None if value is None else _read(value, inner, place)
    if origin is tuple:
        if not isinstance(value, list):
            raise place.wrong(f"must be a list, not {_called(value)}")
        return tuple(_read(item, parts[0], place / number) for number, item in enumerate(value))
    if origin is Mapping:
        return {key: _read(item, parts[1], place / key) for key, item in _table(value, place).items()}
    if is_dataclass(kind):
        return _made(value, kind, place)
    return _plain(value, kind, place)


def _made(value: Any, kind: Any, place: _Place) -> Any:
    """Make an instance of one of the job's dataclasses from a table."""
    if isinstance(value, str) and kind in SHORT:
        value = {SHORT[kind]: value}
    hints, table = typing.get_type_hints(kind), dict(_table(value, place))
    for key in table:
        if key not in hints:
            raise (place / key).wrong(f"unknown key{did_you_mean(key, hints)}")
    made = {key: _read(item, hints[key], place / key) for key, item in {**DEFAULTS.get(kind, {}), **table}.items()}
    for item in fields(kind):
        needed = item.default is MISSING and item.default_factory is MISSING
        if item.name not in made and (needed or item.name == "transformation"):
            raise (place / item.name).wrong("is needed, and is not there")
    return kind(**made)


def _table(value: Any, place: _Place) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise place.wrong(f"must be a table, not {_called(value)}")
    return value


def _plain(value: Any, kind: Any, place: _Place) -> Any:
    """Check a text, a number or a flag."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = {int: "a whole number", str: "a text", bool: "true or false"}[kind]
        raise place.wrong(f"must be {wanted}, not {_called(value)}")
    name = place.path.rpartition(".")[2]
    if kind is int:
        least = -LARGEST if name in ANY_SIGN else LEAST.get(name, 0)
        if not least <= value <= LARGEST:
            raise place.wrong(f"must be {least} or more" if value < least else f"must be at most {LARGEST}")
    if kind is str:
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise place.wrong("has a character in it that no program can be given (NUL, or half of a pair)")
        return _text(name, value, place)
    return value


def _text(name: str, value: str, place: _Place) -> str:
    """Return a text, checked if it has a form of its own."""
    if name == "transformation" and not value.strip():
        raise place.wrong("is empty; name a program to run")
    if name == "lfn":
        try:
            plain_name(value)
        except JobDescriptionError as error:
            raise place.wrong(str(error)) from None
    if value not in CHOICES.get(name, (value,)):
        raise place.wrong(f"must be one of {', '.join(filter(None, CHOICES[name]))}, or nothing")
    if name == "checksum" and value:
        try:
            return str(parse(value))
        except ValueError as error:
            raise place.wrong(str(error)) from None
    return value


def _check_files(job: Job, where: str) -> None:
    """Check that each file of the job has a name of its own."""
    seen: set[str] = set()
    for name in [*(file.lfn for file in job.inputs), *(file.lfn for file in job.files_out)]:
        if name in seen:
            raise BadInput(f"{where}: {name!r} is the name of two of the job's files; give one of them another")
        seen.add(name)
    archived = [name for archive, members in job.archives.items() for name in (archive, *members)]
    for key, names in (("input_lists", list(job.input_lists)), ("archives", archived)):
        for name in names:
            try:
                plain_name(name)
            except JobDescriptionError as error:
                raise BadInput(f"{where}: {key}: {error}") from None
    for name in set(job.archives) - {file.lfn for file in job.outputs}:
        raise BadInput(f"{where}: archives: {name!r} is none of the job's outputs; add it to `outputs`")


def _called(value: Any) -> str:
    """Return what a value of a file is called."""
    if value is None:
        return "null"
    names = {bool: "true or false", str: "a text", int: "a whole number", float: "a number with a fraction"}
    return names.get(type(value)) or (
        "a list" if isinstance(value, list) else "a table" if isinstance(value, Mapping) else "a date or time"
    )
