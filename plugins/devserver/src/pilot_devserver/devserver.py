"""The whole server in one object: for the command `serve`, and as a context manager for tests."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from pilot_core.api.clock import SystemClock
from pilot_core.api.credential import ClientCertificate
from pilot_core.api.provider import Context
from pilot_core.api.server import StoreUnavailable
from pilot_core.errors import ConfigError, PluginError
from pilot_devserver.faults.registry import Fault, Faults
from pilot_devserver.faults.rules import Rule
from pilot_devserver.files import write_file
from pilot_devserver.listening import EVERYWHERE, adder_at_work, hang_up, listening_socket, server_tls
from pilot_devserver.site import Site
from pilot_devserver.statedir import Running, StateDir

if TYPE_CHECKING:
    from aiohttp import web

    from pilot_core.api.clock import Clock
    from pilot_core.api.server import ServerProtocol
    from pilot_devserver.faults.changes import Changes
    from pilot_devserver.faults.scenario import Scenario
    from pilot_devserver.host import Host
    from pilot_devserver.store import SqliteStore
    from pilot_devserver.web.serving import WebServer

__all__ = ["DEFAULT_QUEUE", "DevServer", "installed_protocols"]

DEFAULT_QUEUE = "DEV_QUEUE"

_log = logging.getLogger(__name__)


def installed_protocols(clock: Clock, work_dir: Path, names: Sequence[str] | None = None) -> dict[str, ServerProtocol]:
    """Return the server protocols that are installed, or those named, by name, in the order in which they are asked.

    Raises `PluginError` if there is none.
    """
    from pilot_core.plugins import Registry  # noqa: PLC0415

    # what an import may take is real time, whatever the server's clock is: a test's may jump
    registry = Registry.discover(clock=SystemClock())
    found = registry.providers("pilot_server_protocols", names)
    made: dict[str, ServerProtocol] = {}
    for loaded in sorted(found, key=lambda item: (item.priority, item.name)):
        context = Context(clock=clock, log=logging.getLogger(f"pilot_core.{loaded.name}"), work_dir=work_dir)
        try:
            made[loaded.name] = loaded.provider.factory(loaded.provider.settings(), context)
        except Exception as error:
            raise PluginError(
                f"plugin {loaded.label} failed when it was made: {type(error).__name__}: {error}; "
                "repair it, or name those to serve with --protocol"
            ) from error
        _log.info("protocol %s (%s %s)", loaded.name, loaded.distribution, loaded.version)
    if not made:
        refused = [f"{r.label}: {r.reason}; {r.next_step}" for r in registry.records if r.kind == "server-protocol"]
        raise PluginError(
            f"no server protocol can be used: {refused[0]}"
            if refused
            else "no server protocol is installed; install pilot-communicator-panda beside pilot-devserver"
        )
    return made


@final
class DevServer:
    """A PanDA server with its own authority, store and storages, all in one directory.

    As a context manager it serves in a thread of its own; `run` serves in the calling thread. `plain_port` is the port
    for plain HTTP (0 = any free one), None for none; `web_port` that of the pages for people, likewise; `storage` the
    directory in which the queues' storages lie; `protocols` the names of the plugins that serve, None = all that are
    installed.
    `adder_delay` is how many seconds after a final update the server decides a job; None = never by itself.
    `scenario` are the faults that it has from the start.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        host: str = "127.0.0.1",
        port: int = 0,
        plain_port: int | None = None,
        web_port: int | None = None,
        database: Path | None = None,
        storage: Path | None = None,
        protocols: Sequence[str] | None = None,
        adder_delay: float | None = 0.0,
        scenario: Scenario | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.faults = Faults(scenario.seed if scenario else 0)
        """The faults that are done to clients, before it serves and while it does."""
        for rule in scenario.rules if scenario else ():
            self.faults.add(rule)
        self.state = StateDir(state_dir, self.clock)
        self.site = Site(queues, storage.absolute() if storage else self.state.storage)
        self.url = ""
        """Base URL, known once it serves."""
        self.plain_url = ""
        self.web_url = ""
        """Address of the pages for people, with the key to them."""
        self._admin_url = ""
        self._host, self._port, self._plain_port, self._web_port = host, port, plain_port, web_port
        self._database = database or self.state.database
        self._adder_delay = adder_delay
        self._protocols = protocols
        self._store: SqliteStore | None = None
        self._changes: Changes | None = None
        self._web: WebServer | None = None
        self._held = ExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    # -- what tests ask for ------------------------------------------------------------------------------------------

    @property
    def store(self) -> SqliteStore:
        """The job store of a server that serves."""
        if self._store is None:
            raise RuntimeError("the server does not serve")
        return self._store

    @property
    def ca_file(self) -> Path:
        """The authority that clients have to trust."""
        return self.state.ca_file

    @property
    def pilot_certificate(self) -> ClientCertificate:
        """A certificate with the production role."""
        return ClientCertificate(cert_file=self.state.pilot_cert, key_file=self.state.pilot_key)

    @property
    def pilot_proxy(self) -> ClientCertificate:
        """A proxy of the pilot's certificate, key and chain in one file."""
        return ClientCertificate(cert_file=self.state.pilot_proxy, key_file=self.state.pilot_proxy)

    @property
    def user_certificate(self) -> ClientCertificate:
        """A certificate without any role."""
        return ClientCertificate(cert_file=self.state.user_cert, key_file=self.state.user_key)

    @property
    def admin_certificate(self) -> ClientCertificate:
        """The certificate for the server's own interface."""
        return ClientCertificate(cert_file=self.state.admin_cert, key_file=self.state.admin_key)

    def token(self, **options: Any) -> str:
        """Return a new token; the options are those of `TokenIssuer.issue`."""
        return self.state.tokens().issue(**options)

    def fault(self, fault: str, **when: Any) -> Fault:
        """Do a fault to clients: its name, and what the table of `faults.kinds` has of conditions and options.

        Returns the handle that counts how often it struck. Raises `BadInput` for what there is not.
        """
        return self.faults.add(Rule.read({"fault": fault, **when}))

    def clear_faults(self) -> None:
        """Take all faults away, and back what they did to the server."""
        self.faults.clear()

    def __enter__(self) -> DevServer:
        host = self._prepare()
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run_in_thread, args=(host, started), name="devserver")
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop and self._stop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()
        self._release()

    def _run_in_thread(self, host: Host, started: Future[None]) -> None:
        try:
            asyncio.run(self._serve(host, lambda: started.set_result(None), ()))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    # -- serving -----------------------------------------------------------------------------------------------------

    def run(self, ready: Callable[[], None], *, signals: Sequence[int] = (), lifeline: int | None = None) -> None:
        """Serve until one of the signals comes, or the end of file `lifeline`; `ready` is called once clients may come.

        Raises `HandledError` if it cannot serve.
        """
        host = self._prepare()
        try:
            asyncio.run(self._serve(host, ready, signals, lifeline))
        finally:
            self._release()

    def _release(self) -> None:
        """Close the store and let others use the directory."""
        self._store = None
        self._held.close()

    def _prepare(self) -> Host:
        """Make everything but the sockets."""
        try:
            return self._make_host()
        except BaseException:
            self._release()
            raise

    def _make_host(self) -> Host:
        from pilot_devserver.admin import Admin  # noqa: PLC0415
        from pilot_devserver.faults.changes import Changes  # noqa: PLC0415
        from pilot_devserver.faults.injector import Injector  # noqa: PLC0415
        from pilot_devserver.host import Host  # noqa: PLC0415
        from pilot_devserver.identity import Authenticator  # noqa: PLC0415
        from pilot_devserver.pages import Pages  # noqa: PLC0415

        self._held.enter_context(self.state.locked())
        self.state.prepare(() if self._host in EVERYWHERE else (self._host,))
        self.site.prepare()
        authenticator = Authenticator(self.state.tokens(), self.state.roles())
        protocols = list(installed_protocols(self.clock, self.state.path, self._protocols).values())
        store = self._store = self._held.enter_context(closing(self._open_store()))
        for queue in self.site.queues.values():
            store.set_queue(queue.name, data=queue.queuedata())
        pages = Pages(self.site, store, self.state.transformations)
        self._changes = Changes(self.faults, store, authenticator)
        injector = Injector(self.faults, self._changes, self.clock, protocols)
        admin = Admin(store, self.site, self.state.admin_dn(), self.faults)
        self._web = self._make_web(store)
        exchanges = self._web.exchanges if self._web else None
        return Host(protocols, store, authenticator, pages, admin, exchanges=exchanges, injector=injector)

    def _make_web(self, store: SqliteStore) -> WebServer | None:
        """Make the pages for people, if they are wanted."""
        if self._web_port is None:
            return None
        from pilot_devserver.web.serving import WebServer  # noqa: PLC0415

        return WebServer(
            self._web_port, store, self.site, self.state.transformations, faults=self.faults, clock=self.clock
        )

    def _open_store(self) -> SqliteStore:
        from pilot_devserver.store import SqliteStore  # noqa: PLC0415

        try:
            return SqliteStore(self._database, clock=self.clock, adder_delay=self._adder_delay)
        except (StoreUnavailable, sqlite3.Error) as error:
            raise ConfigError(f"database {self._database}: {error}; name another file with --database") from None

    async def _serve(
        self, host: Host, ready: Callable[[], None], signals: Sequence[int], lifeline: int | None = None
    ) -> None:
        """Listen on both ports until someone says stop."""
        from aiohttp import web  # noqa: PLC0415

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        for number in signals:
            self._loop.add_signal_handler(number, self._stop.set)
        if lifeline is not None:
            self._loop.add_reader(lifeline, self._lifeline_cut, lifeline)
        # the protocols unpack bodies themselves: whether they may is theirs to judge
        runner = web.AppRunner(host.application(), access_log=None, auto_decompress=False, logger=_log)
        await runner.setup()
        try:
            with adder_at_work(self.store, self.clock):
                await self._listen(runner)
                self.state.set_running(Running(self.url, self.plain_url, os.getpid(), self._admin_url))
                write_file(self.state.config_file, self.site.pilot_toml(self.url, self.state))
                _log.info("serving %s %s", self.url, self.plain_url)
                ready()
                await self._stop.wait()
                _log.info("ending")
        finally:
            self.state.clear_running()
            await hang_up(runner)
            if self._web is not None:
                await self._web.close()
            if self._changes is not None:
                await self._changes.close()

    def _lifeline_cut(self, lifeline: int) -> None:
        """End, and look at the descriptor no more: it is ready for reading for ever."""
        if self._loop and self._stop:
            self._loop.remove_reader(lifeline)
            self._stop.set()

    async def _listen(self, runner: web.AppRunner) -> None:
        from pilot_devserver.faults.certificate import CertificateChanger  # noqa: PLC0415
        from pilot_devserver.faults.doors import Doors  # noqa: PLC0415

        doors = Doors(runner, self.faults.refuses)
        listener, address = listening_socket(self._host, self._port, "--port")
        self.url = f"https://{address}"
        tls = server_tls(self.state)
        await doors.add(listener, tls)
        if self._plain_port is not None:
            listener, address = listening_socket(self._host, self._plain_port, "--plain-port")
            self.plain_url = f"http://{address}"
            await doors.add(listener)
        await self._listen_to_admin(runner)
        if self._web is not None:
            await self._web.start(self.url)
            self.web_url = self._web.url
        if self._changes is not None:
            self._changes.start(doors, CertificateChanger(tls, self.state, self.clock))

    async def _listen_to_admin(self, runner: web.AppRunner) -> None:
        """Listen at a port for the server's own commands, where no fault of connections locks them out."""
        from aiohttp import web  # noqa: PLC0415

        listener, address = listening_socket("127.0.0.1", 0, "--port")
        self._admin_url = f"https://{address}"
        await web.SockSite(runner, listener, ssl_context=server_tls(self.state)).start()
