"""Real storages: what we store curl and xrdcp read, and what they store we read; and trouble with real servers."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest

from pilot_core import AuthError, ChecksumMismatch, SourceNotFound, TransientError
from pilot_core.testing.servers.apache import ApacheServer
from pilot_core.testing.servers.nginx import NginxServer
from pilot_core.testing.servers.xrootd import XrootdServer

DATA = bytes(range(256)) * 8192  # 2 MiB


def adler32(data):
    return f"adler32:{zlib.adler32(data):08x}"


KNOWN = {"size": len(DATA), "checksum": adler32(DATA)}
curl = pytest.mark.needs("bin:curl")


def run(*command):
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    with NginxServer(tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="module")
def xrootd():
    with XrootdServer(http=True) as server:
        yield server


@pytest.fixture(scope="module")
def apache():
    # not below pytest's folders, which only the superuser may enter
    with tempfile.TemporaryDirectory(prefix="apache-") as folder:
        Path(folder).chmod(0o755)
        with ApacheServer(Path(folder) / "home") as server:
            yield server


@pytest.fixture
def server(request):
    return request.getfixturevalue(request.param)


def url_of(server):
    return server.http_url if isinstance(server, XrootdServer) else server.url


every_server = pytest.mark.parametrize(
    "server",
    [
        pytest.param("nginx", marks=pytest.mark.needs("bin:nginx", "bin:setpriv")),
        pytest.param("apache", marks=pytest.mark.needs("bin:apache2", "bin:setpriv")),
        pytest.param("xrootd", marks=pytest.mark.needs("bin:xrootd")),
    ],
    indirect=True,
)


@curl
@every_server
@pytest.mark.parametrize("name", ["plain.dat", "with a space.dat", "ünï.dat", "50%25.dat", "a+b;c.dat"])
def test_curl_reads_what_we_store_and_we_what_curl_stores(name, server, bench):
    on, url = bench(), f"{url_of(server)}/new/{quote(name)}"
    assert on.store(url).checksum == adler32(DATA)
    assert run("curl", "-sSf", url) == DATA
    other = DATA[::-1]
    (on.folder / "other").write_bytes(other)
    run("curl", "-sSf", "-T", str(on.folder / "other"), f"{url}.other")
    assert on.fetch(f"{url}.other", size=len(other), checksum=adler32(other)).size == len(other)
    assert on.copy.read_bytes() == other
    assert on.stat(url).size == len(DATA)
    on.remove(url)
    with pytest.raises(SourceNotFound):
        on.stat(url)


@every_server
@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_001])
def test_files_of_all_sizes_pass_on_one_connection(size, server, bench):
    on = bench()
    for number in range(3):
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        url = f"{url_of(server)}/sizes/{size}-{number}"
        on.store(url, data=data)
        assert on.fetch(url, size=size, checksum=adler32(data)).size == size
        assert on.copy.read_bytes() == data


@every_server
def test_a_folder_is_no_file(server, bench):
    bench().store(f"{url_of(server)}/folder/f")
    for name in ("fetch", "stat", "remove"):
        with pytest.raises(SourceNotFound):
            getattr(bench(), name)(f"{url_of(server)}/folder")
    assert bench().stat(f"{url_of(server)}/folder/f").size == len(DATA)


@pytest.mark.needs("bin:xrootd", "bin:xrdcp")
def test_xrdcp_reads_what_we_store_and_we_what_it_stores(xrootd, bench):
    on = bench()
    on.store(f"{xrootd.http_url}/x/f")
    assert run("xrdcp", "-s", f"{xrootd.url}/x/f", "-") == DATA
    run("xrdcp", "-s", str(on.folder / "out.dat"), f"{xrootd.url}/x/g")
    assert on.fetch(f"{xrootd.http_url}/x/g", **KNOWN).checksum == adler32(DATA)


@pytest.mark.needs("bin:xrootd")
def test_xrootd_tells_adler32_and_it_is_compared(xrootd, bench):
    on = bench()
    on.store(f"{xrootd.http_url}/c/f")
    assert on.stat(f"{xrootd.http_url}/c/f").checksum == adler32(DATA)
    assert on.fetch(f"{xrootd.http_url}/c/f").checksum == adler32(DATA)
    # what lies there was damaged, and the storage does not know: it keeps the checksum beside the file
    path = xrootd.folder / "c/f"
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    on.copy.unlink()
    with pytest.raises(ChecksumMismatch):
        on.fetch(f"{xrootd.http_url}/c/f")
    on.check_clean()


@pytest.mark.needs("bin:xrootd")
def test_a_temporary_name_hides_a_file_of_xrootd_while_it_comes(xrootd, bench):
    """XRootD shows files while they come."""
    seen = {}
    for hiding in (True, False):
        on, names = bench(temporary_names=hiding), set()

        def look(_, names=names):
            names.update(path.name for path in (xrootd.folder / "hidden").iterdir())

        (xrootd.folder / "hidden").mkdir(exist_ok=True)
        xrootd.give(xrootd.folder / "hidden")
        on.store(f"{xrootd.http_url}/hidden/{hiding}", data=bytes(20_000_000), progress=look)
        seen[hiding] = str(hiding) in names
        assert (xrootd.folder / "hidden" / str(hiding)).stat().st_size == 20_000_000
    assert seen == {True: False, False: True}
    assert [path.name for path in (xrootd.folder / "hidden").iterdir() if path.name.startswith(".")] == []


@pytest.mark.needs("bin:nginx", "bin:setpriv")
def test_a_server_that_is_killed_in_mid_transfer_and_comes_back(tmp_path, bench):
    with NginxServer(tmp_path / "nginx") as server:
        (server.folder / "f").write_bytes(DATA)
        server.stall("/store/f")
        on, begun = bench(timeout=5.0), threading.Event()

        def restart():
            begun.wait()
            server.stop()
            (server.home / "stall/store/f").unlink()

        thread = threading.Thread(target=restart)
        thread.start()
        with pytest.raises(TransientError):
            on.fetch(f"{server.url}/f", progress=lambda _: begun.set(), **KNOWN)
        thread.join()
        on.check_clean()
        server.start()
        assert on.fetch(f"{server.url}/f", **KNOWN).size == len(DATA)


@pytest.mark.needs("bin:nginx", "bin:setpriv", "module:cryptography")
def test_a_certificate_that_has_expired_is_told_as_such(tmp_path, bench):
    from pilot_core.testing.tls import TestAuthority

    authority = TestAuthority(tmp_path)
    cert_file, key_file = authority.client(days=-0.5)
    with NginxServer(tmp_path / "nginx", certificate=authority.server_file(), clients=authority.ca_file) as server:
        on = bench(x509_proxy=cert_file, x509_key=key_file, ca_file=authority.ca_file)
        with pytest.raises(AuthError, match="HTTP 400: The SSL certificate error"):
            on.fetch(f"{server.url}/f")


@pytest.mark.needs("bin:nginx", "bin:setpriv", "module:cryptography")
def test_a_storage_lets_in_who_has_a_certificate_or_a_token(tmp_path, bench):
    from pilot_core.testing.tls import TestAuthority

    authority = TestAuthority(tmp_path)
    cert, key = authority.client()
    (tmp_path / "token").write_text("right-token")
    (tmp_path / "wrong").write_text("wrong-token")
    certificate = authority.server_file()
    with NginxServer(
        tmp_path / "nginx", certificate=certificate, clients=authority.ca_file, token="right-token"
    ) as server:
        url = f"{server.url.replace('https', 'davs')}/f"
        for who in ({"x509_proxy": cert, "x509_key": key}, {"token_file": tmp_path / "token"}):
            on = bench(ca_file=authority.ca_file, **who)
            assert on.store(url).size == len(DATA)
            assert on.fetch(url, **KNOWN).size == len(DATA)
            on.copy.unlink()
        for who in ({}, {"token_file": tmp_path / "wrong"}):
            on = bench(ca_file=authority.ca_file, **who)
            with pytest.raises(AuthError, match="403"):
                on.fetch(url, **KNOWN)
            with pytest.raises(AuthError, match="403"):
                on.store(url)
        assert (server.folder / "f").read_bytes() == DATA


@pytest.mark.needs("root", "bin:nginx", "bin:setpriv", "bin:mount")
def test_a_full_disk_of_a_real_server_leaves_no_file(tmp_path, bench):
    """nginx answers a PUT for which its disk has no room with 500 and no word about it: another try, or storage."""
    with NginxServer(tmp_path / "nginx") as server:
        run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(server.folder))
        try:
            with pytest.raises(TransientError, match="500"):
                bench().store(f"{server.url}/f")
            assert not (server.folder / "f").exists()
        finally:
            run("umount", str(server.folder))
