"""The pages as an aiohttp application: who is let in, which page is which address, what forms lead to."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from pilot_core.api.server import StoreUnavailable
from pilot_core.errors import BadInput, HandledError
from pilot_devserver.web import submit_page
from pilot_devserver.web.access import HEADERS, Access
from pilot_devserver.web.layout import Frame, Notice, View, page
from pilot_devserver.web.markup import element, join

if TYPE_CHECKING:
    from pilot_devserver.web.actions import Actions
    from pilot_devserver.web.live import Live
    from pilot_devserver.web.views import Views

__all__ = ["WebPages"]

MOST_FORM_BYTES = 1024**2
_KEPT_NOTICES = 100
_TYPES: Mapping[str, str] = MappingProxyType(
    {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
)

T = TypeVar("T")


@dataclass(frozen=True)
class _Refusal(Exception):
    status: int
    text: str


class WebPages:
    """Answers browsers. Views and actions block, so that they run in threads of their own."""

    def __init__(self, access: Access, views: Views, actions: Actions, *, live: Live, server_url: str) -> None:
        self._access = access
        self._views = views
        self._actions = actions
        self._live = live
        self._server_url = server_url
        self._frame = Frame(access.token, server_url, views.queues)
        self._notices: OrderedDict[str, Notice] = OrderedDict()
        folder = files("pilot_devserver.web") / "static"
        self._static = {name: (folder / name).read_bytes() for name in _TYPES}
        # two: a page that is slow to make must not hold up a button
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="web")
        # all open pages are made anew after a change, and nobody waits for that
        self._live_threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="web-live")

    def application(self) -> web.Application:
        """Return the application; it is used once."""
        application = web.Application(client_max_size=MOST_FORM_BYTES, middlewares=[self._guard])
        router = application.router
        router.add_get("/static/{name}", self._send_static)
        router.add_get("/live{path:/.*}", self._send_live)
        router.add_post("/jobs/{job:[0-9]{1,18}}/{what}", self._act_on_job)
        router.add_post("/faults/{what:add|remove|clear}", self._act_on_faults)
        router.add_post("/exchanges/clear", self._forget)
        router.add_post("/submit", self._submit)
        router.add_get("/{path:.*}", self._send_page)
        application.on_shutdown.append(self._end_streams)
        application.on_cleanup.append(self._end_threads)
        return application

    async def _end_streams(self, _: web.Application) -> None:
        self._live.close()

    async def _end_threads(self, _: web.Application) -> None:
        self._threads.shutdown()
        self._live_threads.shutdown(cancel_futures=True)

    async def _in_thread(self, function: Callable[[], T], threads: ThreadPoolExecutor | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads or self._threads, function)

    # -- who is let in -------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let in who has the key; answer errors as pages."""
        try:
            answer = await self._let_in(request) or await handler(request)
        except _Refusal as refusal:
            answer = self._message(refusal.status, refusal.text)
        except web.HTTPException as error:
            answer = self._message(error.status, error.reason)
        except StoreUnavailable as error:
            answer = self._message(503, f"The database does not answer: {error}")
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    async def _let_in(self, request: web.Request) -> web.Response | None:
        """Return an answer instead of the page, None to let the request through; raises `_Refusal`."""
        if not self._access.host_is_ours(request.host):
            raise _Refusal(421, "This server is reached as 127.0.0.1 or localhost only.")
        key = request.query.get("key")
        if request.method == "GET" and key is not None and self._access.key_is_right(key):
            kept = {name: text for name, text in request.query.items() if name != "key"}
            # one slash: with two a browser would take the path for another host
            response = _redirect("/" + str(request.rel_url.with_query(kept)).lstrip("/\\"))
            response.set_cookie(self._access.cookie, self._access.session, httponly=True, samesite="Strict", path="/")
            return response
        if request.path.startswith("/static/"):
            return None  # the same for everybody
        if not self._access.is_known(request.cookies):
            raise _Refusal(403, "Open the address that pilot-core serve has printed: it has the key to these pages.")
        if request.method == "POST":
            form = await _form(request)
            wrong = self._access.may_change(request.host, request.headers, str(form.get("csrf", "")))
            if wrong:
                raise _Refusal(403, f"Nothing was done: {wrong}.")
        return None

    def _message(self, status: int, text: str) -> web.Response:
        """Return a page that says one thing; it has no token, for it may be for anybody."""
        main = join(element("h1", f"{status}"), element("p", text))
        return _html(page(View(f"{status}", main, status=status), Frame("")), status)

    # -- pages ---------------------------------------------------------------------------------------------------------

    async def _send_static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound
        return web.Response(body=self._static[name], content_type=_TYPES[name], charset="utf-8")

    async def _send_page(self, request: web.Request) -> web.Response:
        path, query = f"/{request.match_info['path']}", dict(request.query)
        notice = self._notices.pop(query.pop("notice", ""), None)
        view = await self._in_thread(lambda: self._views.view(path, query, self._frame))
        if view is None:
            raise web.HTTPNotFound
        kept = request.rel_url.with_query({**query})
        live = f"/live{kept}" if self._views.is_live(path) else ""
        return _html(page(view, self._frame, notice, live=live), view.status)

    async def _send_live(self, request: web.Request) -> web.StreamResponse:
        path, query = request.match_info["path"], dict(request.query)
        if not self._views.is_live(path):
            raise web.HTTPNotFound

        async def render() -> str:
            try:
                made = partial(self._views.view, path, query, self._frame)
                view = await self._in_thread(made, self._live_threads)
            except StoreUnavailable as error:
                return element("p", f"The database does not answer: {error}", class_="notice bad")
            return view.main if view is not None else element("p", "This is not there any more.", class_="empty")

        return await self._live.stream(request, render)

    # -- forms ---------------------------------------------------------------------------------------------------------

    async def _act_on_job(self, request: web.Request) -> web.Response:
        job_id, what = int(request.match_info["job"]), request.match_info["what"]
        return await self._done(request, lambda values: self._actions.to_job(job_id, what, values))

    async def _act_on_faults(self, request: web.Request) -> web.Response:
        what = request.match_info["what"]
        if what == "clear":
            return await self._done(request, lambda _: self._actions.clear_faults())
        if what == "remove":
            return await self._done(request, self._actions.remove_fault)
        values = await _values(request)
        try:
            notice = await self._in_thread(lambda: self._actions.add_fault(values))
        except BadInput as error:
            text = str(error)
            view = await self._in_thread(lambda: self._views.faults(self._frame, values, text))
            return _html(page(view, self._frame), view.status)
        return self._back(values, notice)

    async def _forget(self, request: web.Request) -> web.Response:
        return await self._done(request, lambda _: self._actions.clear_exchanges())

    async def _submit(self, request: web.Request) -> web.Response:
        values = await _values(request)
        try:
            ids, notice = await self._in_thread(lambda: self._actions.submit(values, self._server_url))
        except HandledError as error:
            view = submit_page.submit_view(self._frame, values, str(error))
            return _html(page(view, self._frame), view.status)
        return self._back({"back": f"/jobs/{ids[0]}" if len(ids) == 1 else "/"}, notice)

    async def _done(self, request: web.Request, act: Callable[[Mapping[str, str]], Notice]) -> web.Response:
        """Do something and go back to the page that asked for it."""
        values = await _values(request)
        try:
            notice = await self._in_thread(lambda: act(values))
        except HandledError as error:
            notice = Notice(str(error), good=False)
        return self._back(values, notice)

    def _back(self, values: Mapping[str, str], notice: Notice) -> web.Response:
        """Return to one of our own pages, which shows the notice once."""
        number = secrets.token_urlsafe(8)
        self._notices[number] = notice
        while len(self._notices) > _KEPT_NOTICES:
            self._notices.popitem(last=False)
        back = values.get("back", "/")
        ours = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable() and back.isascii()
        path, _, query = (back if ours else "/").partition("?")
        return _redirect(f"{path}?{query}&notice={number}" if query else f"{path}?notice={number}")


async def _form(request: web.Request) -> Mapping[str, object]:
    """Return a form as it was sent; raises `_Refusal` for what is none. aiohttp keeps it for the next who asks."""
    try:
        return await request.post()
    except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:  # as aiohttp's parsers raise
        raise _Refusal(400, "Nothing was done: that is no form.") from error


async def _values(request: web.Request) -> dict[str, str]:
    """Return a form's fields without its token."""
    form = await _form(request)
    return {name: text for name, text in form.items() if isinstance(text, str) and name != "csrf"}


def _html(text: str, status: int) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def _redirect(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})
