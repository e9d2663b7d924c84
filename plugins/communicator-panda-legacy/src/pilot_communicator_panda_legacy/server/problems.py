"""Everything that is wrong with a request, field by field: for people who look at an exchange.

The server itself tells the first mistake in Python's words, and nothing of values that it cuts or leaves out, or of
updates that it ignores with the status 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda_legacy.server.answers import NO_ROLE
from pilot_communicator_panda_legacy.server.calls import is_pilot
from pilot_communicator_panda_legacy.server.signatures import MISSING, SIGNATURES
from pilot_communicator_panda_legacy.server.updates import COLUMNS, CUT, STATES, LeftOut
from pilot_core.api.server import FieldProblem

if TYPE_CHECKING:
    from pilot_core.api.server import ServerRequest

__all__ = ["caller_problems", "field_problems", "unreadable"]

_FOR_PILOTS = frozenset({"getJob", "updateJob", "updateJobsInBulk", "updateWorkerPilotStatus"})
_BULK = ("updateJobsInBulk", "jobList")


def caller_problems(name: str, request: ServerRequest) -> Iterator[FieldProblem]:
    """Yield what the caller may not do."""
    if request.identity is None and name != "isAlive":
        message = "no certificate or token that counts was sent; most methods refuse"
        yield FieldProblem(field="", kind="refused", message=message)
    elif name in _FOR_PILOTS and not is_pilot(request):
        yield FieldProblem(field="", kind="refused", message=f"the caller is no pilot (StatusCode {NO_ROLE})")


def unreadable(error: Exception) -> FieldProblem:
    """Return the problem of a body that cannot be read at all."""
    if isinstance(error, json.JSONDecodeError):
        message = f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    else:
        message = f"the body cannot be read, JSON has to be packed with gzip: {error}"
    return FieldProblem(field="", kind="unreadable", message=message)


def field_problems(name: str, given: Any, prefix: str = "") -> Iterator[FieldProblem]:
    """Yield what is wrong with the parameters; `prefix` is put before the fields' names."""
    if not isinstance(given, Mapping):
        message = f"must be an object with the method's arguments, not {type(given).__name__}"
        yield FieldProblem(field=prefix.rstrip("."), kind="type", message=message)
        return
    signature = SIGNATURES[name]
    for key in given:
        if key not in signature:
            message = f"{name} has no argument of this name; the whole call fails with status 500"
            yield FieldProblem(field=prefix + key, kind="unknown", message=message)
    for key, default in signature.items():
        if default is MISSING and key not in given:
            yield FieldProblem(field=prefix + key, kind="missing", message="this argument is required")
    if name == "updateJob":
        yield from _update_problems(given, prefix)
    elif name == _BULK[0] and _BULK[1] in given:
        yield from _bulk_problems(given[_BULK[1]], prefix + _BULK[1])


def _bulk_problems(text: Any, field: str) -> Iterator[FieldProblem]:
    try:
        updates = json.loads(text)
    except (TypeError, ValueError) as error:
        yield FieldProblem(field=field, kind="type", message=f"must be a list in JSON: {error}")
        return
    if not isinstance(updates, list):
        yield FieldProblem(field=field, kind="type", message=f"must be a list, not {type(updates).__name__}")
        return
    for number, update in enumerate(updates):
        yield from field_problems("updateJob", update, f"{field}[{number}].")


def _update_problems(given: Mapping[str, Any], prefix: str) -> Iterator[FieldProblem]:
    """Yield what happens to the values of an update whose names fit."""
    state = given.get("state")
    if state is not None and state not in STATES:
        message = f"no state that a pilot may report; ignored with StatusCode 0. One of {', '.join(STATES)}"
        yield FieldProblem(field=f"{prefix}state", kind="refused", message=message)
    for key in ("jobId", "timeout", "attemptNr"):
        if key in given and not _is_number(given[key]):
            ignored = key == "attemptNr"
            message = "is no number: " + ("taken for none" if ignored else "the call fails with status 500")
            yield FieldProblem(field=prefix + key, kind="ignored" if ignored else "type", message=message)
    for key, value in given.items():
        size = CUT.get(key)
        if size is not None and isinstance(value, str) and len(value) > size:
            message = f"{len(value)} characters, of which the server keeps the first {size}"
            yield FieldProblem(field=prefix + key, kind="truncated", message=message)
        if key in COLUMNS and value not in (None, ""):
            yield from _column_problems(key, value, prefix)


def _is_number(value: Any) -> bool:
    try:
        int(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _column_problems(key: str, value: Any, prefix: str) -> Iterator[FieldProblem]:
    try:
        COLUMNS[key][1](value)
    except LeftOut:
        message = "cannot be converted to the type of its column; the server leaves it out silently"
        yield FieldProblem(field=prefix + key, kind="ignored", message=message)
    except Exception as error:  # noqa: BLE001  (the server's own code stumbles over whatever was sent)
        message = f"the server's own code fails ({type(error).__name__}): the call ends with status 500"
        yield FieldProblem(field=prefix + key, kind="type", message=message)
