"""PanDA's queuedata -> `Queue`.

The format is flat JSON in PanDA's cache (`<queue>.all.json`) and `{queue: {...}}` in CRIC's exports. Field names and
their uses are those of PanDA Pilot 3.11.5.1 (`info/queuedata.py`, `api/data.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilot_core import Queue, Storage
from pilot_queue_source_cric.storages import KNOWN_SCHEMES, read_storages
from pilot_queue_source_cric.values import Table

__all__ = ["entry_of", "parse_queue", "storages_used"]

COPYTOOLS: Mapping[str, tuple[str, ...]] = {
    "rucio": ("xrootd", "http"),
    "xrdcp": ("xrootd",),
    "gfal": ("http", "xrootd"),
    "gfalcopy": ("http", "xrootd"),
    "gfal-copy": ("http", "xrootd"),
    "gfal2": ("http", "xrootd"),
    "davix": ("http",),
    "mv": ("file",),
    "cp": ("file",),
    "s3": ("s3",),
    "objectstore": ("s3",),
}
"""Pilot 3's copy tools -> our stagers in order; others (`lsm`, `gs` ...) have none and stay in `Queue.extra`."""

OURS = ("read", "write", "log")
"""Our activities that have backends."""
SCHEMES: Mapping[str, tuple[str, ...]] = {"webdav": ("davs", "dav", "https", "http")}
"""What CRIC calls by another name than URLs do."""
STATES = ("online", "test", "brokeroff", "offline")
FLAT_KEYS = ("nickname", "panda_resource", "siteid", "astorages", "acopytools", "status", "state")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def entry_of(data: object, name: str, where: str) -> Table | None:
    """Return the one queue's entry of a document in either format, or None if it is not there."""
    if data is None:
        return None
    document = Table(Table.of(data, where).data, f"{where}: {name}")
    if isinstance(document.data.get(name), Mapping):
        return Table(document.data[name], document.place)
    flat = any(key in document.data and not isinstance(document.data[key], Mapping) for key in FLAT_KEYS)
    if not flat:
        return None
    names = {document.text(key) for key in ("nickname", "name", "panda_resource", "siteid")} - {""}
    return document if not names or name in names else None


def activities_of(entry: Table) -> dict[str, tuple[str, ...]]:
    """Return CRIC's names of our activities, in the order in which they are looked up.

    Analysis queues have their own, looked up first; a `unified` queue's are those of production, because a queue
    source does not know the job. The short names `pr`, `pw` and `w` are those of older exports.
    """
    analysis = entry.text("type") == "analysis"
    read = ("read_lan_analysis",) * analysis + ("read_lan", "pr")
    write = ("write_lan_analysis",) * analysis + ("write_lan", "pw", "w")
    return {
        "read": read,
        "read_wan": ("read_wan",),
        "write": write,
        "write_wan": ("write_wan",),
        "log": ("pl", *write),
    }


def storages_used(entry: Table) -> dict[str, tuple[str, ...]]:
    """Return the RSEs of the queue by our activity: those of the first of CRIC's activities that has any."""
    astorages = entry.table("astorages")
    return {
        ours: next((found for name in theirs if (found := astorages.names(name))), ())
        for ours, theirs in activities_of(entry).items()
    }


