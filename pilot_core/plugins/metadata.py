"""Reading what installed distributions say of their plugins; nothing of theirs is imported."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from pilot_core.plugins.record import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import Distribution

    from pilot_core.plugins.places import Place

__all__ = ["GROUP_PREFIX", "Entry", "Found", "read_place"]

GROUP_PREFIX = "pilot_core.plugins.v"
"""The entry-point group's name before the plugin API's major version."""

_MENTIONS_US = re.compile(rb"pilot[._-]?core", re.IGNORECASE)
_LIKE_OURS = re.compile(r"pilot[._-]?core[._-]?plugin.*", re.IGNORECASE)


class Entry(NamedTuple):
    """One entry point."""

    group: str
    name: str
    value: str

    @property
    def api(self) -> int | None:
        """Major version of the plugin API, or None if the group's name makes no sense."""
        match = re.fullmatch(re.escape(GROUP_PREFIX) + "([1-9][0-9]*)", self.group)
        return int(match.group(1)) if match else None

    @property
    def module(self) -> str:
        """The module that it points into; empty if the value makes no sense."""
        match = re.fullmatch(r"([A-Za-z_][\w.]*)\s*(:\s*[A-Za-z_][\w.]*)?", self.value)
        return match.group(1) if match else ""


class Found(NamedTuple):
    """One distribution that offers plugins."""

    place: Place
    info: Path
    """Its `*.dist-info` or `*.egg-info` directory."""
    distribution: str
    version: str
    project: str
    """The directory of an editable installation's source; empty for any other."""
    entries: tuple[Entry, ...]
    fault: str = ""
    """Why its entry points cannot be read; empty if they can."""


def read_place(place: Place) -> Iterator[Found]:
    """Return the distributions in a directory that offer plugins, by the names of their metadata directories."""
    try:
        with os.scandir(place.directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info")))
    except OSError:
        return
    for name in names:
        try:
            with open(f"{place.directory}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123  (hundreds of them)
                text = file.read()
        except OSError:
            continue
        # most distributions have nothing to do with the pilot: do not parse theirs
        if _MENTIONS_US.search(text):
            found = _read(place, place.directory / name)
            if found.entries or found.fault:
                yield found


def _read(place: Place, info: Path) -> Found:
    """Read one distribution's metadata, as far as it can be read."""
    from importlib.metadata import Distribution  # noqa: PLC0415  (only where something was found)

    distribution = Distribution.at(info)
    name, version = _name_and_version(distribution, info)
    fault, entries = "", tuple[Entry, ...]()
    try:
        every = (Entry(point.group, point.name, point.value) for point in distribution.entry_points)
        entries = tuple(dict.fromkeys(entry for entry in every if _LIKE_OURS.fullmatch(entry.group)))
    except Exception as error:  # noqa: BLE001  (the parser's ways of meeting a damaged file are not documented)
        fault = f"{info / 'entry_points.txt'} cannot be read: {type(error).__name__}: {one_line(str(error))}"
    return Found(place, info, name, version, _project(distribution), entries, fault)


def _name_and_version(distribution: Distribution, info: Path) -> tuple[str, str]:
    """Return name and version; those of the directory's name where the metadata has none."""
    name, version, *_ = [*info.name.rpartition(".")[0].split("-"), ""]
    try:
        fields = cast("Mapping[str, str]", distribution.metadata)
        name, version = fields.get("Name", name), fields.get("Version", version)
    except Exception:  # noqa: BLE001  (missing or damaged METADATA; the kind of exception differs between Pythons)
        return one_line(name), one_line(version)
    return one_line(name), one_line(version)


def _project(distribution: Distribution) -> str:
    """Return the source directory of an editable installation (PEP 610), or an empty text."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        editable, url = origin.get("dir_info", {}).get("editable"), urlsplit(origin.get("url", ""))
    except (ValueError, AttributeError, OSError):
        return ""
    return unquote(url.path) if editable is True and url.scheme == "file" else ""
