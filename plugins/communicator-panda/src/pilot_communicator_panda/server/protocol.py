"""PanDA's REST API v1 as panda-server 1.0.4 serves it: from a request to an answer, its mistakes included."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pilot_communicator_panda.server import acquire, credentials, jobs, update, workers
from pilot_communicator_panda.server.call import Handler, call
from pilot_communicator_panda.server.forms import form, query
from pilot_communicator_panda.server.problems import caller_problems, field_problems, unreadable
from pilot_communicator_panda.server.signatures import METHODS
from pilot_core.api.server import FieldProblem, JobStore, ServerRequest, ServerResponse

if TYPE_CHECKING:
    import logging

__all__ = ["HANDLERS", "PandaProtocol"]

JSON = "application/json"

HANDLERS: Mapping[tuple[str, str], Handler] = MappingProxyType(
    {
        ("pilot", "acquire_jobs"): acquire.acquire_jobs,
        ("pilot", "get_job_status"): jobs.get_job_status,
        ("pilot", "update_job"): update.update_job,
        ("pilot", "update_jobs_bulk"): update.update_jobs_bulk,
        ("pilot", "update_worker_status"): workers.update_worker_status,
        ("pilot", "update_worker_node"): workers.update_worker_node,
        ("pilot", "update_worker_node_gpu"): workers.update_worker_node_gpu,
        ("job", "get_status"): jobs.get_status,
        ("job", "kill"): jobs.kill,
        ("job", "set_command"): jobs.set_command,
        ("job", "set_debug_mode"): jobs.set_debug_mode,
        ("creds", "set_user_secrets"): credentials.set_user_secrets,
        ("creds", "get_user_secrets"): credentials.get_user_secrets,
        ("creds", "get_key_pair"): credentials.get_key_pair,
        ("creds", "get_proxy"): credentials.get_proxy,
        ("creds", "get_access_token"): credentials.get_access_token,
        ("creds", "get_token_key"): credentials.get_token_key,
        ("metaconfig", "get_resource_types"): credentials.get_resource_types,
        ("system", "is_alive"): credentials.is_alive,
    }
)


class PandaProtocol:
    """The protocol `panda`. What it does not know, it forbids, as the real server does."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def handles(self, request: ServerRequest) -> bool:
        """Say whether the path is below `/api/` or `/server/panda/` (which 1.0.4 forbids)."""
        return request.path.startswith(("/api/", "/server/panda/"))

    def respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Answer as the real server does."""
        module, name = _parse_path(request.path)
        method, handler = METHODS.get((module, name)), HANDLERS.get((module, name))
        if method is None or handler is None:
            return _text(403, f"ERROR : method {name} is forbidden")
        if request.denied:
            return _text(403, f"ERROR : Token authentication failed. {request.denied}")
        try:
            params = _parameters(request)
            envelope = call(method, handler, request, store, params)
            return _text(200, json.dumps(envelope) if _wants_json(request) else str(envelope))
        except json.JSONDecodeError as error:
            return _text(500, f"ERROR : received invalid JSON : {error}")
        except Exception as error:  # noqa: BLE001  (the real server answers any exception with its text)
            self._log.debug("%s/%s: answered with status 500", module, name, exc_info=True)
            return _text(500, str(error))

    def problems(self, request: ServerRequest) -> Sequence[FieldProblem]:
        """Name everything that is wrong with a request."""
        module, name = _parse_path(request.path)
        method = METHODS.get((module, name))
        if method is None:
            return (FieldProblem(field="", kind="refused", message=f"there is no method {request.path}"),)
        found = list(caller_problems(method, request))
        if request.denied:
            # the text may go on with a traceback, as the real server's does
            message = request.denied.strip().partition("\n")[0]
            found.append(FieldProblem(field="header:authorization", kind="refused", message=message))
        try:
            params = _parameters(request)
        except Exception as error:  # noqa: BLE001  (whatever was sent: gzip, JSON and text all have errors of their own)
            return (*found, unreadable(error))
        return (*found, *field_problems(method, params, request.method))


def _parse_path(path: str) -> tuple[str, str]:
    """Return module and method; "" for what is not of the form. Only `v1` has methods, `latest` has none."""
    fields = unquote(path).split("/")
    if path.startswith("/server/panda/") and len(fields) == 4:
        return "", fields[3]
    if path.startswith("/api/") and len(fields) == 5:
        return (fields[3] if fields[2] == "v1" else ""), fields[4]
    return "", ""


def _parameters(request: ServerRequest) -> Any:
    """Return the parameters: any JSON value, or the fields of a form or query."""
    content_type = request.headers.get("content-type", "")
    if request.method in ("GET", "HEAD"):
        return query(request.query)
    if content_type != JSON:
        return form(request.body, content_type)
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    return json.loads(body)


def _wants_json(request: ServerRequest) -> bool:
    """Say whether the answer is JSON: only if one of the two headers is exactly so."""
    return JSON in (request.headers.get("content-type"), request.headers.get("accept"))


def _text(status: int, text: str) -> ServerResponse:
    headers = {"Connection": "close"} if status >= 500 else {}
    return ServerResponse(status=status, body=text.encode(errors="backslashreplace"), headers=headers)
