"""The other side of a communicator, made of a server protocol: a real server on loopback, with faults at will."""

from __future__ import annotations

import logging
import ssl
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.clock import SystemClock
from pilot_core.api.provider import Context
from pilot_core.api.server import Identity, ServerProtocol, ServerRequest, ServerResponse
from pilot_core.testing import server_words
from pilot_core.testing.kits.otherside import BROKEN, FAULTS
from pilot_core.testing.kits.subject import Subject, subject_of
from pilot_core.testing.loopback import HttpRequest, Loopback, Reaction, response_bytes
from pilot_core.testing.memory_store import MemoryStore
from pilot_core.testing.tls import TestAuthority

if TYPE_CHECKING:
    from typing_extensions import Self

    from pilot_core.api.communicator import JobUpdate, WorkerNode, WorkerStatus
    from pilot_core.api.job import Job

__all__ = ["PILOT", "STRANGER", "ProtocolServer", "loaded_protocol"]

PILOT = Identity(dn="/O=kit/CN=pilot", fqans=("/kit/Role=production",))
"""Whom every request comes from unless a fault says otherwise."""
STRANGER = Identity(dn="/O=kit/CN=Jane Stranger")
"""Somebody without a role."""
EXPIRED = "Invalid token. Signature has expired"
ODD_WISHES = ("Sun, 06 Nov 1994 08:49:37 GMT", "soon", "-7")
TLS_FAULTS = frozenset({"wrong-name", "expired-certificate"})
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Welcome to the network.</body></html>\n"
GARBAGE = bytes(range(256)) * 2
_TEXT = "text/plain"
_AFTERWARDS = frozenset({"lost-reply", "truncated", "wrong-length", "drip", "chunked"})
"""Faults of the way back: the request has been carried out."""
_BY_PROTOCOL: Mapping[str, Mapping[str, Any]] = {
    "denied": {"identity": None, "denied": EXPIRED},
    "anonymous": {"identity": None},
    "no-role": {"identity": STRANGER},
    "database": {},
}
"""Faults that the protocol tells of in its own way, and what of the request makes it do so."""


@dataclass
class _Fault:
    name: str
    left: int | None
    seconds: float | None


def loaded_protocol(plugin: object, folder: Path) -> ServerProtocol:
    """Make the instance of a server protocol: `"server-protocol.NAME"`, or a module or object with its hook."""
    subject = _installed(plugin) if isinstance(plugin, str) else subject_of(plugin, "server-protocol")
    (provider,) = subject.providers.values()
    log = logging.getLogger(f"pilot_core.{subject.entry_point}")
    context = Context(clock=SystemClock(), log=log, work_dir=folder)
    protocol: ServerProtocol = provider.factory(provider.settings(), context)
    return protocol


@lru_cache
def _installed(entry_point: str) -> Subject:
    """Return what an entry point names; looking for it takes longer than many a test."""
    return subject_of(entry_point, "server-protocol")


