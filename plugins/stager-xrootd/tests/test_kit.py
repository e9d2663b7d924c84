"""The stager does what pilot-core asks of every stager, against a real XRootD server on loopback."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from pilot_core.testing import StagerKit
from pilot_core.testing.servers.wire import Wire
from pilot_core.testing.servers.xrootd import XrootdServer, XrootdStorage

_NUMBERS = itertools.count()
_AFTER = 3_000_000
"""Bytes of answers after which the wire falls silent, or breaks."""


class TroubledStorage(XrootdStorage):
    """A storage that can be in every trouble that the kit knows of."""

    def __init__(self, server: XrootdServer, folder: str) -> None:
        super().__init__(server, folder)
        self.wires: list[Wire] = []

    def stall(self, name: str, data: bytes) -> None:
        """Have a file of which only a part ever arrives."""
        self._behind(name, data, "stall")

    def cut(self, name: str, data: bytes) -> None:
        """Have a file of which a part arrives before the connection ends."""
        self._behind(name, data, "cut")

    def refuse(self) -> None:
        """From now on the server lets nobody do anything."""
        self.server.stop()
        rules = self.server.home / "nobody-may"
        rules.write_text("u nobody-at-all /nowhere a\n")
        self.server.give(rules)
        self.server.more = ("ofs.authorize 1", f"acc.authdb {rules}")
        self.server.start()

    def _behind(self, name: str, data: bytes, then: str) -> None:
        self.put(name, data)
        wire = Wire(self.server.port, after=_AFTER, then=then)
        self.wires.append(wire)
        self.reach(name, wire.port)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[XrootdServer]:
    """One server for all clauses but those that put it into trouble."""
    with XrootdServer() as server:
        yield server


@pytest.mark.needs("bin:xrootd", "module:XRootD")
class TestXrootd(StagerKit):
    """The kit's clauses, run on `stager.xrootd`."""

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "stager.xrootd"

    @pytest.fixture
    def storage(self, shared_server: XrootdServer) -> Iterator[TroubledStorage]:
        """A folder of its own for each clause, and the server as it should be afterwards."""
        storage = TroubledStorage(shared_server, f"clause-{next(_NUMBERS)}")
        yield storage
        for wire in storage.wires:
            wire.close()
        if shared_server.more or not shared_server.running:
            shared_server.stop()
            shared_server.more = ()
            shared_server.start()
