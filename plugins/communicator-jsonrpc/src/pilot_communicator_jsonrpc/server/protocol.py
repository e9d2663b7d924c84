"""What the server answers: a request and a store of jobs become a response. No socket, no HTTP library.

HTTP's part is here: the address, who may ask, and which status an answer has. `envelope` reads the calls, `params`
checks them, `methods` carries them out. Nothing is kept between requests: everything is in the store.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pilot_core import FieldProblem, RequestedCall, ServerResponse, StoreUnavailable

from pilot_communicator_jsonrpc.server import envelope, params
from pilot_communicator_jsonrpc.server.envelope import Call, Fault
from pilot_communicator_jsonrpc.server.methods import CARRY_OUT

if TYPE_CHECKING:
    from pilot_core import Context, JobStore, NoSettings, ServerRequest

__all__ = ["PATH", "Protocol"]

PATH = "/jsonrpc"
NO_DATABASE, NO_CREDENTIAL, NO_ROLE = -32001, -32002, -32003


class Protocol:
    """The protocol; tells what is in a request and what is wrong with it, too."""

    def __init__(self, settings: NoSettings, context: Context) -> None:
        self._settings = settings
        self._log = context.log

    def handles(self, request: ServerRequest) -> bool:
        """Say whether a request is for this protocol, by its path."""
        return request.path == PATH

    def respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Answer a request; whatever it says, nothing is raised."""
        if request.method != "POST":
            return response(
                405, envelope.error(None, Fault(envelope.INVALID_REQUEST, "calls are posted")), Allow="POST"
            )
        if request.identity is None:
            reason = request.denied or "there is no credential"
            challenge = {"WWW-Authenticate": "Bearer"}
            return response(401, envelope.error(None, Fault(NO_CREDENTIAL, reason)), **challenge)
        if not request.identity.production:
            reason = "the credential lacks the role that pilots need"
            return response(403, envelope.error(None, Fault(NO_ROLE, reason)))
        told = envelope.answer(request.body, lambda call: self._carry_out(call, store))
        return ServerResponse(status=204, content_type="application/json") if told is None else response(200, told)

    def problems(self, request: ServerRequest) -> list[FieldProblem]:
        """Return everything that is wrong with a request, for the page that shows it (`ExplainsRequests`)."""
        try:
            said = envelope.parse(request.body)
        except ValueError:
            return [FieldProblem(field="", kind="unreadable", message="the body is no JSON")]
        if not isinstance(said, list):
            return explained(said, "")
        if not 0 < len(said) <= envelope.LARGEST_BATCH:
            text = f"a batch has 1 to {envelope.LARGEST_BATCH} requests"
            return [FieldProblem(field="", kind="refused", message=text)]
        return [problem for place, each in enumerate(said) for problem in explained(each, f"[{place}].")]

    def requested_calls(self, request: ServerRequest) -> list[RequestedCall]:
        """Return the calls in a request, by which the development server's faults choose (`NamesCalls`)."""
        try:
            said = envelope.parse(request.body)
        except ValueError:
            return []
        return [named(each) for each in (said if isinstance(said, list) else [said])]

    def _carry_out(self, call: Call, store: JobStore) -> Any:
        """Return the result of a call; raises `Fault`."""
        if call.method not in CARRY_OUT:
            raise Fault(envelope.METHOD_NOT_FOUND)
        wrong = [each for each in params.problems(call.method, call.params) if each.kind in {"missing", "type"}]
        if wrong:
            raise Fault(
                envelope.INVALID_PARAMS, data=[{"field": each.field, "problem": each.text} for each in wrong[:20]]
            )
        if call.notification and call.method == "job.acquire":
            # nobody would hear which job it is
            self._log.info("job.acquire without an id: no job goes out")
            return None
        try:
            return CARRY_OUT[call.method](call.params, store)
        except StoreUnavailable as error:
            raise Fault(NO_DATABASE, f"the database does not answer: {error}") from None


def named(said: Any) -> RequestedCall:
    """Return what one request object is about."""
    try:
        call = envelope.read_call(said)
    except Fault:
        return RequestedCall(name="")
    table = call.params if isinstance(call.params, dict) else {}
    job_id, state, queue = table.get("job_id"), table.get("state"), table.get("queue")
    return RequestedCall(
        name=call.method,
        task={"job.acquire": "acquire", "job.update": "update"}.get(call.method, ""),
        jobs=((job_id, state if isinstance(state, str) else ""),) if type(job_id) is int else (),
        queue=queue if isinstance(queue, str) else "",
    )


def explained(said: Any, prefix: str) -> list[FieldProblem]:
    """Return what is wrong with one request object; `prefix` is its place."""
    here = prefix.rstrip(".")
    try:
        call = envelope.read_call(said)
    except Fault:
        text = "no request of JSON-RPC 2.0: jsonrpc, method, params or id is not as it has to be"
        return [FieldProblem(field=here, kind="refused", message=text)]
    if call.method not in CARRY_OUT:
        text = f"no such method; there are {', '.join(CARRY_OUT)}"
        return [FieldProblem(field=f"{prefix}method", kind="unknown", message=text)]
    return [
        FieldProblem(field=f"{prefix}params.{each.field}".rstrip("."), kind=each.kind, message=each.text)
        for each in params.problems(call.method, call.params)
    ]


def response(status: int, told: Any, **headers: str) -> ServerResponse:
    """Return a response with JSON data."""
    return ServerResponse(
        status=status, body=json.dumps(told).encode(), content_type="application/json", headers=headers
    )
