"""The pages' own listener: plain HTTP on the loopback only, apart from the ports of the pilots."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from pilot_devserver.listening import hang_up, listening_socket
from pilot_devserver.web.access import Access
from pilot_devserver.web.actions import Actions
from pilot_devserver.web.application import WebPages
from pilot_devserver.web.exchanges import ExchangeLog
from pilot_devserver.web.live import Live
from pilot_devserver.web.views import Views

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_devserver.faults import Faults
    from pilot_devserver.site import Site
    from pilot_devserver.store import SqliteStore

__all__ = ["WebServer"]

_GOODBYE = 1.0
"""Seconds that a browser which does not read gets when the server ends; aiohttp counts them."""

_log = logging.getLogger(__name__)


class WebServer:
    """The pages of one server; `exchanges` is what the host of the protocols writes into."""

    def __init__(
        self, port: int, store: SqliteStore, site: Site, transformations: Path, *, faults: Faults, clock: Clock
    ) -> None:
        self.exchanges = ExchangeLog(clock)
        self.url = ""
        """The address with the key, once it serves."""
        self._port = port
        self._store = store
        self._faults = faults
        self._views = Views(store, self.exchanges, faults, tuple(site.queues))
        self._actions = Actions(store, site, transformations, exchanges=self.exchanges, faults=faults)
        self._runner: web.AppRunner | None = None

    async def start(self, server_url: str) -> None:
        """Serve; `server_url` is where pilots go. Raises `HandledError` if the port cannot be had."""
        listener, _ = listening_socket("127.0.0.1", self._port, "--web-port")
        access = Access(listener.getsockname()[1])
        live = Live((self._subscribe_to_jobs, self.exchanges.subscribe, self._faults.subscribe))
        pages = WebPages(access, self._views, self._actions, live=live, server_url=server_url)
        self._runner = web.AppRunner(pages.application(), access_log=None, logger=_log, shutdown_timeout=_GOODBYE)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()
        self.url = access.url

    async def close(self) -> None:
        """End the streams and all connections."""
        if self._runner is not None:
            await hang_up(self._runner)

    def _subscribe_to_jobs(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self._store.subscribe(lambda _: listener())
