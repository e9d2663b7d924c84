"""JSON-RPC 2.0, the client's part: calls become bytes, answers become results or the errors of pilot-core."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core import AuthError, RequestRefused

from pilot_communicator_jsonrpc.http import Trouble

if TYPE_CHECKING:
    from pilot_core import CancelToken, Deadline

    from pilot_communicator_jsonrpc.http import Http

__all__ = ["LARGEST_BATCH", "Rpc", "result_of"]

LARGEST_BATCH = 1000
PASSING = range(-32099, -32003)
"""Codes of a server that has trouble, besides these two."""
INTERNAL_ERROR, NO_DATABASE = -32603, -32001
NO_CREDENTIAL, NO_ROLE = -32002, -32003


class Rpc:
    """Calls methods of the server. Any number of threads may use it."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._ids = itertools.count(1)

    def call(self, method: str, params: Mapping[str, Any], *, cancel: CancelToken, deadline: Deadline) -> Any:
        """Return the result of a call; raises what `Http.post` raises."""
        request = self._request(method, params)
        told = self._http.post(json.dumps(request).encode(), cancel=cancel, deadline=deadline)
        return self._result(told, request["id"])

    def batch(
        self, method: str, every: Sequence[Mapping[str, Any]], *, cancel: CancelToken, deadline: Deadline
    ) -> list[Any]:
        """Return the results of several calls of one method, made with one request; the first error is raised."""
        requests = [self._request(method, params) for params in every]
        told = self._http.post(json.dumps(requests).encode(), cancel=cancel, deadline=deadline)
        if not isinstance(told, list):
            # one error for the whole batch, or nothing that makes sense
            return [self._result(told, None)]
        # answers may come in any order; ids are ours, so that every one of them can be a key
        answers = {each["id"]: each for each in told if isinstance(each, dict) and type(each.get("id")) is int}
        if len(answers) != len(told) or set(answers) != {request["id"] for request in requests}:
            raise Trouble("the answers are not those to the requests")
        return [self._result(answers[request["id"]], request["id"]) for request in requests]

    def _request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": method, "params": params, "id": next(self._ids)}

    def _result(self, told: Any, call_id: int | None) -> Any:
        return result_of(told, call_id, self._http.clean)


def result_of(told: Any, call_id: int | None, clean: Any = str) -> Any:
    """Return the result in the answer to a call; raises `Trouble`, `RequestRefused` or `AuthError` for an error.

    An answer whose id is null is the server's word on a request that it could not read: it can be an error only.
    """
    good = isinstance(told, dict) and told.get("jsonrpc") == "2.0" and ("result" in told) != ("error" in told)
    if not good or (told.get("id") is None and "error" not in told):
        raise Trouble("what came is no answer of JSON-RPC 2.0")
    if told.get("id") is not None and (type(told["id"]) is not int or told["id"] != call_id):
        raise Trouble(f"the answer is to another request: id {clean(told['id'])}, not {call_id}")
    if "result" in told:
        return told["result"]
    error = told["error"]
    if not isinstance(error, dict) or type(error.get("code")) is not int:
        raise Trouble("what came is no error object of JSON-RPC 2.0")
    code = error["code"]
    data = f" {json.dumps(error['data'])}" if error.get("data") else ""
    text = f"the server's error {code}: {clean(str(error.get('message')) + data)}"
    if code in {NO_CREDENTIAL, NO_ROLE}:
        raise AuthError(f"{text}; look at the pilot's credential and its role")
    if code in {INTERNAL_ERROR, NO_DATABASE} or code in PASSING:
        raise Trouble(text)
    raise RequestRefused(text)
