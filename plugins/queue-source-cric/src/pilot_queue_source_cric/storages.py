"""CRIC's `ddmendpoints.json` -> `Storage`.

Field names are those that PanDA Pilot 3.11.5.1 reads (`info/storagedata.py`); a file's URL is `endpoint + path`, then
the deterministic path, as in its `api/data.py`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pilot_core import Storage, StorageProtocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from pilot_queue_source_cric.values import Table

__all__ = ["KNOWN_SCHEMES", "read_storages"]

ACTIVITIES = {"read_lan": "r", "read_wan": "r", "write_lan": "w", "write_wan": "w", "delete": "d"}
"""CRIC's activities of protocols, with their older names."""
KNOWN_SCHEMES = frozenset(
    {"file", "root", "roots", "xroot", "xroots", "http", "https", "dav", "davs", "s3", "s3s", "s3+http", "s3+https"}
)
"""Schemes that stagers exist for; others (srm, gsiftp) are taken only where there is nothing else."""


def read_storages(endpoints: Table, wanted: Iterable[str], written: Collection[str]) -> dict[str, Storage]:
    """Return the wanted storages that are there, active and have a protocol.

    `written` are those that outputs go to. Raises `ConfigError` for an endpoint that cannot be understood.
    """
    found = {}
    for rse in wanted:
        if endpoints.data.get(rse) is None:
            continue
        endpoint = endpoints.table(rse)
        url = _url(endpoint, writes=rse in written)
        if url and endpoint.text("state", "ACTIVE").upper() == "ACTIVE":
            layout = "rucio" if endpoint.flag("is_deterministic", True) else "flat"
            found[rse] = Storage(rse=rse, url=url, layout=layout, protocols=_protocols(endpoint))
    return found


def _url(endpoint: Table, *, writes: bool) -> str:
    """Return the URL prefix for what no protocol is for, or an empty string.

    The first that serves what the storage is used for both ways, else the first for writing where outputs go there,
    else the first for reading; LAN before WAN.
    """
    protocols = endpoint.table("arprotocols")
    reading = _prefixes(protocols, "read_lan", "read_wan", "r")
    writing = _prefixes(protocols, "write_lan", "write_wan", "w")
    both = [url for url in writing if url in reading]
    choices = [*both, *writing, *reading] if writes else [*reading, *writing]
    known = [url for url in choices if urlsplit(url).scheme in KNOWN_SCHEMES]
    return next(iter([*known, *choices]), "")


def _protocols(endpoint: Table) -> tuple[StorageProtocol, ...]:
    """Return the protocols of a storage, for each activity in its own order.

    Those that no stager exists for are left out where an activity has others.
    """
    table = endpoint.table("arprotocols")
    wanted: dict[str, list[str]] = {}
    for activity, older in ACTIVITIES.items():
        urls = _prefixes(table, activity) or _prefixes(table, older)
        known = [url for url in urls if urlsplit(url).scheme in KNOWN_SCHEMES]
        wanted[activity] = list(dict.fromkeys(known or urls))
    urls = list(dict.fromkeys(url for found in wanted.values() for url in found))
    if all(found == [url for url in urls if url in found] for found in wanted.values()):
        return tuple(
            StorageProtocol(url=url, activities=tuple(name for name, found in wanted.items() if url in found))
            for url in urls
        )
    # no order of all is that of each
    return tuple(StorageProtocol(url=url, activities=(name,)) for name, found in wanted.items() for url in found)


def _prefixes(protocols: Table, *activities: str) -> list[str]:
    """Return the URL prefixes of the first of these activities, then of the next."""
    return [_prefix(entry) for activity in activities for entry in protocols.tables(activity)]


def _prefix(entry: Table) -> str:
    """Return a protocol's `endpoint` and `path` as one URL without trailing slashes."""
    start, path = entry.text("endpoint"), entry.text("path")
    if start.startswith("/"):
        start = f"file://{start}"
    if not re.match(r"[a-z][a-z0-9+.-]*://", start):
        entry.fail("endpoint", f"{start!r} is not a URL")
    if not start.endswith("/") and not path.startswith("/") and path:
        path = f"/{path}"
    url = (start + path).rstrip("/")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        entry.fail("endpoint", f"{url!r} is not a URL: {error}")
    if any(char.isspace() or not char.isprintable() for char in url) or parts.query or parts.fragment:
        entry.fail("path", f"{url!r} is not a URL prefix")
    if parts.scheme == "file":
        return _file_url(entry, url, parts.netloc, parts.path)
    if not parts.netloc:
        entry.fail("endpoint", f"{url!r} names no host")
    return url


def _file_url(entry: Table, url: str, host: str, path: str) -> str:
    """Return the URL of a local directory in its shortest form."""
    if host not in {"", "localhost"} or not path.startswith("/") or ".." in path.split("/"):
        entry.fail("endpoint", f"{url!r} is not an absolute file URL")
    return f"file:///{posixpath.normpath(path).lstrip('/')}"
