"""Finding every plugin by its metadata and saying what state it is in; no plugin's code is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pilot_core._version import __version__
from pilot_core.api.provider import KINDS
from pilot_core.plugins.metadata import GROUP_PREFIX, Entry, Found, read_place
from pilot_core.plugins.places import code_trail, ignored_directories, search_places
from pilot_core.plugins.record import Record, Status, canonical, one_line
from pilot_core.plugins.trust import Trust

if TYPE_CHECKING:
    from pilot_core.plugins.places import Place
    from pilot_core.plugins.settings import PluginSettings

__all__ = ["API", "Discovery", "block_hint", "discover", "ignored_plugins"]

API = 1
"""The major version of the plugin API that this core speaks."""


class Discovery(NamedTuple):
    """What was found."""

    records: tuple[Record, ...]
    """Every plugin, sorted by entry point, distribution, API."""
    notes: tuple[str, ...] = ()
    """What belongs to no single plugin and the user should know, one line each."""


def discover(settings: PluginSettings) -> Discovery:
    """Find every plugin. Raises `ConfigError` for settings that make no sense."""
    preferred = settings.preferred()
    places = search_places(settings.paths)
    found, notes = _distributions(places)
    judge = _Judge(settings, places, Trust.here())
    records = [judge.judge(record, entry, item) for item in found for entry, record in _records(item)]
    records = _settle_clashes(sorted(records, key=Record.order), preferred)
    return Discovery(tuple(records), (*notes, *_unused_names(settings, records)))


def ignored_plugins(settings: PluginSettings) -> list[str]:
    """Return a line for each distribution with plugins that lies where plugins are not looked for."""
    from pilot_core.plugins.places import Place  # noqa: PLC0415

    places = search_places(settings.paths)
    searched = {canonical(item.distribution) for item in _distributions(places)[0]}
    lines = []
    for directory in ignored_directories(places):
        for item in read_place(Place(directory)):
            if canonical(item.distribution) not in searched:
                names = ", ".join(one_line(entry.name) for entry in item.entries)
                lines.append(
                    f"{item.distribution} {item.version} ({names}) in {directory} is ignored: the working directory, "
                    f"PYTHONPATH and the user site are not searched; if you trust it, name {directory} in "
                    "[plugins] paths"
                )
    return lines


def block_hint(entry_point: str) -> str:
    """Return how to keep a plugin out."""
    return f'block it: [plugins] block = ["{entry_point}"]'


def _distributions(places: Iterable[Place]) -> tuple[list[Found], list[str]]:
    """Return each distribution once, from the first place that has it, and notes about what is odd."""
    seen: dict[str, Found] = {}
    notes = []
    for place in places:
        for item in read_place(place):
            name = canonical(item.distribution)
            if place.core_only and name != "pilot-core":
                continue
            first = seen.setdefault(name, item)
            if first is not item and first.place == place and first.version != item.version:
                notes.append(
                    f"{place.directory} holds {name} {first.version} and {item.version}; the first is listed; "
                    "install it again"
                )
    core = seen.get("pilot-core")
    if core is None:
        notes.append("pilot-core itself is not installed for this Python, so its own plugins are missing; install it")
    elif core.version != __version__:
        notes.append(
            f"the running pilot-core is {__version__}, the metadata of {core.version} is installed; install it again"
        )
    return list(seen.values()), notes


def _records(item: Found) -> Iterable[tuple[Entry, Record]]:
    """Return a record for every entry point of a distribution, not judged yet."""
    where = item.project or ("site-packages" if item.place.site else str(item.place.directory))
    entries = item.entries if not item.fault else (Entry(f"{GROUP_PREFIX}{API}", "?", "?"),)
    for entry in entries:
        yield (
            entry,
            Record(
                entry_point=one_line(entry.name),
                value=one_line(entry.value),
                api=entry.api,
                distribution=item.distribution,
                version=item.version,
                where=where,
                directory=str(item.place.directory),
            ),
        )


class _Judge(NamedTuple):
    """Says what state each plugin is in, clashes aside."""

    settings: PluginSettings
    places: Sequence[Place]
    trust: Trust

    def judge(self, record: Record, entry: Entry, item: Found) -> Record:
        """Return the record with its state. What the site blocks is not looked at further."""
        blocked = self._blocked(record)
        if blocked:
            return _with(record, Status.BLOCKED, *blocked)
        if item.fault:
            return _with(record, Status.ERROR, item.fault, f"install {record.distribution} again")
        if record.api is not None and record.api != API:
            return _with(
                record,
                Status.INCOMPATIBLE,
                f"made for plugin API v{record.api}; pilot-core {__version__} speaks v{API}",
                f"install a version of {record.distribution} for plugin API v{API}",
            )
        misnamed = _misnamed(entry)
        if misnamed:
            return _with(record, Status.ERROR, misnamed, f"tell the authors of {record.distribution}")
        unsafe = self._unsafe(entry, item)
        return replace(_with(record, Status.ERROR, *unsafe), safe=False) if unsafe else record

    def _blocked(self, record: Record) -> tuple[str, str] | None:
        """Return why the site keeps a plugin out, and what to do to let it in; None if it does not."""
        names = {record.entry_point, canonical(record.distribution)}
        for text in self.settings.block:
            if {text, canonical(text)} & names:
                return f'blocked by [plugins] block = ["{text}"]', f'to use it, take "{text}" out of the list'
        if self.settings.only and not any({text, canonical(text)} & names for text in self.settings.only):
            return "not named in [plugins] only", f'to use it, add "{record.entry_point}" to the list'
        return None

    def _unsafe(self, entry: Entry, item: Found) -> tuple[str, str] | None:
        """Refuse a plugin whose metadata or code others may change, or whose code is not the distribution's own."""
        name = item.distribution
        if entry.module.split(".")[0] == "pilot_core" and canonical(name) == "pilot-core":
            return None  # it is running already
        trail = code_trail(entry.module, self.places)
        # the directories in which they lie by themselves too: in one like /tmp anybody can add a file
        folders = [item.place.directory, *(path.parent for path in trail[:1])]
        for path in (*folders, item.info, item.info / "entry_points.txt", *trail):
            fault = self.trust.objection(path)
            if fault:
                remedy = (
                    "have it belong to root or to you (chown), writable by nobody else (chmod go-w), "
                    f"or install {name} where that is so"
                )
                return f"not safe to import: {fault}", remedy
        roots = [str(place.directory) for place in self.places if not place.core_only]
        if trail and not self._inside(trail[0], [*roots, item.project] if item.project else roots):
            reason = f"its module {entry.module} would be imported from {trail[0]}, where plugins are not looked for"
            return reason, f"install {name} again, or if you trust that place, name it in [plugins] paths"
        return None

    def _inside(self, path: Path, roots: Sequence[str]) -> bool:
        """Say whether a path lies in one of the directories, links resolved."""
        real = self.trust.real(str(path))
        return any(real.startswith(self.trust.real(root).rstrip(os.sep) + os.sep) for root in roots)


