"""The catalogue does what pilot-core asks of every catalogue, against a real Rucio server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.testing import CatalogKit, CatalogServer, Registered
from pilot_core.testing.servers.rucio import NEEDS, KnownFile, RucioServer

if TYPE_CHECKING:
    from pilot_core import Replica


class RealRucio(CatalogServer):
    """The other side: Rucio itself, whose storages follow no rule, so that files lie where the kit says."""

    def __init__(self, server: RucioServer, password_file: Path) -> None:
        self._server = server
        self._password_file = password_file
        self._doors: dict[str, tuple[str, int]] = {}
        self._added: set[tuple[str, str]] = set()

        for scope in ("kit_out", "user.kit", "kit_log"):
            server.scope(scope)
        for number in range(6):
            self._door(f"OUT{number}_DISK", "davs://storage.example.org:443/out", 1)
            server.dataset(("kit_out", "user.kit")[number % 2], f"kit.ds{number}")
        self._door("LOG", "file:///", 1)

    def emptied(self) -> RealRucio:
        """Return it without a file."""
        self._server.resume()
        self._server.empty()
        self._added.clear()
        return self

    def resume(self) -> None:
        """Have it answer again."""
        self._server.resume()

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the plugin reaches it."""
        return {
            "url": self._server.url,
            "account": self._server.account,
            "username": self._server.user,
            "password_file": self._password_file,
            "ca_file": self._server.authority.ca_file,
            "attach": True,
            "traces": True,
        }

    def add(self, scope: str, lfn: str, replicas: Sequence[Replica]) -> None:
        """Have it know a file; the storages' priorities make the order."""
        places = []
        for order, replica in enumerate(replicas, start=1):
            prefix, _, path = replica.url.rpartition("/")
            self._door(replica.rse, f"{prefix}/", order)
            places.append((replica.rse, path))
        self._server.file(KnownFile(scope=scope, lfn=lfn, places=places))
        self._added.add((scope, lfn))

    def registered(self) -> Sequence[Registered]:
        """Return what was entered, with the sizes that Rucio has of file and replica in one."""
        return [
            Registered(
                scope=row["scope"],
                lfn=row["name"],
                guid=row["guid"] or "",
                size=row["sizes"][0] if row["sizes"][0] == row["sizes"][1] else -1,
                checksum=f"adler32:{row['adler32'][0]}" if row["adler32"][0] else f"md5:{row['md5'][0]}",
                url=row["url"].replace("file://localhost/", "file:///"),
                rse=row["rse"],
            )
            for row in self._server.entries()
            if (row["scope"], row["name"]) not in self._added
        ]

    def storage(self, rse: str, url: str) -> bool:
        """Have it know a storage whose files lie where Rucio's rule puts them."""
        self._server.rse(rse, url)
        return True

    def break_down(self) -> bool:
        """Let it hang."""
        self._server.pause()
        return True

    def _door(self, rse: str, prefix: str, order: int) -> None:
        if self._doors.get(rse) != (prefix, order):
            every = dict.fromkeys(("read_wan", "write_wan", "read_lan", "write_lan"), order)
            self._server.rse(rse, (prefix, every), deterministic=False)
            self._doors[rse] = prefix, order


@pytest.fixture(scope="module")
def rucio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRucio]:
    """One server for all clauses."""
    folder = tmp_path_factory.mktemp("rucio")
    with RucioServer(folder) as server:
        password = folder / "password"
        password.write_text(f"{server.password}\n")
        yield RealRucio(server, password)


@pytest.mark.needs(NEEDS)
class TestRucio(CatalogKit):
    """The kit's clauses, run on `catalog.rucio`."""

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "catalog.rucio"

    @pytest.fixture
    def catalog(self, rucio: RealRucio) -> Iterator[CatalogServer]:
        """The other side, empty."""
        yield rucio.emptied()
        rucio.resume()
