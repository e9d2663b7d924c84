"""Names, what XRootD's own tools read and write, many files, large files."""

import resource
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_stager_xrootd.places import location_of

from pilot_core import BackendUnavailable, HandledError, SourceNotFound, TransferError
from pilot_core.api.local_files import INPUT, OUTPUT
from pilot_core.testing.kits.stager_base import NAMES

ODD = {name: text for name, text in NAMES.items() if "?" not in text}
"""The kit's names, but for those that the protocol cannot have."""
real = pytest.mark.needs("bin:xrootd", "bin:xrdcp", "module:XRootD")


# -- names -------------------------------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_files_of_any_name_come_and_go(name, bench, storage):
    bench.store(storage.url(name), b"the right one")
    assert storage.get(name) == b"the right one"
    assert storage.names() == {name}
    assert bench.stat(storage.url(name)).size == 13
    bench.fetch(storage.url(name), size=13)
    assert bench.got() == b"the right one"
    bench.remove(storage.url(name))
    assert not storage.names()


@real
@pytest.mark.parametrize(
    "name", ["x?xrd.wantprot=unix", "x?authz=Bearer", "x?cks.type=md5", "x?oss.asize=1", "?", "a?b/c", "x?&"]
)
def test_a_name_brings_along_no_options_of_its_own(name, bench, storage):
    storage.put("x", b"another")
    for url in (storage.url(name), f"{storage.prefix}/{name}"):
        with pytest.raises(SourceNotFound, match=r"question mark|options"):
            bench.fetch(url)
        with pytest.raises(TransferError):
            bench.store(url, b"x")
        with pytest.raises(HandledError):
            bench.remove(url)
    assert storage.names() == {"x"}


@pytest.mark.parametrize(
    ("url", "server", "path"),
    [
        ("root://h//a/b", "h", "/a/b"),
        ("root://h/a/b", "h", "/a/b"),
        ("ROOTS://h.example:1095//a%20b", "h.example:1095", "/a b"),
        ("xroot://[::1]:1094//a", "[::1]:1094", "/a"),
        ("root://h//a%2523", "h", "/a%23"),
        ("root://h//a#b".replace("#", "%23"), "h", "/a#b"),
        ("root://h//%C3%BC@:&=", "h", "/ü@:&="),
    ],
)
def test_urls_name_a_server_and_a_file(url, server, path):
    found = location_of(url, INPUT)
    assert (found.server, found.path) == (server, path)
    assert found.scheme == url.partition("://")[0].lower()


@pytest.mark.parametrize(
    "url",
    [
        *("http://h//a", "root:/h/a", "root://h", "root:////a", "root://u@h//a", "root://u:p@h//a", "root://h:0//a"),
        *("root://h:99999//a", "root://h:x//a", "root://h o//a", "root://-h//a", "rootsx://h//a"),
    ],
)
def test_what_is_no_url_of_a_storage_is_another_backends(url):
    for place in (INPUT, OUTPUT):
        with pytest.raises(BackendUnavailable) as caught:
            location_of(url, place)
        assert ":p@" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["", "/", "a/", "a//b", ".", "..", "a/../b", "%2e%2e/x", "a%2f..%2fb", "a%00b", "a%0ab", "a\nb", "%ff", "a?b"],
)
def test_what_can_be_no_file_is_not_found_and_not_stored(path):
    with pytest.raises(SourceNotFound):
        location_of(f"root://h//{path}", INPUT)
    with pytest.raises(TransferError) as caught:
        location_of(f"root://h//{path}", OUTPUT)
    assert not isinstance(caught.value, SourceNotFound)


@given(st.text(max_size=60))
def test_any_text_is_a_file_or_refused_in_one_line(text):
    for url in (text, f"root://{text}", f"root://host//{text}"):
        found, told = None, ""
        try:
            found = location_of(url, INPUT)
        except HandledError as error:
            told = str(error)
        assert told.isprintable()
        if found:
            assert found.path.startswith("/")
            assert not {"..", "."} & set(found.path.split("/"))
            assert "?" not in found.address