def _with(record: Record, status: Status, reason: str, next_step: str) -> Record:
    return replace(record, status=status, reason=reason, next_step=next_step)


def _misnamed(entry: Entry) -> str:
    """Return what is wrong with an entry point as it is written; empty if nothing is."""
    from pilot_core.settings import did_you_mean  # noqa: PLC0415

    if entry.api is None:
        return f"entry-point group {one_line(entry.group)!r} means nothing; did you mean '{GROUP_PREFIX}{API}'?"
    kind, dot, name = entry.name.partition(".")
    if not dot:
        return f"entry point {one_line(entry.name)!r} must be called <kind>.<name>; kinds: {', '.join(sorted(KINDS))}"
    if kind not in KINDS:
        return f"unknown kind {one_line(kind)!r}{did_you_mean(kind, KINDS)}"
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        return f"plugin name {one_line(name)!r}: use lower-case letters, digits and dashes, letter first"
    if not entry.module:
        return f"entry point {entry.name} = {one_line(entry.value)!r} is neither 'module' nor 'module:object'"
    return ""


def _settle_clashes(records: list[Record], preferred: dict[str, str]) -> list[Record]:
    """Where several distributions offer one name, let the site's choice win; without one nobody wins."""
    by_name: dict[str, list[Record]] = {}
    for record in records:
        if record.status is Status.FOUND:
            by_name.setdefault(record.entry_point, []).append(record)
    settled: dict[int, Record] = {}
    for entry_point, rivals in by_name.items():
        if len(rivals) > 1:
            for record in rivals:
                settled[id(record)] = _rival(record, rivals, preferred.get(entry_point, ""))
    return [settled.get(id(record), record) for record in records]


def _rival(record: Record, rivals: list[Record], wanted: str) -> Record:
    """Return one of several records of a name, as the site's choice leaves it."""
    winners = [rival for rival in rivals if canonical(rival.distribution) == canonical(wanted)]
    if len(winners) == 1:
        if record is winners[0]:
            return record
        reason = f"[plugins] prefer gives {record.entry_point} to {winners[0].owner}"
        return _with(record, Status.SHADOWED, reason, f"uninstall {record.distribution} if nobody needs it")
    others = [rival for rival in rivals if rival is not record]
    names = ", ".join(sorted({rival.owner for rival in others}))
    if canonical(record.distribution) in {canonical(rival.distribution) for rival in others}:
        reason = f"{record.distribution} offers {record.entry_point} more than once"
        return _with(record, Status.ERROR, reason, f"tell its authors, or {block_hint(record.entry_point)}")
    reason = f"{record.entry_point} is also offered by {names}"
    if wanted:
        reason += f"; [plugins] prefer names {wanted}, which is none of them"
    step = (
        f'say which one wins: [plugins] prefer = ["{record.entry_point}={record.distribution}"], or uninstall the other'
    )
    return _with(record, Status.ERROR, reason, step)


def _unused_names(settings: PluginSettings, records: Iterable[Record]) -> list[str]:
    """Return a note for every name in `only` and `block` that fits nothing: most likely a slip of the pen."""
    from pilot_core.settings import did_you_mean  # noqa: PLC0415

    known = {name for record in records for name in (record.entry_point, canonical(record.distribution))}
    return [
        f"[plugins] {key} names {text!r}, which no plugin and no distribution here is called{did_you_mean(text, known)}"
        for key, texts in (("only", settings.only), ("block", settings.block))
        for text in texts
        if not {text, canonical(text)} & known
    ]
