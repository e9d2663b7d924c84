"""What a request is about, as far as rules ask: its method, the jobs in it with the states reported, the queue."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from pilot_core.api.server import ServerRequest

__all__ = ["Subject", "subject_of"]

_JOB_KEYS = ("job_id", "jobId", "job_ids", "ids")
_STATE_KEYS = ("job_status", "state")
_QUEUE_KEYS = ("site_name", "siteName", "site")
_BULK_KEYS = ("job_list", "jobList")
_GZIP_OR_ZLIB = 47
"""zlib's window bits for either format."""
_LARGEST = 64 * 1024**2
"""Bytes of an unpacked body that are looked at."""


@dataclass(frozen=True)
class Subject:
    """One request, for rules to choose by."""

    path: str
    jobs: tuple[tuple[int, str], ...] = ()
    """PandaIDs, each with the state that is reported of it, "" for none."""
    queue: str = ""
    bearer: bool = False
    """Whether it carries a bearer token."""

    @property
    def method(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def subject_of(request: ServerRequest) -> Subject:
    """Read a request of either protocol; what makes no sense is left out, nothing is raised."""
    values = _values(request)
    jobs: list[tuple[int, str]] = []
    for table in (values, *_bulk(values)):
        state = next((str(table[key]) for key in _STATE_KEYS if key in table), "")
        for key in _JOB_KEYS:
            jobs += [(job, state) for job in _ids(table.get(key))]
    queue = next((str(values[key]) for key in _QUEUE_KEYS if key in values), "")
    bearer = len(request.headers.get("authorization", "").split()) > 1
    return Subject(path=unquote(request.path), jobs=tuple(jobs), queue=queue, bearer=bearer)


def _values(request: ServerRequest) -> Mapping[str, Any]:
    """Return the parameters: of a JSON object, packed or not, of a form, or of the query."""
    body = request.body
    if not body:
        return dict(parse_qsl(request.query))
    try:
        if body[:2] == b"\x1f\x8b":
            body = zlib.decompressobj(_GZIP_OR_ZLIB).decompress(body, _LARGEST)
        text = body.decode()
        if text.lstrip()[:1] == "{":
            found: Any = json.loads(text)
            return found if isinstance(found, dict) else {}
        return dict(parse_qsl(text))
    except (ValueError, zlib.error, RecursionError):
        return {}


def _bulk(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the single updates of an update of many jobs."""
    for key in _BULK_KEYS:
        found = values.get(key)
        if isinstance(found, str):
            try:
                found = json.loads(found)
            except (ValueError, RecursionError):
                continue
        if isinstance(found, list):
            yield from (item for item in found if isinstance(item, dict))


def _ids(value: Any) -> list[int]:
    """Return the PandaIDs in a value: a number, a text, several with commas, or a list."""
    if isinstance(value, bool):
        return []
    if isinstance(value, int):
        return [value]
    if isinstance(value, list):
        return [job for item in value for job in _ids(item)]
    if isinstance(value, str):
        # not int(): it takes underscores, spaces and digits of all scripts, and refuses numbers of 5000 digits
        return [int(part) for part in value.split(",") if part.isascii() and part.isdigit() and len(part) < 20]
    return []
