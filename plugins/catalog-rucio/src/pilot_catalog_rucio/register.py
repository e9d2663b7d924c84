"""Entering outputs: look what Rucio knows, add what is missing, look again until nothing is.

Rucio's `POST /replicas` does not say that a file is known with another size: it keeps the old one and is content. So
what is there is read, before and after; that also finds what an answer that was lost had done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pilot_catalog_rucio.answers import Refused, json_lines
from pilot_catalog_rucio.lookup import BULK, portions, possible
from pilot_catalog_rucio.rest import STREAM, Call
from pilot_catalog_rucio.storages import storage
from pilot_core import CommunicationError, FileReport, RequestRefused, deterministic_path
from pilot_core.api.checksums import parse

if TYPE_CHECKING:
    from pilot_catalog_rucio.rest import Session
    from pilot_core import Job

__all__ = ["register"]

ROUNDS = 5
"""Looks in all: others may enter the same files at the same time."""
KINDS = ("adler32", "md5")
"""Checksums that Rucio has a place for."""
_ALREADY = frozenset({"Duplicate", "DataIdentifierAlreadyExists", "FileAlreadyExists"})
"""Somebody was quicker."""
_NO_PROTOCOL = frozenset({"RSEProtocolNotSupported", "RSEProtocolDomainNotSupported"})
_HALF = frozenset({"COPYING", "UNAVAILABLE", "TEMPORARY_UNAVAILABLE"})
"""States of a replica that was announced and is here now."""


@dataclass(frozen=True)
class _Entry:
    """One output with what Rucio calls it."""

    scope: str
    dataset: str
    report: FileReport

    @property
    def did(self) -> dict[str, Any]:
        return {"scope": self.scope, "name": self.report.lfn}

    @property
    def name(self) -> str:
        return f"{self.scope}:{self.report.lfn}"


def register(session: Session, job: Job, files: Sequence[FileReport], *, attach: bool) -> None:
    """Enter a job's stored outputs, and put them into its datasets if `attach` says so.

    Raises `RequestRefused` for what contradicts what Rucio knows.
    """
    entries = _entries(job, files)
    for some in portions(entries):
        _enter(session, some)
    if attach:
        _attach(session, entries)


def _entries(job: Job, files: Sequence[FileReport]) -> Sequence[_Entry]:
    outputs = {file.lfn: file for file in job.files_out}
    entries = {}
    for report in files:
        output = outputs.get(report.lfn)
        if output is None:
            raise RequestRefused(f"{report.lfn!r:.200} is no output of job {job.id}: its scope is not known")
        if not possible(output.scope, report.lfn):
            raise RequestRefused(f"scope {output.scope!r:.80}, name {report.lfn!r:.200}: Rucio can have no such file")
        if not report.rse:
            raise RequestRefused(f"{output.scope}:{report.lfn} was stored on no storage (RSE) that Rucio may know")
        entries[output.scope, report.lfn, report.rse] = _Entry(output.scope, output.dataset, report)
    return tuple(entries.values())


def _enter(session: Session, entries: Sequence[_Entry]) -> None:
    """Enter files until Rucio knows all of them."""
    for _ in range(ROUNDS):
        missing, half = _missing(session, entries)
        if not missing and not half:
            return
        for rse, some in _by_rse(missing).items():
            try:
                _add(session, rse, some)
            except Refused as error:
                if error.kind not in _ALREADY:
                    raise
        for rse, some in _by_rse(half).items():
            rows = [{**each.did, "state": "A"} for each in some]
            what = f"outputs on {rse} are whole"
            session.tell(Call(method="PUT", path="replicas", what=what, body={"rse": rse, "files": rows}))
    names = ", ".join(entry.name for entry in missing[:3])
    raise CommunicationError(f"Rucio accepts {names} again and again, and does not know it then")


def _by_rse(entries: Sequence[_Entry]) -> Mapping[str, Sequence[_Entry]]:
    found: dict[str, list[_Entry]] = {}
    for entry in entries:
        found.setdefault(entry.report.rse, []).append(entry)
    return found


def _missing(session: Session, entries: Sequence[_Entry]) -> tuple[list[_Entry], list[_Entry]]:
    """Return what Rucio does not know of, and what it knows as announced only; raises `RequestRefused`."""
    dids = list({entry.name: entry.did for entry in entries}.values())
    what = f"what is known of {len(dids)} outputs"
    call = Call(
        method="POST",
        path="replicas/list",
        what=what,
        body={"dids": dids, "all_states": True, "ignore_availability": True, "resolve_archives": False},
        accept=STREAM,
    )
    rows = session.ask(call, lambda answer: list(json_lines(answer, what)))
    known = {(row.get("scope"), row.get("name")): row for row in rows}
    missing, half = [], []
    for entry in entries:
        row = known.get((entry.scope, entry.report.lfn))
        if row is not None:
            _compare(entry, row)
        state = (row.get("states") or {}).get(entry.report.rse) if row is not None else None
        if state is None:
            missing.append(entry)
        elif state in _HALF:
            half.append(entry)
    return missing, half


def _compare(entry: _Entry, row: Mapping[str, Any]) -> None:
    """Raise `RequestRefused` if Rucio knows another file of that name."""
    size, (kind, value) = row.get("bytes"), _checksum(entry)
    known = {name: str(row[name]).lower() for name in KINDS if row.get(name)}
    if size == entry.report.size and (not known or known.get(kind) == value):
        return
    other = " and ".join([f"{size} bytes", *(f"{name}:{of}" for name, of in known.items())])
    ours = f"{entry.report.size} bytes and {kind}:{value}"
    raise RequestRefused(f"{entry.name} is known to Rucio with {other}, and is kept so; this one has {ours}")


def _checksum(entry: _Entry) -> tuple[str, str]:
    """Return kind and value of a report's checksum; raises `RequestRefused` for one that Rucio has no place for."""
    try:
        checksum = parse(entry.report.checksum)
    except ValueError as error:
        raise RequestRefused(f"{entry.name}: {error}") from None
    if checksum.name not in KINDS:
        raise RequestRefused(f"{entry.name}: Rucio knows adler32 and md5 only, not {checksum.name}")
    return checksum.name, checksum.value


