"""Streams of changes to open pages: server-sent events, each with the page's new content, whenever it is another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from aiohttp import web

from pilot_core.api.clock import SystemClock
from pilot_devserver.faults.timer import Timer

__all__ = ["Live"]

PAUSE = 0.1
"""Seconds after which a page is sent again at the earliest: more often nobody sees, and pilots share the machine."""

Subscribe = Callable[[Callable[[], None]], Callable[[], None]]


class Live:
    """The open streams. A change wakes all of them; what a page does not show sends nothing."""

    def __init__(self, sources: tuple[Subscribe, ...]) -> None:
        """`sources` each take a function that is called after a change, in any thread, and return what ends that."""
        self._sources = sources
        self._open: set[_Bell] = set()
        # real time, whatever the server's clock is: it is about people's eyes
        self._timer = Timer(SystemClock())

    def close(self) -> None:
        """End all streams; called in the event loop."""
        for bell in self._open:
            bell.end()
        self._timer.close()

    async def stream(self, request: web.Request, render: Callable[[], Awaitable[str]]) -> web.StreamResponse:
        """Send what `render` returns now and after each change, until the browser leaves or the server ends."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        bell = _Bell(asyncio.get_running_loop())
        self._open.add(bell)
        with ExitStack() as stack:
            stack.callback(self._open.discard, bell)
            # before the page is made, so that no change falls between
            for subscribe in self._sources:
                stack.callback(subscribe(bell.ring))
            try:
                await response.prepare(request)
                before = ""
                while not bell.over.done():
                    pause = self._timer.after(PAUSE)
                    content = await render()
                    if content != before:
                        before = content
                        # one line of JSON: HTML has line ends, which would need care of their own
                        await response.write(b"event: page\ndata: " + json.dumps(content).encode() + b"\n\n")
                    await bell.wait()
                    await asyncio.wait({pause, bell.over}, return_when=asyncio.FIRST_COMPLETED)
                    bell.silence()
            except ConnectionResetError:
                pass  # the browser has gone, which is how a stream ends
        return response


class _Bell:
    """Wakes one stream, from any thread; several rings before it looks are one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rung = asyncio.Event()
        self.over: asyncio.Future[None] = loop.create_future()

    def ring(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._rung.set)

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
        self._rung.set()

    async def wait(self) -> None:
        await self._rung.wait()

    def silence(self) -> None:
        self._rung.clear()
