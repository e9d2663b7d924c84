"""Where faults meet the server: consulted once for each request, it spoils the answer or changes the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pilot_core.api.server import StoreUnavailable
from pilot_devserver.faults import answers
from pilot_devserver.faults.kinds import Place
from pilot_devserver.faults.stores import no_database, with_duplicates
from pilot_devserver.faults.subject import subject_of
from pilot_devserver.faults.timer import Timer
from pilot_devserver.faults.wire import Framed, Wire

if TYPE_CHECKING:
    from aiohttp import web

    from pilot_core.api.clock import Clock
    from pilot_core.api.server import JobStore, ServerProtocol, ServerRequest, ServerResponse
    from pilot_devserver.faults.changes import Changes
    from pilot_devserver.faults.registry import Fault, Faults

__all__ = ["Injector", "Spoiled", "Struck"]

T = TypeVar("T")
_PIECES = 10
"""Pieces a second in which an answer drips."""


class _InThread(Protocol):
    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, kw_only=True)
class Struck:
    """A request, the faults that strike it, and how it would be answered."""

    faults: tuple[Fault, ...]
    request: web.Request
    store: JobStore
    respond: Callable[[JobStore], Awaitable[ServerResponse]]
    """Carries the request out, on a store."""
    server: str
    """What the header `Server` says."""


@dataclass(frozen=True, kw_only=True)
class Spoiled:
    """What became of a request."""

    answer: ServerResponse | None
    """What the client gets, or would have got before it was cut up; None = nothing."""
    ended: web.StreamResponse | None = None
    """Given if everything was sent and the connection dealt with; otherwise the answer is still to be sent."""
    close: bool = False
    """Whether the connection ends after the answer."""


class Injector:
    """Applies the faults of one server to its requests. But for `close`, everything is called in its event loop."""

    def __init__(
        self, faults: Faults, changes: Changes, clock: Clock, protocols: Sequence[ServerProtocol] = ()
    ) -> None:
        self._faults = faults
        self._changes = changes
        self._clock = clock
        self._protocols = protocols
        self._timer = Timer(clock)
        self._ending: asyncio.Future[None] | None = None

    def close(self) -> None:
        """Let everything end that waits; called in the event loop, before the connections are closed."""
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(None)
        self._timer.close()

    async def meet(self, request: ServerRequest, store: JobStore, in_thread: _InThread) -> tuple[Fault, ...]:
        """Return the faults that strike a request, after those that change the server have done so."""
        if self._changes.down is not None:
            return (self._changes.down,)
        if not self._faults:
            return ()

        def look() -> list[Fault]:
            subject = subject_of(request, self._protocols)
            struck = self._faults.meet(subject, lambda job: _queue_of(store, job))
            for fault in struck:
                self._changes.order(fault, subject)
            return struck

        struck = await in_thread(look)
        for fault in struck:
            self._changes.change(fault, request)
        return tuple(struck)

    async def spoil(self, struck: Struck) -> Spoiled:
        """Answer a request as its faults want it."""
        close = any(fault.rule.kind.name == "certificate" for fault in struck.faults)
        for fault in struck.faults:
            if fault.rule.kind.place is not Place.SERVER:
                do = getattr(self, f"_{fault.rule.kind.name.replace('-', '_')}")
                spoiled: Spoiled = await do(struck, fault)
                return spoiled
        return Spoiled(answer=await struck.respond(struck.store), close=close)

    # -- each fault ----------------------------------------------------------------------------------------------------

    async def _down(self, struck: Struck, fault: Fault) -> Spoiled:
        if self._changes.down is None:
            seconds = fault.rule.options["seconds"]
            await self._changes.go_down(fault, self._timer.after(seconds) if seconds else None, self._end())
        return Spoiled(answer=None, ended=Wire(struck.request).reset())

    async def _reset_before(self, struck: Struck, fault: Fault) -> Spoiled:
        del fault
        return Spoiled(answer=None, ended=Wire(struck.request).reset())

    async def _reset_after(self, struck: Struck, fault: Fault) -> Spoiled:
        del fault
        await struck.respond(struck.store)
        return Spoiled(answer=None, ended=Wire(struck.request).reset())

    async def _delay(self, struck: Struck, fault: Fault) -> Spoiled:
        answer = await struck.respond(struck.store)
        wire = Wire(struck.request)
        with wire.watched() as gone:
            await self._pause(gone, fault.rule.options["seconds"])
        return Spoiled(answer=answer, ended=wire.reset() if gone.done() else None)

    async def _hang(self, struck: Struck, fault: Fault) -> Spoiled:
        await self._processed(struck, fault)
        wire = Wire(struck.request)
        with wire.watched() as gone:
            await self._pause(gone, fault.rule.options["seconds"] or None)
        return Spoiled(answer=None, ended=wire.close())

    async def _drip(self, struck: Struck, fault: Fault) -> Spoiled:
        framed = await self._framed(struck)
        wire, data, rate = Wire(struck.request), framed.head() + framed.content(), fault.rule.options["rate"]
        step = max(1, round(rate / _PIECES))
        with wire.watched() as gone:
            for start in range(0, len(data), step):
                if not await self._pause(gone, step / rate):
                    break
                wire.send(data[start : start + step])
        return Spoiled(answer=framed.response, ended=wire.close())

    async def _truncate(self, struck: Struck, fault: Fault) -> Spoiled:
        del fault
        framed = await self._framed(struck)
        data = framed.head() + framed.content(len(framed.body) // 2)
        return Spoiled(answer=framed.response, ended=Wire(struck.request).close(data))

    async def _content_length(self, struck: Struck, fault: Fault) -> Spoiled:
        framed = await self._framed(struck, chunked=False)
        length = max(0, len(framed.body) + fault.rule.options["bytes"])
        data = framed.head(length) + framed.content()
        return Spoiled(answer=framed.response, ended=Wire(struck.request).close(data))

    async def _garbage(self, struck: Struck, fault: Fault) -> Spoiled:
        await self._processed(struck, fault)
        data = answers.noise(fault.chance, fault.rule.options["bytes"])
        return Spoiled(answer=None, ended=Wire(struck.request).close(data))

    async def _garbage_body(self, struck: Struck, fault: Fault) -> Spoiled:
        real = await self._processed(struck, fault)
        return Spoiled(answer=answers.with_noise(real, answers.noise(fault.chance, fault.rule.options["bytes"])))

    async def _html(self, struck: Struck, fault: Fault) -> Spoiled:
        await self._processed(struck, fault)
        return Spoiled(answer=answers.portal())

    async def _status(self, struck: Struck, fault: Fault) -> Spoiled:
        await self._processed(struck, fault)
        return Spoiled(answer=answers.error_page(fault.rule.options))

    async def _retry_after(self, struck: Struck, fault: Fault) -> Spoiled:
        del struck
        return Spoiled(answer=answers.turned_away(fault.rule.options, self._clock.wall()))

    async def _clock_skew(self, struck: Struck, fault: Fault) -> Spoiled:
        wall = self._clock.wall() + fault.rule.options["seconds"]
        return Spoiled(answer=answers.with_date(await struck.respond(struck.store), wall))

    async def _database_down(self, struck: Struck, fault: Fault) -> Spoiled:
        del fault
        return Spoiled(answer=await struck.respond(no_database()))

    async def _duplicate_dispatch(self, struck: Struck, fault: Fault) -> Spoiled:
        store = with_duplicates(struck.store, fault.rule.job, lambda: self._faults.undo(fault))
        return Spoiled(answer=await struck.respond(store))

    # -- what they have in common --------------------------------------------------------------------------------------

    @staticmethod
    async def _processed(struck: Struck, fault: Fault) -> ServerResponse | None:
        """Carry the request out if the rule wants that."""
        return await struck.respond(struck.store) if fault.rule.options["processed"] else None

    async def _framed(self, struck: Struck, *, chunked: bool | None = None) -> Framed:
        """Carry the request out; return the answer as bytes."""
        response = await struck.respond(struck.store)
        if chunked is None:
            chunked = struck.request.version >= (1, 1) and "Content-Length" not in response.headers
        return Framed(response, struck.server, answers.http_date(self._clock.wall()), chunked=chunked)

    def _end(self) -> asyncio.Future[None]:
        """Return the future that is done when the server ends."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_future()
        return self._ending

    async def _pause(self, gone: asyncio.Future[None], seconds: float | None) -> bool:
        """Wait; False if the client leaves or the server ends before the time has come (None = it never does)."""
        alarm: asyncio.Future[Any] = (
            asyncio.get_running_loop().create_future() if seconds is None else self._timer.after(seconds)
        )
        await asyncio.wait({alarm, gone, self._end()}, return_when=asyncio.FIRST_COMPLETED)
        come = alarm.done() and not gone.done()
        alarm.cancel()
        return come


def _queue_of(store: JobStore, job_id: int) -> str:
    """Return a job's queue, "" for an unknown job and while the database is down."""
    try:
        job = store.get(job_id)
    except StoreUnavailable:
        return ""
    return job.queue if job else ""
