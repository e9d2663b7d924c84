"""What pilots asked and what they were answered: the last exchanges, in memory, bounded in number and in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pilot_devserver.web.concealing import Concealer
from pilot_devserver.web.decoding import Body, decode, decode_query, job_ids, unfold

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.server import FieldProblem, ServerRequest, ServerResponse

__all__ = ["Begun", "Exchange", "ExchangeLog", "endpoint_of"]

KEPT_EXCHANGES = 1000
KEPT_BODY = 256 * 1024
"""Bytes that are kept of each body."""
KEPT_BYTES = 32 * 1024**2
"""Bytes that are kept of all bodies together."""


@dataclass(frozen=True)
class Begun:
    """When a request came."""

    wall: float
    monotonic: float


@dataclass(frozen=True, kw_only=True)
class _Facts:
    jobs: tuple[int, ...]
    reported: str
    command: str
    refusal: str


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request and its answer. Bodies may be cut; secrets are still in them, see `concealing`."""

    number: int
    time: float
    """Wall time at which the request had come with its headers."""
    seconds: float
    """Until the answer was ready."""
    client: str
    """Address and port."""
    request: ServerRequest
    request_size: int
    response: ServerResponse | None
    """None: the connection was ended without an answer."""
    response_size: int
    faults: tuple[str, ...] = ()
    """The faults that the server was told to make here."""
    calls: tuple[str, ...] = ()
    """What the protocol calls the request, where that is not in the path; a batch has several."""
    explain: Callable[[], Sequence[FieldProblem]] = field(default=tuple, repr=False)

    @property
    def endpoint(self) -> str:
        """The method that was called, or the path."""
        names = [name[:100] for name in dict.fromkeys(self.calls) if name]
        called = ", ".join(names[:3] + ["..."] * (len(names) > 3))
        return Concealer().text(called or endpoint_of(self.request.path))

    @cached_property
    def problems(self) -> tuple[FieldProblem, ...]:
        """What is wrong with the request; found out when somebody looks."""
        return tuple(self.explain())

    @property
    def sent(self) -> Body:
        """The request's parameters."""
        headers = self.request.headers
        if not self.request.body and self.request.query:
            return decode_query(self.request.query)
        kind, encoding = headers.get("content-type", ""), headers.get("content-encoding", "")
        body = decode(self.request.body, kind, encoding, size=self.request_size)
        return replace(body, value=unfold(body.value))

    @property
    def answered(self) -> Body:
        """The answer's content."""
        if self.response is None:
            return Body(kind="empty", notes=("the connection was ended without an answer",))
        body = decode(self.response.body, self.response.content_type, size=self.response_size)
        return replace(body, value=unfold(body.value))

    @cached_property
    def _facts(self) -> _Facts:
        """What lists show of the bodies: a decoded body takes much more memory than its bytes, so it is not kept."""
        sent, answered = self.sent.value, self.answered.value
        inner = _inside(answered, ("data", "result"))
        commands = inner.get("commands") if isinstance(inner, dict) else None
        command = _text_of(inner, ("command",)) or ", ".join(_texts(commands))
        return _Facts(
            jobs=tuple(dict.fromkeys((*job_ids(sent), *job_ids(answered)))),
            reported=_text_of(_inside(sent, ("params",)), ("job_status", "state")),
            command="" if command == "NULL" else command,
            refusal=_refusal(answered, inner),
        )

    @property
    def jobs(self) -> tuple[int, ...]:
        """The PandaIDs that request and answer name."""
        return self._facts.jobs

    @property
    def reported(self) -> str:
        """The state that an update reports; "" for anything else."""
        return self._facts.reported

    @property
    def command(self) -> str:
        """The command that the pilot was given with the answer; "" for none."""
        return self._facts.command

    @property
    def refusal(self) -> str:
        """What an answer of status 200 says if it says no; "" for any other."""
        return self._facts.refusal


def _text_of(value: Any, names: Sequence[str]) -> str:
    if not isinstance(value, dict):
        return ""
    text = next((value[name] for name in names if isinstance(value.get(name), str)), "")
    return Concealer().text(text)[:250]


