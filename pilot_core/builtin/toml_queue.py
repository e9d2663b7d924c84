"""Queue source `toml`: queues from `[queues.NAME]` tables of the pilot's own configuration file, or of another one.

Every mistake is a `ConfigError` that names the file and the key's path; nothing is guessed or passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core import ConfigError, Provider, Queue, QueueSource, Storage, StorageProtocol, hookimpl, setting
from pilot_core.api.queue import STORAGE_ACTIVITIES
from pilot_core.builtin.toml_values import (
    Place,
    hint,
    read_base_url,
    read_choice,
    read_environment,
    read_fields,
    read_flag,
    read_list,
    read_matching,
    read_seconds,
    read_storage_url,
    read_table,
    read_tables,
    read_text,
    read_whole,
)

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline

__all__ = ["TomlQueueSettings", "TomlQueueSource", "parse_queues", "pilot_queue_sources"]

ACTIVITIES = ("read", "write", "log")
PLACES = ("read", "read_wan", "write", "write_wan", "log")
LAYOUTS = ("flat", "rucio")
ALTERNATIVES = ("job", "on", "off")
STATES = ("online", "test", "brokeroff", "offline")

_NAME = re.compile(r"[A-Za-z0-9][^\s/\x00-\x1f\x7f]*")
_PROVIDER = re.compile(r"[a-z][a-z0-9-]*")
_CATALOG = re.compile(r"([a-z][a-z0-9-]*)?")
_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

_rse = partial(read_matching, _NAME, "the name of an RSE")
_provider = partial(read_matching, _PROVIDER, "a plugin's name (lower-case letters, digits and dashes)")
_scheme = partial(read_matching, _SCHEME, "a URL's scheme (like root or davs)")


def _by_activity(read: Callable[[object, Place], str], value: object, place: Place) -> dict[str, tuple[str, ...]]:
    """Return a list of names for each activity that has one."""
    return dict(read_fields(value, place, dict.fromkeys(ACTIVITIES, partial(read_list, read))))


# -- tables ------------------------------------------------------------------------------------------------------------

_PROTOCOL: Mapping[str, Callable[[object, Place], Any]] = {
    "url": read_storage_url,
    "activities": partial(read_list, partial(read_choice, STORAGE_ACTIVITIES)),
}


def _protocol(value: object, place: Place) -> StorageProtocol:
    fields = read_fields(value, place, _PROTOCOL)
    if "url" not in fields:
        place.fail("the key 'url' is missing")
    return StorageProtocol(**fields)


_STORAGE: Mapping[str, Callable[[object, Place], Any]] = {
    "url": read_storage_url,
    "layout": partial(read_choice, LAYOUTS),
    "stagers": partial(read_list, _provider),
    "protocols": partial(read_tables, _protocol),
    "made": read_flag,
}


def _storages(value: object, place: Place) -> dict[str, Storage]:
    storages = {}
    for rse, entry in read_table(value, place).items():
        _rse(rse, place / rse)
        fields = read_fields(entry, place / rse, _STORAGE)
        if "url" not in fields:
            if not fields.get("protocols"):
                (place / rse).fail("the key 'url' is missing")
            fields["url"] = fields["protocols"][0].url
        storages[rse] = Storage(rse=rse, **fields)
    return storages


def _watchdogs(value: object, place: Place) -> dict[str, dict[str, Any]]:
    """Read the tables of watchdogs: their own settings are read by who makes them."""
    watchdogs = {}
    for name, entry in read_table(value, place).items():
        _provider(name, place / name)
        watchdogs[name] = dict(read_table(entry, place / name))
        if "enabled" in watchdogs[name]:
            read_flag(watchdogs[name]["enabled"], place / name / "enabled")
    return watchdogs


_QUEUE: Mapping[str, Callable[[object, Place], Any]] = {
    "site": read_text,
    "status": partial(read_choice, STATES),
    "storages": _storages,
    **dict.fromkeys(PLACES, partial(read_list, _rse)),
    "stagers": partial(_by_activity, _provider),
    "schemes": partial(_by_activity, _scheme),
    "catalog": partial(read_matching, _CATALOG, "a catalogue's name (lower-case letters, digits and dashes)"),
    "register_outputs": read_flag,
    "allow_lan": read_flag,
    "allow_wan": read_flag,
    "direct_access_lan": read_flag,
    "direct_access_wan": read_flag,
    "alt_stageout": partial(read_choice, ALTERNATIVES),
    "executor": _provider,
    "heartbeat_seconds": partial(read_seconds, above=True),
    "shell": read_flag,
    "environment": read_environment,
    "pass_environment": partial(
        read_list, partial(read_matching, _PATTERN, "a variable's name, or a prefix of one that ends in '*'")
    ),
    "transformation_urls": partial(read_list, read_base_url),
    "allow_http": read_flag,
    "max_memory_mb": read_whole,
    "max_disk_mb": read_whole,
    "kill_grace_seconds": read_seconds,
    "watchdogs": _watchdogs,
}


def _queue(name: str, value: object, place: Place) -> Queue:
    """Read one queue and check what its keys say of each other."""
    read_matching(_NAME, "the name of a queue", name, place)
    fields = read_fields(value, place, _QUEUE)
    if not fields.get("catalog"):
        _check_places(fields, place)
    if not fields.get("allow_http", False):
        for number, url in enumerate(fields.get("transformation_urls", ())):
            if not url.startswith("https:"):
                (place / "transformation_urls" / number).fail(f"{url!r} is not https; allow_http = true permits it")
    return Queue(name=name, source=f"{place.where}: {'.'.join(place.keys)}", **fields)


def _check_places(fields: Mapping[str, Any], place: Place) -> None:
    """Check that a queue without a catalogue describes every storage that it names, and asks for none of its work."""
    storages = fields.get("storages", {})
    for key in PLACES:
        for number, rse in enumerate(fields.get(key, ())):
            if rse not in storages:
                table = ".".join((place / "storages" / rse).keys)
                (place / key / number).fail(f"no storage {rse!r}{hint(rse, storages)}: add [{table}]")
    if fields.get("register_outputs"):
        (place / "register_outputs").fail("needs a catalogue: name it by the key 'catalog'")


def parse_queues(data: Mapping[str, Any], where: str) -> dict[str, Queue]:
    """Return the queues of the `queues` table of a parsed TOML document; other top-level keys are not looked at.

    `where` names the document in messages and in `Queue.source`. Raises `ConfigError`, naming file and key path, for
    unknown keys, wrong types, values that make no sense and RSEs without a storage.
    """
    place = Place(where) / "queues"
    return dict(_each_queue(data.get("queues", {}), place))


def _each_queue(value: object, place: Place) -> Iterator[tuple[str, Queue]]:
    for name, entry in read_table(value, place).items():
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
                    (Place(str(self._file)) / key).fail(f"unknown key{hint(key, ['queues'])}")
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
