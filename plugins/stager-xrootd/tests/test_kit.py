"""The stager does what pilot-core asks of every stager, against a real XRootD server on loopback."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import ClassVar

import pytest

from pilot_core.testing import StagerKit
from pilot_core.testing.kits.stager_base import FILE, MIDWAY, Bench, check_result, data_of
from pilot_core.testing.servers.relay import Relay, Trouble
from pilot_core.testing.servers.xrootd import XrootdServer, XrootdStorage, XrootdTls
from pilot_core.testing.tls import TestAuthority

_NUMBERS = itertools.count()
_AFTER = 3_000_000
"""Bytes of answers after which a connection falls silent, or breaks."""


class TroubledStorage(XrootdStorage):
    """A storage that can be in every trouble that the kit knows of."""

    def __init__(self, server: XrootdServer, folder: str) -> None:
        super().__init__(server, folder)
        self.relays = ExitStack()
        self.cut_off = False
        """Whether connections were cut. A server of version 5.5 that has one cut in its TLS handshake hangs up on
        whoever gets that descriptor next."""

    def stall(self, name: str, data: bytes) -> None:
        """Have a file of which only a part ever arrives."""
        self.behind(name, data, Trouble(kind="stall", after=_AFTER, times=0))

    def cut(self, name: str, data: bytes) -> None:
        """Have a file of which a part arrives before the connection ends."""
        self.behind(name, data, Trouble(kind="cut", after=_AFTER, times=0))

    def refuse(self) -> None:
        """From now on the server lets nobody do anything."""
        self.server.stop()
        rules = self.server.home / "nobody-may"
        rules.write_text("u nobody-at-all /nowhere a\n")
        self.server.give(rules)
        self.server.more = ("ofs.authorize 1", f"acc.authdb {rules}")
        self.server.start()

    def behind(self, name: str, data: bytes, trouble: Trouble) -> Relay:
        """Have a file behind a connection to which something happens in its midst."""
        self.put(name, data)
        self.cut_off = True
        relay = self.relays.enter_context(Relay(self.server.port, trouble))
        self.reach(name, relay.port)
        return relay


@pytest.fixture(scope="module")
def shared_server() -> Iterator[XrootdServer]:
    """One server for all clauses but those that put it into trouble."""
    with XrootdServer() as server:
        yield server


@pytest.mark.needs("bin:xrootd", "module:XRootD", "module:cryptography")
class TestXrootd(StagerKit):
    """The kit's clauses, run on `stager.xrootd`."""

    capabilities: ClassVar = {**StagerKit.capabilities, "resume": ("test_a_download_that_breaks_off_goes_on",)}

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "stager.xrootd"

    @pytest.fixture
    def server(self, shared_server: XrootdServer) -> XrootdServer:
        """The server whose storage it is."""
        return shared_server

    @pytest.fixture
    def storage(self, server: XrootdServer) -> Iterator[TroubledStorage]:
        """A folder of its own for each clause, and the server as it should be afterwards."""
        storage = TroubledStorage(server, f"clause-{next(_NUMBERS)}")
        yield storage
        storage.relays.close()
        if server.more or storage.cut_off or not server.running:
            server.stop()
            server.more = ()
            server.start()

    def test_a_download_that_breaks_off_goes_on(self, stage_in: Bench, storage: TroubledStorage) -> None:
        """A fetch whose connection is cut in its midst goes on where it ended: nothing is moved twice."""
        data = data_of(MIDWAY)
        relay = storage.behind(FILE, data, Trouble(kind="cut", after=_AFTER))
        told: list[int] = []
        check_result(stage_in.fetch(progress=told.append), data, "a fetch that was cut")
        assert relay.connections >= 2, "it was not cut"
        assert told == sorted(told), "it began afresh"
        assert relay.answered < MIDWAY * 1.8, f"{relay.answered} bytes were sent for {MIDWAY}"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """An authority for servers and users."""
    return TestAuthority(tmp_path_factory.mktemp("grid"), rsa=True)


@pytest.fixture(scope="module")
def secured_server(grid: TestAuthority) -> Iterator[XrootdServer]:
    """A server with TLS to which users log in with their proxies."""
    with XrootdServer(tls=XrootdTls.of(grid), login="gsi") as server:
        yield server


class TestXrootdOverTls(TestXrootd):
    """The same over TLS, with a login by X.509 proxy."""

    @pytest.fixture
    def server(self, secured_server: XrootdServer) -> XrootdServer:
        """The server whose storage it is."""
        return secured_server

    @pytest.fixture
    def settings(self, grid: TestAuthority) -> dict[str, object]:
        """Whom to trust, and who the pilot is."""
        return {"ca_dir": grid.folder_of_authorities(), "x509_proxy": grid.proxy()}
