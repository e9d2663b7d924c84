"""Where queues are read, and what their description means.

Asked for a queue, a source answers as things are now: the whole queue, None if it does not know it (another source
may), or an error in one line that names the place. A half queue would send jobs' files to nowhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pilot_core import ConfigError, Queue, Storage, StorageProtocol

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core import CancelToken, Context, Deadline

    from {{ cookiecutter.__module }}.settings import Settings

# YOUR CODE: what names your queues can have. The user types them: nothing else becomes part of a path or URL
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,199}")
TABLE = "queue-source.{{ cookiecutter.name }}"
"""Where a site sets it, for messages."""
STATES = ("online", "test", "brokeroff", "offline")


class {{ cookiecutter.__class }}:
    """The source. It keeps nothing between calls, so any number of threads may use it."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._directory = settings.directory
        self._log = context.log

    def queue(self, name: str, *, cancel: CancelToken, deadline: Deadline) -> Queue | None:
        """Return the queue as it is described now; raises `ConfigError` for a description that cannot be used."""
        cancel.raise_if_cancelled()
        deadline.raise_if_passed("asking for a queue")
        if not NAME.fullmatch(name):
            return None
        # YOUR CODE: ask your source of information, with `deadline.remaining()` as the time that it may take
        place = self._directory / f"{name}.json"
        text = self._read(place)
        return None if text is None else queue_of(name, text, str(place))

    def _read(self, place: Path) -> bytes | None:
        """Return the description, None if there is none."""
        try:
            return place.read_bytes()
        except FileNotFoundError:
            if not self._directory.is_dir():
                raise ConfigError(f"{TABLE}.directory: {self._directory} is no directory") from None
            return None
        except OSError as error:
            raise ConfigError(f"{place}: cannot be read: {error.strerror}") from None


def queue_of(name: str, text: bytes, place: str) -> Queue:
    """Translate a description: an object whose keys are the fields of `pilot_core.Queue`."""
    # YOUR CODE: your format
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: is no JSON: {error}") from None
    told = _table(data, place)
    values = {key: _value(key, told[key], f"{place}: {key}") for key in told}
    values["storages"] = {
        rse: _storage(rse, item, f"{place}: storages.{rse}") for rse, item in values.get("storages", {}).items()
    }
    used = {rse for activity in ("read", "write", "log") for rse in values.get(activity, ())}
    if missing := sorted(used - set(values["storages"])):
        raise ConfigError(f"{place}: storages: lacks {', '.join(missing)}, which read, write or log names")
    if values.get("status", STATES[0]) not in STATES:
        raise ConfigError(f"{place}: status: is none of {', '.join(STATES)}")
    return Queue(name=name, source=place, **values)


ACTIVITIES = {"read_lan", "read_wan", "write_lan", "write_wan", "delete"}
DEFAULTS = {item.name: getattr(Queue(name=""), item.name) for item in fields(Queue)}
FROM_HERE = {"name", "source", "extra"}


def _value(key: str, value: Any, place: str) -> Any:
    """Return the value of a field; what it has to be is seen from the field's default."""
    default = DEFAULTS.get(key)
    if key not in DEFAULTS or key in FROM_HERE:
        raise ConfigError(f"{place}: is no field of a queue")
    if isinstance(default, tuple):
        return _texts(value, place)
    if isinstance(default, dict):
        table = _table(value, place)
        if key == "environment":
            return {name: _text(item, f"{place}.{name}") for name, item in table.items()}
        if key in {"stagers", "schemes"}:
            return {name: _texts(item, f"{place}.{name}") for name, item in table.items()}
        return table
    allowed = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, allowed) or isinstance(value, bool) != isinstance(default, bool):
        raise ConfigError(f"{place}: is no {type(default).__name__}")
    if isinstance(value, (int, float)) and not 0 <= value < 10**12:
        raise ConfigError(f"{place}: is below 0, or too large")
    return value


def _storage(rse: str, value: Any, place: str) -> Storage:
    """Return one storage."""
    told = _table(value, place)
    url, layout = _text(told.get("url"), f"{place}.url"), _text(told.get("layout", "flat"), f"{place}.layout")
    if not re.match(r"[a-z][a-z0-9+.-]*:", url) or not url.isprintable():
        raise ConfigError(f"{place}.url: is no URL")
    if layout not in {"flat", "rucio"}:
        raise ConfigError(f"{place}.layout: is neither flat nor rucio")
    stagers = _texts(told.get("stagers", []), f"{place}.stagers")
    protocols = told.get("protocols", [])
    if not isinstance(protocols, list):
        raise ConfigError(f"{place}.protocols: is no JSON array")
    return Storage(
        rse=rse,
        url=url.rstrip("/"),
        layout=layout,
        stagers=stagers,
        protocols=tuple(_protocol(item, f"{place}.protocols[{number}]") for number, item in enumerate(protocols)),
    )


def _protocol(value: Any, place: str) -> StorageProtocol:
    """Return one of the ways to reach a storage."""
    told = _table(value, place)
    url = _text(told.get("url"), f"{place}.url")
    if not re.match(r"[a-z][a-z0-9+.-]*:", url) or not url.isprintable():
        raise ConfigError(f"{place}.url: is no URL")
    activities = _texts(told.get("activities", []), f"{place}.activities")
    if not set(activities) <= ACTIVITIES:
        raise ConfigError(f"{place}.activities: are not of {', '.join(sorted(ACTIVITIES))}")
    return StorageProtocol(url=url.rstrip("/"), activities=activities)


def _table(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: is no JSON object")
    return value


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(f"{place}: is no text")
    return value


def _texts(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{place}: is no list of texts")
    return tuple(_text(item, place) for item in value)
