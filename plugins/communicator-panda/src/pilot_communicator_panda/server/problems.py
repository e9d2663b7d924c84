"""Everything that is wrong with a request, field by field: for people who look at an exchange.

The server itself names the first mistake only, and says nothing of values that it cuts or leaves out. This names all of
them, by the same table of signatures and the same checks, and changes no answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.server.binding import Crash, Refused, checked
from pilot_communicator_panda.server.call import LIMITED_PROXY, NO_ROLE, NO_TLS
from pilot_communicator_panda.server.signatures import METHODS, REQUIRED, Method
from pilot_communicator_panda.server.update import CASTS, CUT, STATES
from pilot_core.api.server import FieldProblem

if TYPE_CHECKING:
    from pilot_core.api.server import ServerRequest

__all__ = ["caller_problems", "field_problems", "unreadable"]

_UPDATE = ("pilot", "update_job")


def caller_problems(method: Method, request: ServerRequest) -> Iterator[FieldProblem]:
    """Yield what the caller may not do."""
    identity = request.identity
    if method.secure and (identity is None or LIMITED_PROXY in identity.dn):
        yield FieldProblem(field="", kind="refused", message=f"{NO_TLS}: no certificate or token that counts was sent")
    elif method.production and not (identity is not None and identity.production):
        yield FieldProblem(field="", kind="refused", message=f"{NO_ROLE}: the caller has none")
    if request.method != method.http:
        message = f"{method.module}/{method.name} expects {method.http}, not {request.method}"
        yield FieldProblem(field="", kind="refused", message=message)


def unreadable(error: Exception) -> FieldProblem:
    """Return the problem of a body that cannot be read at all."""
    if isinstance(error, json.JSONDecodeError):
        message = f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    else:
        message = f"the body cannot be read: {error}"
    return FieldProblem(field="", kind="unreadable", message=message)


def field_problems(method: Method, given: Any, http: str, prefix: str = "") -> Iterator[FieldProblem]:
    """Yield what is wrong with the parameters; `prefix` is put before the fields' names."""
    if not isinstance(given, Mapping):
        message = f"must be an object with the method's arguments, not {type(given).__name__}"
        yield FieldProblem(field=prefix.rstrip("."), kind="type", message=message)
        return
    known = {parameter.name for parameter in method.parameters}
    for name in given:
        if name not in known:
            message = f"{method.name} has no argument of this name; the whole call is refused"
            yield FieldProblem(field=f"{prefix}{name}", kind="unknown", message=message)
    wrong = set()
    for parameter in method.parameters:
        if parameter.name not in given:
            if parameter.default is REQUIRED:
                message = f"this argument is required ({' or '.join(parameter.types)})"
                yield FieldProblem(field=prefix + parameter.name, kind="missing", message=message)
            continue
        try:
            checked(parameter, given, http)
        except (Refused, Crash):
            wrong.add(parameter.name)
            got = "a text that is none" if http == "GET" else f"{type(given[parameter.name]).__name__}"
            message = f"must be {' or '.join(parameter.types)}, not {got}; the whole call is refused"
            yield FieldProblem(field=prefix + parameter.name, kind="type", message=message)
    if (method.module, method.name) == _UPDATE:
        yield from _update_problems({name: given[name] for name in given if name not in wrong}, prefix)
    elif method.name == "update_jobs_bulk" and "job_list" not in wrong and "job_list" in given:
        for number, update in enumerate(given["job_list"]):
            if isinstance(update, Mapping) and "meta_data" in update:
                # which may be anything here: the server makes a text of it
                update = {**update, "meta_data": str(update["meta_data"])}  # noqa: PLW2901
            yield from field_problems(METHODS[_UPDATE], update, "POST", f"{prefix}job_list[{number}].")


def _update_problems(given: Mapping[str, Any], prefix: str) -> Iterator[FieldProblem]:
    """Yield what happens to values of an update that pass the checks."""
    state = given.get("job_status")
    if isinstance(state, str) and state not in STATES:
        message = f"no state that a pilot may report; one of {', '.join(STATES)}"
        yield FieldProblem(field=f"{prefix}job_status", kind="refused", message=message)
    for name, value in given.items():
        if name not in CASTS or value is None or value == "":
            continue
        size = CUT.get(name)
        if size is not None and len(str(value)) > size:
            message = f"{len(str(value))} characters, of which the server keeps the first {size}"
            yield FieldProblem(field=prefix + name, kind="truncated", message=message)
        try:
            CASTS[name](value)
        except (ValueError, OverflowError, TypeError):
            message = "cannot be converted to the type of its column; the server leaves it out silently"
            yield FieldProblem(field=prefix + name, kind="ignored", message=message)