def _add(session: Session, rse: str, entries: Sequence[_Entry]) -> None:
    """Add files on one storage."""
    what = f"registering {len(entries)} outputs on {rse}"
    rows = [_row(entry) for entry in entries]
    call = Call(method="POST", path="replicas", what=what, body={"rse": rse, "files": rows})
    try:
        session.tell(call)
    except Refused as error:
        if error.kind not in _NO_PROTOCOL:
            raise
        # stored by a door that Rucio does not know of: all the same, if it is where Rucio looks for it
        known = storage(session, rse)
        if not known.deterministic or not all(map(_at_its_place, entries)):
            raise
        for row in rows:
            del row["pfn"]
        session.tell(call)


def _row(entry: _Entry) -> dict[str, Any]:
    """Return what `POST /replicas` is told of a file."""
    kind, value = _checksum(entry)
    row = {**entry.did, "bytes": entry.report.size, kind: value, "state": "A"}
    if entry.report.surl:
        row["pfn"] = _pfn(entry.report.surl)
    if entry.report.guid:
        row["meta"] = {"guid": entry.report.guid.replace("-", "").lower()}
    return row


def _pfn(url: str) -> str:
    """Return a URL as Rucio writes it: its path not encoded, and `localhost` as the host of a file."""
    return unquote(f"file://localhost{url[7:]}" if url.startswith("file:///") else url)


def _at_its_place(entry: _Entry) -> bool:
    path = unquote(urlsplit(entry.report.surl).path)
    return path.endswith(f"/{deterministic_path(entry.scope, entry.report.lfn)}")


def _attach(session: Session, entries: Sequence[_Entry]) -> None:
    """Put files into the datasets that the job names; one that is in it already stays."""
    content: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in entries:
        if entry.dataset:
            scope, colon, name = entry.dataset.rpartition(":")
            content.setdefault((scope if colon else entry.scope, name), []).append(entry.did)
    attachments = [
        {"scope": scope, "name": name, "dids": list(some)}
        for (scope, name), dids in content.items()
        for some in portions(dids, BULK)
    ]
    for several in portions(attachments):
        body = {"attachments": list(several), "ignore_duplicate": True}
        named = ", ".join(f"{each['scope']}:{each['name']}" for each in several[:3])
        what = f"putting outputs into {named}"
        session.tell(Call(method="POST", path="dids/attachments", what=what, body=body))
