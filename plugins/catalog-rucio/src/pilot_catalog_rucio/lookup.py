"""Replicas: what is asked of `POST /replicas/list`, and what its answer says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pilot_catalog_rucio.answers import json_lines
from pilot_catalog_rucio.rest import STREAM, Call
from pilot_core import CommunicationError, InputFile, Replica

if TYPE_CHECKING:
    from pilot_catalog_rucio.rest import Session
    from pilot_catalog_rucio.settings import Settings
    from pilot_core.api.web import WebAnswer

__all__ = ["BULK", "canonical", "look_up", "portions", "possible"]

BULK = 500
"""Files of one request; Rucio's schema allows a thousand."""
LONGEST = 500
"""Characters of a name. Rucio's databases have room for 250, ATLAS's for 500."""
_WORD = re.compile(r"\w")
_LEGAL = "%/?#:@[]!$&'()*+,;=-._~"
"""Characters of a URL (RFC 3986) beside letters and digits; Rucio puts a file's name into it as it is."""
_PORTLESS = re.compile(r"(?<=://)([^/?#]*):0(?=/)")


def possible(scope: str, name: str) -> bool:
    """Say whether Rucio may know such a file; it refuses a whole request for one name that cannot be (`R_DIDS`)."""
    text = scope + name
    if not (_WORD.search(scope) and _WORD.search(name) and len(name) <= LONGEST):
        return False
    return text.isprintable() and text.encode(errors="replace").decode() == text


def portions(items: Sequence[Any], size: int = BULK) -> Iterator[Sequence[Any]]:
    """Yield items, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def canonical(pfn: str) -> str:
    """Return Rucio's physical name of a file as a URL: percent-encoded, without a port 0, without the host of a file.

    Rucio writes `file://localhost/path`, and `:0` where a protocol has no port (`rse/protocols/protocol.py`).
    """
    url = _PORTLESS.sub(r"\1", quote(pfn, safe=_LEGAL))
    return f"file://{url[16:]}" if url.startswith("file://localhost/") else url


def look_up(
    session: Session, settings: Settings, site: str, files: Sequence[InputFile]
) -> Mapping[str, Sequence[Replica]]:
    """Return the replicas of the files that Rucio knows, by LFN."""
    wanted = {(file.scope, file.lfn) for file in files if possible(file.scope, file.lfn)}
    found: dict[str, Sequence[Replica]] = {}
    for some in portions(sorted(wanted)):
        what = f"replicas of {len(some)} files" if len(some) > 1 else f"replicas of {some[0][0]}:{some[0][1]:.80}"
        call = Call(method="POST", path="replicas/list", what=what, body=_question(some, settings, site), accept=STREAM)
        found |= session.ask(call, partial(_found, wanted=wanted, settings=settings, what=what))
    return found


def _question(files: Iterable[tuple[str, str]], settings: Settings, site: str) -> Mapping[str, Any]:
    """Return what is asked; given no domain, Rucio names the LAN's door of storages at the site, others' WAN door."""
    asked: dict[str, Any] = {"dids": [{"scope": scope, "name": name} for scope, name in files]}
    if settings.schemes:
        asked["schemes"] = list(settings.schemes)
    if settings.sort:
        asked["sort"] = settings.sort
    if site:
        asked["client_location"] = {"site": site}
    return asked


def _found(
    answer: WebAnswer, wanted: set[tuple[str, str]], settings: Settings, what: str
) -> dict[str, Sequence[Replica]]:
    """Return what an answer says of the wanted files. A dataset is answered with its files: they are not wanted."""
    rows = json_lines(answer, what)
    try:
        return {row["name"]: _replicas(row["pfns"], settings) for row in rows if (row["scope"], row["name"]) in wanted}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise CommunicationError(f"{what}: Rucio's answer is not as expected; is it a newer Rucio?") from None


def _replicas(pfns: Mapping[str, Mapping[str, Any]], settings: Settings) -> tuple[Replica, ...]:
    """Return one file's replicas: near ones first, then as Rucio orders them.

    `client_extract`: the file lies in an archive that the client would have to unpack.
    """
    usable = [
        (told["domain"] != "lan", int(told["priority"]), pfn, told)
        for pfn, told in pfns.items()
        if not told.get("client_extract") and (settings.tape or told.get("type") != "TAPE")
    ]
    return tuple(
        Replica(
            url=canonical(pfn),
            rse=str(told["rse"]),
            order=order,
            domain=told["domain"] if told["domain"] in {"lan", "wan"} else "",
        )
        for order, (_, _, pfn, told) in enumerate(sorted(usable, key=lambda each: each[:3]))
    )