def parse_queue(
    entry: Table,
    name: str,
    endpoints: Table | None,
    *,
    transformation_urls: tuple[str, ...] = (),
    catalog: str = "",
) -> Queue:
    """Return the queue; raises `ConfigError`, with the place, for what cannot be understood.

    Everything that the entry says is kept in `extra`, but for inline `ddmendpoints`.
    """
    used = storages_used(entry)
    storages: Mapping[str, Storage] = {}
    if endpoints is not None:
        wanted = dict.fromkeys(rse for names in used.values() for rse in names)
        written = {*used["write"], *used["write_wan"], *used["log"]}
        storages = read_storages(endpoints, wanted, written)
    return Queue(
        name=name,
        site=entry.text("atlas_site") or entry.text("gstat"),
        status=_status(entry),
        storages=storages,
        read=used["read"],
        read_wan=used["read_wan"],
        write=used["write"],
        write_wan=used["write_wan"],
        log=used["log"],
        stagers=_stagers(entry),
        schemes=_schemes(entry),
        catalog=catalog,
        allow_lan=entry.flag("allow_lan", True),
        allow_wan=entry.flag("allow_wan", False),
        direct_access_lan=entry.flag("direct_access_lan", False),
        direct_access_wan=entry.flag("direct_access_wan", False),
        alt_stageout=_alt_stageout(entry.table("params")),
        environment=_environment(entry),
        transformation_urls=transformation_urls,
        max_memory_mb=entry.whole("maxrss"),
        max_disk_mb=entry.whole("maxwdir"),
        source=entry.place,
        extra={key: value for key, value in entry.data.items() if key != "ddmendpoints"},
    )


def _status(entry: Table) -> str:
    """Return our status: whatever is not active, or has a status that we do not know, is offline."""
    if entry.text("state", "ACTIVE").upper() != "ACTIVE":
        return "offline"
    status = entry.text("status", "online").lower()
    return status if status in STATES else "offline"


def _stagers(entry: Table) -> dict[str, tuple[str, ...]]:
    """Return the order of stagers by activity; an activity whose tools we do not know has none of its own."""
    tools = entry.table("acopytools")
    general: Any = tools.names("default") or tuple(entry.table("copytools").data)
    found = {}
    for ours in OURS:
        named = _tools(entry, ours) or general
        order = tuple(dict.fromkeys(stager for tool in named for stager in COPYTOOLS.get(tool, ())))
        if order:
            found[ours] = order
    return found


def _tools(entry: Table, ours: str) -> tuple[str, ...]:
    """Return the copy tools of one of our activities: those of the first of CRIC's that has any."""
    tools = entry.table("acopytools")
    return next((names for key in activities_of(entry)[ours] if (names := tools.names(key))), ())


def _schemes(entry: Table) -> dict[str, tuple[str, ...]]:
    """Return the URL schemes that are allowed by activity (`acopytools_schemas`), where there are stagers for them.

    What stands for an activity is a list, or a list for each copy tool.
    """
    all_of_them = entry.table("acopytools_schemas")
    found = {}
    for ours in OURS:
        key = next((each for each in (*activities_of(entry)[ours], "default") if all_of_them.data.get(each)), "")
        if not key:
            continue
        if isinstance(all_of_them.data[key], Mapping):
            by_tool = all_of_them.table(key)
            tools = [tool for tool in _tools(entry, ours) if by_tool.data.get(tool)] or ["default"]
            names = [name for tool in tools for name in by_tool.names(tool)]
        else:
            names = list(all_of_them.names(key))
        schemes = [scheme for name in names for scheme in SCHEMES.get(name, (name,)) if scheme in KNOWN_SCHEMES]
        if schemes:
            found[ours] = tuple(dict.fromkeys(schemes))
    return found


def _alt_stageout(params: Table) -> str:
    """Return whether outputs may go to another storage than theirs: the queue's word counts more than the job's."""
    if params.data.get("allow_altstageout") is None:
        return "job"
    return "on" if params.flag("allow_altstageout", False) else "off"


def _environment(entry: Table) -> dict[str, str]:
    """Return the variables of `environ`: `A=b,C=d`; nothing is expanded."""
    variables = {}
    for piece in entry.text("environ").split(","):
        # CRIC's exports have the text None where nothing is set
        if piece.strip() in {"", "None"}:
            continue
        name, equals, value = piece.strip().removeprefix("export ").partition("=")
        if not equals or not _VARIABLE.fullmatch(name.strip()) or "\0" in value:
            entry.fail("environ", f"{piece.strip()!r} is not NAME=value")
        variables[name.strip()] = value.strip().strip("'\"")
    return variables