def _inside(value: Any, names: Sequence[str]) -> Any:
    """Return what lies in an envelope, if it is one: `data` of REST, `params` and `result` of JSON-RPC."""
    return next((value[name] for name in names if name in value), value) if isinstance(value, dict) else value


def _texts(value: Any) -> list[str]:
    found = [item for item in value[:10] if isinstance(item, str)] if isinstance(value, list) else []
    return [Concealer().text(item)[:50] for item in found]


def _refusal(answered: Any, inner: Any) -> str:
    """Return the message of an answer that says no in the ways of either API, or of JSON-RPC."""
    if isinstance(answered, dict) and answered.get("success") is False:
        return _text_of(answered, ("message",)) or "success: false"
    if isinstance(answered, dict) and isinstance(answered.get("error"), dict):
        error = answered["error"]
        return f"error {str(error.get('code', ''))[:20]} {_text_of(error, ('message',))}".strip()
    code = str(inner.get("StatusCode", "0")) if isinstance(inner, dict) else "0"
    return "" if code == "0" else f"StatusCode {code[:20]} {_text_of(inner, ('errorDialog', 'ErrorDiag'))}".strip()


def endpoint_of(path: str) -> str:
    """Return `pilot/update_job` of `/api/v1/pilot/update_job`, `getJob` of `/server/panda/getJob`, else the path."""
    if path.startswith("/api/v1/"):
        return path.removeprefix("/api/v1/")
    return path.removeprefix("/server/panda/")


class ExchangeLog:
    """The last exchanges, oldest first. Safe to use from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: deque[Exchange] = deque()
        self._bytes = 0
        self._number = 0
        self._listeners: list[Callable[[], None]] = []

    def begin(self) -> Begun:
        """Note that a request has come."""
        return Begun(self._clock.wall(), self._clock.monotonic())

    def add(
        self,
        begun: Begun,
        request: ServerRequest,
        response: ServerResponse | None,
        *,
        client: str = "",
        faults: Sequence[str] = (),
        calls: Sequence[str] = (),
        explain: Callable[[ServerRequest], Sequence[FieldProblem]] | None = None,
    ) -> Exchange:
        """Keep an exchange that is over, and drop the oldest beyond the bounds.

        `explain` is asked at once only if not all of the body is kept.
        """
        found = explain(request) if explain and len(request.body) > KEPT_BODY else None
        kept = replace(request, body=request.body[:KEPT_BODY])
        answer = replace(response, body=response.body[:KEPT_BODY]) if response is not None else None
        with self._lock:
            self._number += 1
            exchange = Exchange(
                number=self._number,
                time=begun.wall,
                seconds=self._clock.monotonic() - begun.monotonic,
                client=client,
                request=kept,
                request_size=len(request.body),
                response=answer,
                response_size=len(response.body) if response is not None else 0,
                faults=tuple(faults),
                calls=tuple(calls[:100]),
                explain=lambda: found if found is not None else explain(kept) if explain else (),
            )
            self._kept.append(exchange)
            self._bytes += _weight(exchange)
            while len(self._kept) > KEPT_EXCHANGES or (self._bytes > KEPT_BYTES and len(self._kept) > 1):
                self._bytes -= _weight(self._kept.popleft())
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
        return exchange

    def all(self) -> list[Exchange]:
        """Return what is kept, oldest first."""
        with self._lock:
            return list(self._kept)

    def get(self, number: int) -> Exchange | None:
        """Return one exchange, or None if it was never there or is kept no more."""
        return next((exchange for exchange in self.all() if exchange.number == number), None)

    def of_job(self, job_id: int) -> list[Exchange]:
        """Return the exchanges that name a job, oldest first."""
        return [exchange for exchange in self.all() if job_id in exchange.jobs]

    def clear(self) -> None:
        """Forget all exchanges; their numbers are not used again."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after each change; return what ends that. It must be quick and raise nothing."""
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return unsubscribe


def _weight(exchange: Exchange) -> int:
    return len(exchange.request.body) + (len(exchange.response.body) if exchange.response else 0)
