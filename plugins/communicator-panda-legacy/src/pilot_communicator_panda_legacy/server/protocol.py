"""PanDA's form API as panda-server 0.8.1 serves it: from a request to an answer, its mistakes included."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pilot_communicator_panda.server.forms import form, query

from pilot_communicator_panda_legacy.server import others
from pilot_communicator_panda_legacy.server.answers import Text
from pilot_communicator_panda_legacy.server.calls import Call, bind
from pilot_communicator_panda_legacy.server.dispatch import get_job
from pilot_communicator_panda_legacy.server.problems import caller_problems, field_problems, unreadable
from pilot_communicator_panda_legacy.server.signatures import MISSING, OWNERS, SIGNATURES
from pilot_communicator_panda_legacy.server.updates import update_job, update_jobs_in_bulk
from pilot_core.api.server import FieldProblem, JobStore, ServerRequest, ServerResponse

if TYPE_CHECKING:
    import logging

__all__ = ["HANDLERS", "LegacyProtocol"]

PREFIX = "/server/panda/"

HANDLERS: Mapping[str, Callable[[Call], Text]] = MappingProxyType(
    {
        "isAlive": others.is_alive,
        "getJob": get_job,
        "updateJob": update_job,
        "updateJobsInBulk": update_jobs_in_bulk,
        "getStatus": others.get_status,
        "checkJobStatus": others.check_job_status,
        "updateWorkerPilotStatus": others.update_worker_pilot_status,
        "getResourceTypes": others.get_resource_types,
        "getProxy": others.get_proxy,
        "get_access_token": others.get_access_token,
        "get_token_key": others.get_token_key,
        "getKeyPair": others.get_key_pair,
        "get_user_secrets": others.get_user_secrets,
        "set_user_secret": others.set_user_secret,
        "setDebugMode": others.set_debug_mode,
        "send_command_to_job": others.send_command_to_job,
        "killJobs": others.kill_jobs,
    }
)


class LegacyProtocol:
    """The protocol `panda-legacy`. What it does not know, it forbids, as the real server does."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def handles(self, request: ServerRequest) -> bool:
        """Say whether the path is below `/server/panda/`."""
        return request.path.startswith(PREFIX)

    def respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Answer as the real server does."""
        name = _method_name(request.path)
        handler = HANDLERS.get(name)
        if handler is None:
            return _response(403, Text(f"ERROR : method {name} is forbidden"))
        if request.denied:
            return _response(403, Text(f"ERROR : Token authentication failed. {request.denied}"))
        try:
            arguments = bind(name, SIGNATURES[name], _parameters(request), missing=MISSING, owner=OWNERS[name])
            return _response(200, handler(Call(request, store, arguments)))
        except Exception as error:  # noqa: BLE001  (the real server answers any exception with its text)
            self._log.debug("%s: answered with status 500", name, exc_info=True)
            return _response(500, Text(str(error)))

    def problems(self, request: ServerRequest) -> Sequence[FieldProblem]:
        """Name everything that is wrong with a request."""
        name = _method_name(request.path)
        if name not in HANDLERS:
            return (FieldProblem(field="", kind="refused", message=f"there is no method {request.path}"),)
        found = list(caller_problems(name, request))
        if request.denied:
            # the text may go on with a traceback, as the real server's does
            message = request.denied.strip().partition("\n")[0]
            found.append(FieldProblem(field="header:authorization", kind="refused", message=message))
        try:
            params = _parameters(request)
        except Exception as error:  # noqa: BLE001  (whatever was sent: gzip, JSON and text all have errors of their own)
            return (*found, unreadable(error))
        return (*found, *field_problems(name, params))


def _method_name(path: str) -> str:
    """Return the method that a path names; "" for none."""
    fields = unquote(path).split("/")
    return fields[3] if len(fields) == 4 else ""


def _parameters(request: ServerRequest) -> Any:
    """Return the parameters. JSON is always packed with gzip, whatever Content-Encoding says, and with any method."""
    content_type = request.headers.get("content-type", "")
    if content_type == "application/json":
        params = json.loads(gzip.decompress(request.body))
        for name in list(params):
            if isinstance(params[name], bool):
                params[name] = str(params[name])
        return params
    return query(request.query) if request.method in ("GET", "HEAD") else form(request.body, content_type)


def _response(status: int, text: Text) -> ServerResponse:
    return ServerResponse(
        status=status,
        body=text.body.encode(errors="backslashreplace"),
        content_type=text.content_type,
        headers={"Connection": "close"} if status >= 500 else {},
    )
