"""The HTTP host: one aiohttp application that hands neutral requests to the protocols and answers as Apache does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from pilot_core.api.server import ExplainsRequests, FieldProblem, ServerRequest, ServerResponse
from pilot_devserver import apache
from pilot_devserver.faults.injector import Struck
from pilot_devserver.faults.subject import calls_of

if TYPE_CHECKING:
    from pilot_core.api.server import JobStore, ServerProtocol
    from pilot_devserver.admin import Admin
    from pilot_devserver.faults.injector import Injector
    from pilot_devserver.faults.registry import Fault
    from pilot_devserver.identity import Authenticator
    from pilot_devserver.pages import Pages
    from pilot_devserver.web.exchanges import Begun, ExchangeLog

__all__ = ["MAX_BODY_BYTES", "Host"]

MAX_BODY_BYTES = 256 * 1024**2
SERVER_NAME = "pilot-devserver"

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Host:
    """Answers every request of both ports. The store blocks, so that protocols run in a few threads."""

    def __init__(
        self,
        protocols: Sequence[ServerProtocol],
        store: JobStore,
        authenticator: Authenticator,
        pages: Pages,
        admin: Admin,
        *,
        exchanges: ExchangeLog | None = None,
        injector: Injector | None = None,
    ) -> None:
        self._protocols = protocols
        self._store = store
        self._authenticator = authenticator
        self._pages = pages
        self._admin = admin
        self._exchanges = exchanges
        self._injector = injector
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="protocol")

    def application(self) -> web.Application:
        """Return the application; it is used once."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handle)
        application.on_shutdown.append(self._end_streams)
        application.on_cleanup.append(self._end_threads)
        return application

    async def _end_streams(self, _: web.Application) -> None:
        self._admin.close()
        if self._injector is not None:
            self._injector.close()

    async def _end_threads(self, _: web.Application) -> None:
        self._threads.shutdown()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        begun = self._exchanges.begin() if self._exchanges else None
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        refused = apache.refuse(request.method, headers)
        if refused is not None:
            path, _, query = request.raw_path.partition("?")
            unread = ServerRequest(method=request.method, path=path, query=query, headers=headers)
            self._keep(begun, request, unread, refused)
            return _answer(request, refused)
        neutral = await self._neutral(request, headers)
        if self._admin.handles(neutral):
            return await self._admin.answer(request, neutral, self._in_thread)
        if self._injector is not None and (faults := await self._injector.meet(neutral, self._store, self._in_thread)):
            return await self._spoil(request, headers, faults, begun)
        response = await self._in_thread(lambda: self._respond(neutral, self._store))
        who = neutral.identity.dn if neutral.identity else "anonymous"
        _log.debug("%s %s -> %d (%s)", neutral.method, neutral.path, response.status, who)
        self._keep(begun, request, neutral, response)
        return _answer(request, response)

    async def _spoil(
        self, request: web.Request, headers: dict[str, str], faults: tuple[Fault, ...], begun: Begun | None
    ) -> web.StreamResponse:
        """Answer a request that faults strike."""
        assert self._injector is not None  # noqa: S101  (who else knows faults)
        # once more: its token may have expired just now
        neutral = await self._neutral(request, headers)
        struck = Struck(
            faults=faults,
            request=request,
            store=self._store,
            respond=lambda store: self._in_thread(lambda: self._respond(neutral, store)),
            server=SERVER_NAME,
        )
        spoiled = await self._injector.spoil(struck)
        self._keep(begun, request, neutral, spoiled.answer, [str(fault.rule) for fault in faults])
        if spoiled.ended is not None or spoiled.answer is None:
            return spoiled.ended or web.Response(status=500)
        response = _answer(request, spoiled.answer)
        if spoiled.close:
            response.force_close()
        return response

    def _keep(
        self,
        begun: Begun | None,
        request: web.Request,
        neutral: ServerRequest,
        response: ServerResponse | None,
        faults: Sequence[str] = (),
    ) -> None:
        """Keep an exchange for the web page; `faults` names those that fired, no response = none was sent."""
        if self._exchanges is None or begun is None:
            return
        peer = request.transport.get_extra_info("peername") if request.transport else None
        client = f"{peer[0]}:{peer[1]}" if peer else ""
        calls = [call.name for call in calls_of(neutral, self._protocols) or ()]
        self._exchanges.add(begun, neutral, response, client=client, faults=faults, calls=calls, explain=self._explain)

    def _explain(self, request: ServerRequest) -> Sequence[FieldProblem]:
        """Return what the protocol that answers a request finds wrong with it; nothing if it cannot tell."""
        protocol: object = next((item for item in self._protocols if item.handles(request)), None)
        if not isinstance(protocol, ExplainsRequests):
            return ()
        try:
            return protocol.problems(request)
        except Exception as error:  # noqa: BLE001  (a plugin's bug: told where somebody looks for problems)
            message = f"{type(protocol).__name__} failed to explain this request: {type(error).__name__}"
            return (FieldProblem(field="", kind="unreadable", message=message),)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def _neutral(self, request: web.Request, headers: dict[str, str]) -> ServerRequest:
        """Return the request as protocols know it."""
        path, _, query = request.raw_path.partition("?")
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        identity, denied = None, ""
        if tls is not None:
            # credentials count over TLS only: nobody should get used to sending them in the clear
            identity, denied = self._authenticator.identify(tls.getpeercert(binary_form=True), headers)
        return ServerRequest(
            method=request.method,
            path=apache.clean_path(path),
            query=query,
            headers=headers,
            body=await request.read(),
            secure=tls is not None,
            identity=identity,
            denied=denied,
        )

    def _respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Let the first protocol that knows the path answer, or find a page."""
        for protocol in self._protocols:
            if protocol.handles(request):
                return protocol.respond(request, store)
        return self._pages.respond(request, store)


def _answer(request: web.Request, answer: ServerResponse) -> web.Response:
    """Return the response on the wire: what the real server's Python makes is chunked, what Apache makes is not."""
    headers = {"Server": SERVER_NAME, "Content-Type": answer.content_type, **answer.headers}
    # the reason as Werkzeug has it, in front of which mod_wsgi stands
    reason = "INTERNAL SERVER ERROR" if answer.status == 500 else None
    response = web.Response(status=answer.status, reason=reason, body=answer.body, headers=headers)
    static = answer.content_type == apache.HTML or "Content-Length" in answer.headers
    if not static and request.version >= (1, 1):
        response.enable_chunked_encoding()
    if answer.status >= 500 or headers.get("Connection") == "close":
        # mod_wsgi ends the connection after an error, and says so
        response.force_close()
    return response
