"""The kit for stagers, on a real nginx: over HTTPS with a token as a site has it, and the trouble that it can be in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from pilot_core.testing import DirectoryStorage, StagerKit
from pilot_core.testing.kits.stager_base import FILE, Bench, check_result, checksum_of, data_of
from pilot_core.testing.servers.nginx import NginxServer, NginxStorage
from pilot_core.testing.servers.scripted_http import Connection, ScriptedHttp

TOKEN = "token-of-the-pilot"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of an authority and of its server."""
    from pilot_core.testing.tls import TestAuthority

    authority = TestAuthority(tmp_path_factory.mktemp("authority"))
    return authority.ca_file, authority.server_file()


class CuttingStorage(NginxStorage):
    """A storage of nginx, and of one that always ends in the midst of a file."""

    def __init__(self, server: NginxServer, folder: str, *, scheme: str) -> None:
        super().__init__(server, folder, scheme=scheme)
        self.cutter: ScriptedHttp | None = None

    def cut(self, name: str, data: bytes) -> None:
        """Have a file lie there of which half arrives."""
        self.cut_at(data, [len(data) // 2])

    def cut_at(self, data: bytes, ends: list[int]) -> None:
        """Have a file lie there that ends at these bytes when it is asked for; the last one is for good."""

        def script(connection: Connection) -> None:
            asked = connection.request()
            start = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            end = ends[min(connection.number, len(ends)) - 1]
            headers = {"Content-Length": str(len(data) - start), "ETag": '"1"'}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            connection.answer(206 if start else 200, data[start:end], headers)

        self.cutter = ScriptedHttp(script)
        self.cutter.__enter__()

    def url(self, name: str) -> str:
        """Return the URL of a file."""
        return super().url(name) if self.cutter is None else f"{self.cutter.url}/{name}"

    def close(self) -> None:
        """End the other server."""
        if self.cutter is not None:
            self.cutter.__exit__()


@pytest.mark.needs("bin:nginx", "bin:setpriv", "module:cryptography")
class TestNginx(StagerKit):
    capabilities: ClassVar = {**StagerKit.capabilities, "resume": ("test_a_cut_fetch_goes_on_where_it_ended",)}

    @pytest.fixture
    def plugin(self) -> str:
        return "stager.http"

    @pytest.fixture
    def storage(
        self, secured: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[DirectoryStorage]:
        home = tmp_path_factory.mktemp("nginx")  # not where the kit looks for what is left
        with NginxServer(home, certificate=secured[1], token=TOKEN) as server:
            storage = CuttingStorage(server, "atlas", scheme="davs")
            yield storage
            storage.close()

    @pytest.fixture
    def settings(self, secured: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
        token_file = tmp_path_factory.mktemp("token") / "token"
        token_file.write_text(f"{TOKEN}\n")
        return {"ca_file": secured[0], "token_file": token_file, "timeout": 5.0}

    def test_a_cut_fetch_goes_on_where_it_ended(self, stage_in: Bench, storage: CuttingStorage) -> None:
        """After a cut only the rest is asked for, and the whole is verified."""
        data = data_of(3 * 1024 * 1024)
        storage.cut_at(data, [1_000_000, 2_000_000, len(data)])
        check_result(stage_in.fetch(size=len(data), checksum=checksum_of("adler32", data)), data, "a resumed fetch")
        assert (stage_in.here / FILE).read_bytes() == data
        assert storage.cutter is not None
        ranges = [asked.headers.get("range", "") for asked in storage.cutter.asked]
        assert ranges == ["", f"bytes=1000000-{len(data) - 1}", f"bytes=2000000-{len(data) - 1}"]
        assert [asked.headers.get("if-range", "") for asked in storage.cutter.asked] == ["", '"1"', '"1"']
