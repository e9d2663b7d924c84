"""Storages (RSEs) as Rucio describes them, and where a file goes on one that no queue file describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pilot_catalog_rucio.lookup import canonical, portions, possible
from pilot_catalog_rucio.rest import Call
from pilot_core import CommunicationError, OutputFile, Replica, RequestRefused

if TYPE_CHECKING:
    from pilot_catalog_rucio.rest import Session
    from pilot_catalog_rucio.settings import Settings

__all__ = ["StorageInfo", "destinations", "storage"]

TOGETHER = 20
"""Files of one request: their names are in its URL."""


@dataclass(frozen=True, kw_only=True)
class StorageInfo:
    """What Rucio says of a storage."""

    rse: str
    deterministic: bool
    """A file's place follows from its name."""
    writable: bool
    protocols: Sequence[Mapping[str, Any]]

    def doors(self, domain: str, schemes: Sequence[str]) -> list[tuple[str, str]]:
        """Return scheme and prefix's URL of the protocols that write from `lan` or `wan`, the preferred one first.

        A priority is 1 for the best; without one the protocol does not serve (`core/rse.py`, `RSEProtocol`).
        """
        found = []
        for protocol in self.protocols:
            scheme, priority = str(protocol["scheme"]), protocol["domains"].get(domain, {}).get("write")
            if priority and (not schemes or scheme in schemes):
                found.append((int(priority), scheme, _prefix(protocol)))
        return [(scheme, prefix) for _, scheme, prefix in sorted(found, key=lambda each: each[0])]


def _prefix(protocol: Mapping[str, Any]) -> str:
    port = f":{protocol['port']}" if protocol.get("port") else ""
    prefix = str(protocol.get("prefix") or "").rstrip("/")
    slash = "" if prefix.startswith("/") else "/"
    return canonical(f"{protocol['scheme']}://{protocol['hostname']}{port}{slash}{prefix}").rstrip("/")


def storage(session: Session, rse: str) -> StorageInfo:
    """Ask Rucio what a storage is; raises `RequestRefused` for one that it does not know."""
    told = session.one(Call(method="GET", path=f"rses/{quote(rse, safe='')}", what=f"storage {rse}"))
    try:
        return StorageInfo(
            rse=rse,
            deterministic=bool(told["deterministic"]),
            writable=bool(told.get("availability_write", True)) and not told.get("volatile"),
            protocols=tuple(told["protocols"]),
        )
    except (KeyError, TypeError):
        raise CommunicationError(f"storage {rse}: Rucio's answer is not as expected; is it a newer Rucio?") from None


def destinations(
    session: Session, settings: Settings, site: str, rse: str, files: Sequence[OutputFile]
) -> Mapping[str, Sequence[Replica]]:
    """Return where each file is to be written, by LFN: by the LAN's doors first, where the storage is at the site."""
    if not files:
        return {}
    for file in files:
        if not possible(file.scope, file.lfn):
            raise RequestRefused(f"scope {file.scope!r:.80}, name {file.lfn!r:.200}: Rucio can have no such file")
    known = storage(session, rse)
    if not known.writable:
        raise RequestRefused(f"storage {rse} takes no files now, says Rucio")
    if not known.deterministic:
        raise RequestRefused(f"storage {rse} has no rule where files go; describe it in the queue's configuration")
    near = bool(site) and _site_of(session, rse) == site
    doors = [
        (domain, scheme, prefix)
        for domain in (("lan", "wan") if near else ("wan",))
        for scheme, prefix in known.doors(domain, settings.schemes)
    ]
    if not doors:
        schemes = ", ".join(settings.schemes) or "any scheme"
        raise RequestRefused(f"storage {rse} has no protocol to write with from here ({schemes})")
    places: dict[str, list[Replica]] = {file.lfn: [] for file in files}
    for domain, scheme, prefix in doors:
        for lfn, pfn in _pfns(session, rse, files, domain, scheme).items():
            url = canonical(pfn)
            if all(each.url != url for each in places[lfn]):
                root = prefix if url.startswith(f"{prefix}/") else ""
                places[lfn].append(Replica(url=url, rse=rse, order=len(places[lfn]), domain=domain, root=root))
    return places


def _site_of(session: Session, rse: str) -> str:
    path, what = f"rses/{quote(rse, safe='')}/attr/", f"attributes of storage {rse}"
    told = session.one(Call(method="GET", path=path, what=what))
    return str(told.get("site", ""))


def _pfns(session: Session, rse: str, files: Sequence[OutputFile], domain: str, scheme: str) -> Mapping[str, str]:
    """Return what Rucio calls each file there, by LFN: whatever rule the storage has, Rucio follows it."""
    found: dict[str, str] = {}
    for some in portions(files, TOGETHER):
        by_did = {f"{file.scope}:{file.lfn}": file.lfn for file in some}
        query = (("operation", "write"), ("domain", domain), ("scheme", scheme), *(("lfn", did) for did in by_did))
        path, what = f"rses/{quote(rse, safe='')}/lfns2pfns", f"places for outputs on {rse}"
        told = session.one(Call(method="GET", path=path, what=what, query=query))
        if set(told) != set(by_did):
            raise CommunicationError(f"{what}: Rucio's answer is not for the files that were asked for")
        found |= {by_did[did]: str(pfn) for did, pfn in told.items()}
    return found