class ProtocolServer:
    """Hosts one server protocol on 127.0.0.1 over a `MemoryStore`; an `OtherSide` that can do every fault.

    `protocol` is the entry point's name (`"server-protocol.panda"`), or a module or object with the hook. With `tls` it
    has a certificate of an authority of its own, whose files lie in `folder`; without, it speaks plain HTTP. Use it in
    a `with` block.
    """

    def __init__(self, protocol: object, folder: Path, *, tls: bool = True) -> None:
        self.store = MemoryStore()
        """What the server knows, for tests that look closer."""
        self.ca_file: Path | None = None
        self.broken: frozenset[str] = frozenset(BROKEN)
        self.faults: frozenset[str] = frozenset(FAULTS) - (frozenset() if tls else TLS_FAULTS)
        self._protocol = loaded_protocol(protocol, folder)
        self._lock = threading.Lock()
        self._faults: deque[_Fault] = deque()
        self._authority = TestAuthority(folder, "Kit Server CA") if tls else None
        if self._authority:
            self.ca_file = self._authority.ca_file
            self._certificate = self._authority.server_context()
            self._right = self._certificate
        self._loopback = Loopback(self._answer, tls=self._tls_context if tls else None)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._loopback.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection."""
        self._loopback.close()

    # -- what the kit asks ---------------------------------------------------------------------------------------

    def offer(self, *jobs: Job) -> None:
        """Have jobs handed out."""
        for job in jobs:
            self.store.offer(job)

    def offer_broken(self, job: Job, how: str) -> None:
        """Have a job with a broken description handed out."""
        right = server_words.described(job)
        changed: Mapping[str, Mapping[str, Any]] = {
            "no-program": {"transformation": "NULL"},
            "bad-size": {"fsize": ",".join(["many"] * len(job.inputs))},
            "lists-differ": {"fsize": ",".join(right["fsize"].split(",")[1:])},
            "bad-checksum": {"checksum": ",".join(["ad:what?"] * len(job.inputs))},
        }
        self.store.offer(job, **changed[how])

    def dispatched(self) -> Sequence[int]:
        """Return the PandaIDs that were handed out."""
        return list(self.store.dispatched)

    def asked(self) -> Sequence[Mapping[str, Any]]:
        """Return what jobs were asked for."""
        return [server_words.request_fields(wanted) for wanted in self.store.filters]

    def understood(self, job_id: int) -> Sequence[JobUpdate]:
        """Return the updates of a job that were carried out."""
        return self.store.understood(job_id)

    def command(self, job_id: int, command: str) -> None:
        """Have the next updates of a job answered with a command."""
        self.store.answer_with(job_id, command)

    def workers(self) -> Sequence[WorkerStatus]:
        """Return what pilots told of themselves."""
        return list(self.store.workers)

    def nodes(self) -> Sequence[WorkerNode]:
        """Return the machines that pilots told of."""
        return list(self.store.nodes)

    def fault(self, name: str, *, times: int | None = 1, seconds: float | None = None) -> None:
        """Have the next requests (None = all, until `heal`) meet a fault."""
        if name not in self.faults:
            raise ValueError(f"fault {name!r}: known are {', '.join(sorted(self.faults))}")
        if name == "refuse":
            self._loopback.refuse()
        elif self._authority and name in TLS_FAULTS:
            wrong = {"host": "elsewhere.example"} if name == "wrong-name" else {"days": -1}
            self._certificate = self._authority.server_context(**wrong)
        else:
            with self._lock:
                self._faults.append(_Fault(name, times, seconds))

    def heal(self) -> None:
        """End every fault."""
        with self._lock:
            self._faults.clear()
        if self._authority:
            self._certificate = self._right
        self._loopback.heal()

    def requests(self) -> int:
        """Return how many requests were received."""
        return self._loopback.requests

    def await_requests(self, count: int) -> None:
        """Return once so many requests were received; raises `TimeoutError` after ten seconds."""
        self._loopback.await_requests(count)

    def seen(self) -> str:
        """Return addresses and headers of all requests."""
        return self._loopback.seen()

    # -- answering -----------------------------------------------------------------------------------------------

    def _tls_context(self) -> ssl.SSLContext:
        return self._certificate

    def _next_fault(self) -> _Fault | None:
        with self._lock:
            if not self._faults:
                return None
            fault = self._faults[0]
            if fault.left is not None:
                fault.left -= 1
                if not fault.left:
                    self._faults.popleft()
            return fault

    def _answer(self, request: HttpRequest) -> Reaction:
        """Answer a request, or do to it what the fault is that is due."""
        fault = self._next_fault()
        if fault is None:
            return Reaction(data=_on_the_wire(self._response(request, "")))
        if fault.name in _BY_PROTOCOL:
            return Reaction(data=_on_the_wire(self._response(request, fault.name)))
        if fault.name in _AFTERWARDS:
            return _on_the_way_back(fault.name, self._response(request, ""))
        if fault.name == "echo":
            told = "; ".join(f"{name}: {value}" for name, value in request.headers.items())
            return Reaction(data=response_bytes(400, f"bad request: {told}\n".encode(), _TEXT))
        return _instead(fault)

    def _response(self, request: HttpRequest, fault: str) -> ServerResponse:
        """Let the protocol answer."""
        path, _, query = request.target.partition("?")
        neutral = ServerRequest(
            method=request.method,
            path=path,
            query=query,
            headers=request.headers,
            body=request.body,
            secure=request.secure,
            identity=PILOT,
        )
        neutral = replace(neutral, **_BY_PROTOCOL.get(fault, {}))
        if not self._protocol.handles(neutral):
            return ServerResponse(status=404, body=b"not found\n")
        with self.store.request(available=fault != "database"):
            try:
                return self._protocol.respond(neutral, self.store)
            except Exception as error:  # noqa: BLE001  (a protocol must not raise: its kit says so, not this one)
                return ServerResponse(status=500, body=f"the server protocol failed: {error!r}\n".encode())


def _on_the_wire(response: ServerResponse) -> bytes:
    return response_bytes(response.status, response.body, response.content_type, response.headers)


def _on_the_way_back(name: str, response: ServerResponse) -> Reaction:
    """Return what comes of a good answer on a bad way."""
    whole = _on_the_wire(response)
    if name == "lost-reply":
        return Reaction(then="reset")
    if name == "chunked":
        return Reaction(data=_chunked(response))
    if name == "drip":
        return Reaction(data=whole, piece=max(1, len(whole) // 100))
    if name == "truncated":
        return Reaction(data=whole[: len(whole) - max(1, len(response.body) // 2)], then="close")
    told = {**response.headers, "Content-Length": str(len(response.body) // 2)}
    return Reaction(data=response_bytes(response.status, response.body, response.content_type, told))


def _chunked(response: ServerResponse) -> bytes:
    """Return a response without a length, in chunks of seven bytes (RFC 9112, 7.1)."""
    chunks = [response.body[start : start + 7] for start in range(0, len(response.body), 7)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    whole = response_bytes(response.status, body, response.content_type, response.headers)
    return whole.replace(f"Content-Length: {len(body)}".encode(), b"Transfer-Encoding: chunked", 1)


def _instead(fault: _Fault) -> Reaction:
    """Return what comes instead of an answer."""
    later = {} if fault.seconds is None else {"Retry-After": f"{fault.seconds:g}"}
    statuses: Mapping[str, tuple[int, bytes, str, Mapping[str, str]]] = {
        "garbage": (200, GARBAGE, "application/octet-stream", {}),
        "html": (200, HTML, "text/html", {}),
        "empty": (200, b"", _TEXT, {}),
        "error": (500, b"internal error\n", _TEXT, {}),
        "busy": (503, b"come again later\n", _TEXT, later),
        "busy-odd": (503, b"come again later\n", _TEXT, {"Retry-After": ODD_WISHES[(fault.left or 0) % 3]}),
        "bad-request": (400, b"this makes no sense\n", _TEXT, {}),
        "redirect": (302, b"moved\n", _TEXT, {"Location": "/elsewhere"}),
        "unauthorized": (401, b"the credential is not accepted\n", _TEXT, {"WWW-Authenticate": "Bearer"}),
    }
    if fault.name in statuses:
        status, body, content_type, headers = statuses[fault.name]
        return Reaction(data=response_bytes(status, body, content_type, headers))
    if fault.name == "no-protocol":
        return Reaction(data=GARBAGE, then="close")
    if fault.name == "endless":
        # a chunk at a time, each of them right: only a limit of the whole ends it
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        return Reaction(data=head, endless=b"1\r\n \r\n")
    return Reaction(then="hang" if fault.name == "hang" else "reset")
