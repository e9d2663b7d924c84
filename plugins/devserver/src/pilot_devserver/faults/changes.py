"""Faults that change the server: expired tokens, another certificate, commands for pilots, ports that are shut.

Each change lasts until its fault is removed; commands stay with their jobs.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pilot_core.api.server import StoreUnavailable
from pilot_devserver.store_rules import TO_BE_KILLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_core.api.server import JobStore, ServerRequest
    from pilot_devserver.faults.certificate import CertificateChanger
    from pilot_devserver.faults.doors import Doors
    from pilot_devserver.faults.registry import Fault, Faults
    from pilot_devserver.faults.subject import Subject
    from pilot_devserver.identity import Authenticator

__all__ = ["Changes"]

_log = logging.getLogger(__name__)


class Changes:
    """What faults have done to one server. But for `order`, everything is called in its event loop."""

    def __init__(self, faults: Faults, store: JobStore, authenticator: Authenticator) -> None:
        self.down: Fault | None = None
        """The fault for which nothing listens at the server's ports just now."""
        self._faults = faults
        self._store = store
        self._authenticator = authenticator
        self._tokens: dict[int, set[str]] = {}
        self._certificates: dict[int, str] = {}
        self._doors: Doors | None = None
        self._certificate: CertificateChanger | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up: asyncio.Future[None] | None = None
        self._coming_back: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def start(self, doors: Doors, certificate: CertificateChanger) -> None:
        """Be told how the server listens."""
        self._doors, self._certificate = doors, certificate
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._faults.subscribe(self._faults_changed)

    async def close(self) -> None:
        """Leave nothing behind; called when `ended` of `go_down` is done."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        for fault in self._faults.rules():
            if not fault.fired:
                _log.info(
                    "fault %d never struck, %d requests were of its kind: %s", fault.number, fault.seen, fault.rule
                )
        if self._coming_back is not None:
            await self._coming_back
        if self._doors is not None:
            self._doors.close()

    def order(self, fault: Fault, subject: Subject) -> None:
        """Give the jobs of an update the fault's command, so that its answer has it; may block."""
        name, rule = fault.rule.kind.name, fault.rule
        if name not in {"tobekilled", "command"}:
            return
        # not `kill`: that cancels at once what the database does not know to be running yet
        command = TO_BE_KILLED if name == "tobekilled" else rule.options["text"]
        for job, state in subject.jobs:
            if rule.job in (None, job) and rule.state in ("", state):
                try:
                    done, text = self._store.set_command(job, command)
                except StoreUnavailable as error:
                    done, text = False, str(error)
                if not done:
                    _log.warning("fault %d: job %d gets no command %r: %s", fault.number, job, command, text)

    def change(self, fault: Fault, request: ServerRequest) -> None:
        """Do what a fault does to the server itself."""
        if fault.rule.kind.name == "expired-token":
            self._tokens.setdefault(fault.number, set()).add(request.headers["authorization"].split()[1])
        elif fault.rule.kind.name == "certificate":
            self._certificates[fault.number] = fault.rule.options["kind"]
        else:
            return
        self._show()

    async def go_down(self, fault: Fault, back: asyncio.Future[None] | None, ended: asyncio.Future[None]) -> None:
        """Have nothing listen until `back` is done (None = until the fault is removed), or the server ends."""
        if self._doors is None or self._loop is None:
            return
        self.down = fault
        self._up = self._loop.create_future()
        await self._doors.shut()
        _log.info("nothing listens at the server's ports")
        ends = {self._up, ended} | ({back} if back is not None else set())
        self._coming_back = self._loop.create_task(self._come_back(self._doors, ends, ended))

    async def _come_back(self, doors: Doors, ends: set[asyncio.Future[None]], ended: asyncio.Future[None]) -> None:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await doors.open()
            _log.info("the server listens again")
        self.down = None

    def _faults_changed(self) -> None:
        """Take back, in the event loop, what removed faults did; called in any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take_back)

    def _take_back(self) -> None:
        there = {fault.number for fault in self._faults.rules()}
        for kept in (self._tokens, self._certificates):
            for number in kept.keys() - there:
                del kept[number]
        if self.down is not None and self.down.number not in there and self._up is not None and not self._up.done():
            self._up.set_result(None)
        self._show()

    def _show(self) -> None:
        """Let the server have what is in force now."""
        self._authenticator.expired = frozenset().union(*self._tokens.values())
        if self._certificate is not None:
            self._certificate.show(list(self._certificates.values())[-1] if self._certificates else "")
