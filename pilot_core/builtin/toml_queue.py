"""Queue source `toml`: queues from `[queues.NAME]` tables of the pilot's own configuration file, or of another one.

Every mistake is a `ConfigError` that names the file and the key's path; nothing is guessed or passed over.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import SplitResult, urlsplit

from pilot_core import ConfigError, Provider, Queue, QueueSource, Storage, hookimpl, setting

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline

__all__ = ["TomlQueueSettings", "TomlQueueSource", "parse_queues", "pilot_queue_sources"]

ACTIVITIES = ("read", "write", "log")
LAYOUTS = ("flat", "rucio")
STATES = ("online", "test", "brokeroff", "offline")

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[A-Za-z0-9][^\s/\x00-\x1f\x7f]*")
_PROVIDER = re.compile(r"[a-z][a-z0-9-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True)
class _Place:
    """A key's path within a file, for messages."""

    where: str
    keys: tuple[str, ...] = ()

    def __truediv__(self, key: str | int) -> _Place:
        if isinstance(key, int):
            return _Place(self.where, (*self.keys[:-1], f"{self.keys[-1]}[{key}]"))
        return _Place(self.where, (*self.keys, key if _BARE_KEY.fullmatch(key) else _quoted(key)))

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


def _hint(name: str, known: Collection[str]) -> str:
    """Return a did-you-mean, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


# -- readers: (value, place) -> typed value ----------------------------------------------------------------------------


def _table(value: object, place: _Place) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        place.fail(f"must be a table, not {_type_name(value)}")
    return value


def _text(value: object, place: _Place) -> str:
    if not isinstance(value, str):
        place.fail(f"must be a string, not {_type_name(value)}")
    if "\0" in value:
        place.fail("must not contain a NUL character")
    return value


def _matching(pattern: re.Pattern[str], what: str, value: object, place: _Place) -> str:
    text = _text(value, place)
    if not pattern.fullmatch(text):
        place.fail(f"{_shown(text)} is not {what}")
    return text


def _choice(choices: tuple[str, ...], value: object, place: _Place) -> str:
    text = _text(value, place)
    if text not in choices:
        place.fail(f"{_shown(text)} is not one of {', '.join(choices)}{_hint(text, choices)}")
    return text


def _flag(value: object, place: _Place) -> bool:
    if not isinstance(value, bool):
        place.fail(f"must be true or false, not {_type_name(value)}")
    return value


def _whole(value: object, place: _Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        place.fail(f"must be an integer, not {_type_name(value)}")
    if value < 0:
        place.fail(f"must be 0 or more, not {value}")
    return value


def _seconds(value: object, place: _Place, *, above: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        place.fail(f"must be a number of seconds, not {_type_name(value)}")
    if not math.isfinite(value) or abs(value) > 1e9:
        place.fail(f"must be a number of seconds up to 1e9, not {_shown(value)}")
    if value < 0 or (above and value == 0):
        place.fail(f"must be {'above 0' if above else '0 or more'}, not {value}")
    return float(value)


def _list_of(read: Callable[[object, _Place], T], value: object, place: _Place) -> tuple[T, ...]:
    if not isinstance(value, list):
        place.fail(f"must be an array, not {_type_name(value)}")
    items = tuple(read(item, place / number) for number, item in enumerate(value))
    for number, item in enumerate(items):
        if item in items[:number]:
            (place / number).fail(f"{_shown(item)} is listed twice")
    return items


def _environment(value: object, place: _Place) -> dict[str, str]:
    variables = {}
    for name, text in _table(value, place).items():
        if not _VARIABLE.fullmatch(name):
            (place / name).fail("is not the name of an environment variable")
        variables[name] = _text(text, place / name)
    return variables


def _url(value: object, place: _Place) -> tuple[str, SplitResult]:
    text = _text(value, place).rstrip("/")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        place.fail(f"{_shown(value)} is not a URL: {error}")
    if not _SCHEME.fullmatch(parts.scheme) or any(char.isspace() or not char.isprintable() for char in text):
        place.fail(f"{_shown(value)} is not a URL (like file:///data or davs://host:443/path)")
    return text, parts


def _storage_url(value: object, place: _Place) -> str:
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


def _base_url(value: object, place: _Place) -> str:
    text, parts = _url(value, place)
    if parts.scheme not in {"https", "http"} or not parts.netloc:
        place.fail(f"{_shown(value)} is not an https:// or http:// URL")
    return text


_rse = partial(_matching, _NAME, "the name of an RSE")
_provider = partial(_matching, _PROVIDER, "a plugin's name (lower-case letters, digits and dashes)")


def _stagers_by_activity(value: object, place: _Place) -> dict[str, tuple[str, ...]]:
    table = _fields(value, place, dict.fromkeys(ACTIVITIES, partial(_list_of, _provider)))
    return dict(table)


# -- tables ------------------------------------------------------------------------------------------------------------


def _fields(value: object, place: _Place, readers: Mapping[str, Callable[[object, _Place], Any]]) -> dict[str, Any]:
    """Read a table whose keys are all known."""
    table = _table(value, place)
    for key in table:
        if key not in readers:
            (place / key).fail(f"unknown key{_hint(key, readers)}")
    return {key: readers[key](item, place / key) for key, item in table.items()}


_STORAGE: Mapping[str, Callable[[object, _Place], Any]] = {
    "url": _storage_url,
    "layout": partial(_choice, LAYOUTS),
    "stagers": partial(_list_of, _provider),
}


def _storages(value: object, place: _Place) -> dict[str, Storage]:
    storages = {}
    for rse, entry in _table(value, place).items():
        _rse(rse, place / rse)
        fields = _fields(entry, place / rse, _STORAGE)
        if "url" not in fields:
            (place / rse).fail("the key 'url' is missing")
        storages[rse] = Storage(rse=rse, **fields)
    return storages


_QUEUE: Mapping[str, Callable[[object, _Place], Any]] = {
    "site": _text,
    "status": partial(_choice, STATES),
    "storages": _storages,
    **dict.fromkeys(ACTIVITIES, partial(_list_of, _rse)),
    "stagers": _stagers_by_activity,
    "executor": _provider,
    "heartbeat_seconds": partial(_seconds, above=True),
    "shell": _flag,
    "environment": _environment,
    "pass_environment": partial(
        _list_of, partial(_matching, _PATTERN, "a variable's name, or a prefix of one that ends in '*'")
    ),
    "transformation_urls": partial(_list_of, _base_url),
    "allow_http": _flag,
    "max_memory_mb": _whole,
    "max_disk_mb": _whole,
    "kill_grace_seconds": _seconds,
}


def _queue(name: str, value: object, place: _Place) -> Queue:
    """Read one queue and check what its keys say of each other."""
    _matching(_NAME, "the name of a queue", name, place)
    fields = _fields(value, place, _QUEUE)
    storages = fields.get("storages", {})
    for activity in ACTIVITIES:
        for number, rse in enumerate(fields.get(activity, ())):
            if rse not in storages:
                table = ".".join((place / "storages" / rse).keys)
                (place / activity / number).fail(f"no storage {rse!r}{_hint(rse, storages)}: add [{table}]")
    if not fields.get("allow_http", False):
        for number, url in enumerate(fields.get("transformation_urls", ())):
            if not url.startswith("https:"):
                (place / "transformation_urls" / number).fail(f"{url!r} is not https; allow_http = true permits it")
    return Queue(name=name, source=f"{place.where}: {'.'.join(place.keys)}", **fields)


def parse_queues(data: Mapping[str, Any], where: str) -> dict[str, Queue]:
    """Return the queues of the `queues` table of a parsed TOML document; other top-level keys are not looked at.

    `where` names the document in messages and in `Queue.source`. Raises `ConfigError`, naming file and key path, for
    unknown keys, wrong types, values that make no sense and RSEs without a storage.
    """
    place = _Place(where) / "queues"
    return dict(_each_queue(data.get("queues", {}), place))


def _each_queue(value: object, place: _Place) -> Iterator[tuple[str, Queue]]:
    for name, entry in _table(value, place).items():
        yield name, _queue(name, entry, place / name)


# -- the source --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TomlQueueSettings:
    """Settings of `queue-source.toml`."""

    file: Path | None = setting(None, help="TOML file with [queues.NAME] tables; default: the pilot's own", metavar="F")


class TomlQueueSource:
    """Knows the queues of one TOML file, which is read anew for every question; knows none without a file."""

    def __init__(self, settings: TomlQueueSettings, context: Context) -> None:
        self._file = settings.file or context.config_file
        self._own = settings.file is None
        self._log = context.log

    def queue(self, name: str, *, cancel: CancelToken, deadline: Deadline) -> Queue | None:
        """Return the queue, or None if the file has no table for it.

        Raises `ConfigError` if the file cannot be read or any of its queues makes no sense.
        """
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(f"queue {name}")
        if self._file is None:
            return None
        data = _read(self._file)
        if not self._own:
            for key in data:
                if key != "queues":
                    (_Place(str(self._file)) / key).fail(f"unknown key{_hint(key, ['queues'])}")
        queues = parse_queues(data, str(self._file))
        self._log.debug("%s: %d queues", self._file, len(queues))
        return queues.get(name)


def _read(path: Path) -> dict[str, Any]:
    import tomli  # noqa: PLC0415  (only where it is used)

    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error


@hookimpl
def pilot_queue_sources() -> Iterator[Provider[QueueSource]]:
    """Offer `toml`."""
    yield Provider(name="toml", factory=TomlQueueSource, settings=TomlQueueSettings, priority=10)