@given(st.text(st.characters(min_codepoint=32, exclude_characters="?/\x7f", exclude_categories=("Cs",)), min_size=1))
def test_a_files_url_leads_back_to_it(name):
    if name in {".", ".."} or len(name.encode()) > 255:
        return
    from urllib.parse import quote

    found = location_of(f"root://host//store/{quote(name, safe='')}", INPUT)
    assert found.path == f"/store/{name}"
    assert location_of(found.url_on("host"), INPUT) == found


# -- XRootD's own tools ------------------------------------------------------------------------------------------------


@real
def test_xrdcp_reads_what_was_stored(bench, storage, tmp_path):
    data = bytes(range(256)) * 40_000
    result = bench.store(storage.url("folder/x"), data)
    target = tmp_path / "read-back"
    source = f"root://{storage.server.address}//store/{storage.folder.name}/folder/x"
    subprocess.run(["xrdcp", "--silent", source, str(target)], check=True, capture_output=True)
    assert target.read_bytes() == data
    path = f"/store/{storage.folder.name}/folder/x"
    asked = ["xrdfs", f"root://{storage.server.address}", "query", "checksum", path]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    assert told.split() == result.checksum.split(":")


@real
def test_what_xrdcp_stored_is_fetched(bench, storage, tmp_path):
    data = bytes(range(256)) * 40_000
    source = tmp_path / "source"
    source.write_bytes(data)
    target = f"root://{storage.server.address}//store/{storage.folder.name}/x"
    subprocess.run(["xrdcp", "--silent", str(source), target], check=True, capture_output=True)
    found = bench.stat(storage.url("x"))
    bench.fetch(storage.url("x"), size=found.size, checksum=found.checksum)
    assert found.checksum.startswith("adler32:")
    assert bench.got() == data


@real
def test_the_storages_checksum_is_not_asked_for_where_that_is_switched_off(bench_with, storage):
    storage.put("x", b"x")
    assert bench_with(stat_checksum=False).stat(storage.url("x")).checksum == ""


@real
@pytest.mark.parametrize("name", ["adler32", "md5", "sha256"])
def test_any_checksum_is_computed_though_the_storage_may_not_know_it(name, bench, storage):
    result = bench.store(storage.url("x"), b"hello", checksum=name)
    assert result.checksum.startswith(f"{name}:")
    assert bench.fetch(storage.url("x"), checksum=result.checksum).checksum == result.checksum


# -- many, and large ---------------------------------------------------------------------------------------------------


@real
def test_a_thousand_small_files_come_quickly_and_leave_nothing(bench, storage):
    for number in range(1000):
        storage.put(f"{number}", b"%d" % number * 100)

    def fetch(number):
        bench.fetch(storage.url(f"{number}"), f"{number}")

    before = bench.clock.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, range(1000)))
    took = bench.clock.monotonic() - before
    assert all(bench.got(f"{number}") == b"%d" % number * 100 for number in range(1000))
    assert took < 20, f"{took:.1f} s"
    assert len(bench.stager._workers._idle) <= 8
    assert threading.active_count() < 8


@real
def test_memory_stays_flat(bench, storage):
    (storage.folder / "large").touch()
    storage.server.give(storage.folder / "large")
    with (storage.folder / "large").open("r+b") as file:
        file.truncate(256 * 1024 * 1024)
    storage.put("small", b"x" * 20_000_000)
    bench.fetch(storage.url("small"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = max(_peak(worker) for worker in _workers())
    bench.fetch(storage.url("large"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert max(_peak(worker) for worker in _workers()) - peak < 64 * 1024


def _workers():
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    found = [int(pid) for text in lists for pid in text.split()]
    return [pid for pid in found if b"pilot_stager_xrootd" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _peak(pid):
    """Return the largest memory that a process had, kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
