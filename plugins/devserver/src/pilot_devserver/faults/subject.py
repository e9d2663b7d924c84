"""What a request is about, as far as rules ask: its method, the jobs in it with the states reported, the queue."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from pilot_core.api.server import NamesCalls

if TYPE_CHECKING:
    from pilot_core.api.server import RequestedCall, ServerProtocol, ServerRequest

__all__ = ["Subject", "calls_of", "subject_of"]

_log = logging.getLogger(__name__)
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
    calls: tuple[str, ...] = ()
    """What its protocol calls it, where that is not in the path."""
    tasks: frozenset[str] = frozenset()
    """acquire, update: what the calls are for, as far as the protocol says."""

    @property
    def method(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def subject_of(request: ServerRequest, protocols: Sequence[ServerProtocol] = ()) -> Subject:
    """Read a request, as its protocol does if it can say; what makes no sense is left out, nothing is raised."""
    bearer = len(request.headers.get("authorization", "").split()) > 1
    calls = calls_of(request, protocols)
    if calls is not None:
        return Subject(
            path=unquote(request.path),
            jobs=tuple(job for call in calls for job in call.jobs),
            queue=next((call.queue for call in calls if call.queue), ""),
            bearer=bearer,
            calls=tuple(call.name for call in calls),
            tasks=frozenset(call.task for call in calls if call.task),
        )
    values = _values(request)
    jobs: list[tuple[int, str]] = []
    for table in (values, *_bulk(values)):
        state = next((str(table[key]) for key in _STATE_KEYS if key in table), "")
        for key in _JOB_KEYS:
            jobs += [(job, state) for job in _ids(table.get(key))]
    queue = next((str(values[key]) for key in _QUEUE_KEYS if key in values), "")
    return Subject(path=unquote(request.path), jobs=tuple(jobs), queue=queue, bearer=bearer)


def calls_of(request: ServerRequest, protocols: Sequence[ServerProtocol]) -> Sequence[RequestedCall] | None:
    """Return the calls in a request, as the protocol that answers it names them; None if it names none."""
    protocol: object = next((item for item in protocols if item.handles(request)), None)
    if not isinstance(protocol, NamesCalls):
        return None
    try:
        return protocol.requested_calls(request)
    except Exception:  # noqa: BLE001  (a plugin's bug must not be the server's end)
        _log.exception("%s failed to name the calls in a request", type(protocol).__name__)
        return None


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
