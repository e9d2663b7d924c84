"""What becomes of fetches when the storage or the network fails: the right class, and no file that is not whole."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import zlib

import pytest

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    ChecksumMismatch,
    Deadline,
    PilotErrorCode,
    SizeMismatch,
    SourceNotFound,
    TransferError,
    TransferTimeout,
    TransientError,
)
from pilot_core.testing.servers.scripted_http import ScriptedHttp

DATA = bytes(range(256)) * 8192  # 2 MiB


def adler32(data):
    return f"adler32:{zlib.adler32(data):08x}"


KNOWN = {"size": len(DATA), "checksum": adler32(DATA)}


def refused(bench, url, error, match="", **what):
    """Fetch in vain; return the error."""
    with pytest.raises(error, match=match or None) as caught:
        bench.fetch(url, **what)
    assert type(caught.value) in {error, *error.__subclasses__()}
    assert str(caught.value).isprintable()
    assert url.partition("?")[0] in str(caught.value)
    bench.check_clean()
    return caught.value


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BackendUnavailable),
        (401, AuthError),
        (403, AuthError),
        (404, SourceNotFound),
        (405, BackendUnavailable),
        (408, TransientError),
        (410, SourceNotFound),
        (423, TransientError),
        (425, TransientError),
        (429, TransientError),
        (500, TransientError),
        (501, BackendUnavailable),
        (502, TransientError),
        (503, TransientError),
        (504, TransientError),
        (507, TransientError),
        (202, BackendUnavailable),
        (204, BackendUnavailable),
    ],
)
def test_every_status_is_an_error_of_its_class(status, error, bench, answering):
    with ScriptedHttp(answering(status)) as server:
        refused(bench(), f"{server.url}/f", error, f"HTTP {status}", **KNOWN)


def test_an_auth_error_of_stage_in_has_its_code(bench, answering):
    with ScriptedHttp(answering(403)) as server:
        error = refused(bench(), f"{server.url}/f", AuthError, "check token_file")
    assert error.error_code == PilotErrorCode.STAGEINAUTHENTICATIONFAILURE


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None)])
@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_that_a_storage_asks_for_is_told(status, text, seconds, bench, answering):
    with ScriptedHttp(answering(status, b"busy", {"Retry-After": text, "Content-Type": "text/plain"})) as server:
        assert refused(bench(), f"{server.url}/f", TransientError, "busy", **KNOWN).retry_after == seconds


def test_what_a_storage_says_is_told_in_one_line_without_markup(bench, answering):
    with ScriptedHttp(answering(500, b"line\none\x1b[31m" + b"x" * 300)) as server:
        assert len(str(refused(bench(), f"{server.url}/f", TransientError, "line one"))) < 300
    with ScriptedHttp(answering(500, b"<html>no</html>", {"Content-Type": "text/html"})) as server:
        assert "html" not in str(refused(bench(), f"{server.url}/f", TransientError, "Internal Server Error"))


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("at", [0, 1, 65536, len(DATA) - 1])
@pytest.mark.parametrize("known", [{}, {"size": len(DATA)}, KNOWN], ids=["nothing-known", "size", "checksum"])
def test_a_connection_cut_at_any_byte_is_a_passing_trouble(known, at, reset, bench):
    def script(connection):
        connection.request()
        connection.answer(200, DATA[:at], {"Content-Length": str(len(DATA))})
        if reset:
            connection.reset()

    with ScriptedHttp(script) as server:
        refused(bench(), f"{server.url}/f", TransientError, **known)


def ranged(data, ends, etag='"1"', **more):
    """Return a script that cuts the answers at these bytes, and knows ranges."""

    def script(connection):
        asked = connection.request()
        start = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"Content-Length": str(len(data) - start), "ETag": etag, **more}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        connection.answer(206 if start else 200, data[start : ends[min(connection.number, len(ends)) - 1]], headers)

    return script


def test_a_fetch_goes_on_where_it_was_cut(bench):
    with ScriptedHttp(ranged(DATA, [100_000, 900_000, len(DATA)])) as server:
        on = bench()
        result = on.fetch(f"{server.url}/f", **KNOWN)
        assert (result.size, result.checksum) == (len(DATA), adler32(DATA))
        assert on.copy.read_bytes() == DATA
        assert on.told == sorted(on.told)
        assert [asked.headers.get("range", "")[:14] for asked in server.asked] == [
            "",
            "bytes=100000-2",
            "bytes=900000-2",
        ]
        assert server.asked[1].headers["if-range"] == '"1"'


def test_a_fetch_does_not_go_on_for_ever(bench):
    with ScriptedHttp(ranged(DATA, [100_000, 200_000, 300_000, 400_000, 500_000])) as server:
        refused(bench(resumes=2), f"{server.url}/f", TransientError, "missing", **KNOWN)
        assert len(server.asked) == 3


def test_a_fetch_that_comes_no_further_is_given_up(bench):
    with ScriptedHttp(ranged(DATA, [100_000, 100_000])) as server:
        refused(bench(resumes=50), f"{server.url}/f", TransientError, "missing", **KNOWN)
        assert len(server.asked) == 2


def test_a_fetch_does_not_go_on_where_a_change_would_not_be_noticed(bench):
    def script(connection):
        connection.request()
        connection.answer(200, DATA[:1000], {"Content-Length": str(len(DATA))})

    with ScriptedHttp(script) as server:
        refused(bench(), f"{server.url}/f", TransientError, "missing", size=len(DATA))
        assert len(server.asked) == 1


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(bench):
    """`If-Range` does not match, so that the whole new file comes."""
    new = DATA[::-1]

    def script(connection):
        asked = connection.request()
        if connection.number == 1:
            connection.answer(200, DATA[:100_000], {"Content-Length": str(len(DATA)), "ETag": '"old"'})
        else:
            assert asked.headers["if-range"] == '"old"'
            connection.answer(200, new, {"ETag": '"new"'})

    with ScriptedHttp(script) as server:
        on = bench()
        assert on.fetch(f"{server.url}/f").checksum == adler32(new)
        assert on.copy.read_bytes() == new


@pytest.mark.parametrize(
    "content_range", ["bytes 5-10/99", "bytes 99999-2097151/2097152", "bytes 2--1/5", "", "items 1-2/3"]
)
def test_another_part_than_asked_for_is_not_taken(content_range, bench):
    def script(connection):
        connection.request()
        if connection.number == 1:
            connection.answer(200, DATA[:100_000], {"Content-Length": str(len(DATA)), "ETag": '"1"'})
        else:
            connection.answer(206, DATA[100_000:], {"Content-Range": content_range, "ETag": '"1"'})

    with ScriptedHttp(script) as server:
        refused(bench(), f"{server.url}/f", TransferError, **KNOWN)


def test_a_file_that_became_shorter_is_asked_for_again(bench):
    def script(connection):
        asked = connection.request()
        if connection.number == 1:
            connection.answer(200, DATA[:100_000], {"Content-Length": str(len(DATA)), "ETag": '"1"'})
        elif "range" in asked.headers:
            connection.answer(416)
        else:
            connection.answer(200, b"short")

    with ScriptedHttp(script) as server:
        on = bench()
        assert on.fetch(f"{server.url}/f").size == 5
        assert on.copy.read_bytes() == b"short"


def test_a_server_that_is_restarted_in_mid_transfer_is_a_passing_trouble_and_then_works(bench, serving, kept):
    files = kept()
    files["/f"] = DATA

    def script(connection):
        connection.request()
        connection.answer(200, DATA[:500_000], {"Content-Length": str(len(DATA)), "ETag": '"1"'})
        connection.reset()
        dead.set()

    dead, on = threading.Event(), bench(resumes=0)
    with ScriptedHttp(script) as server:
        refused(on, f"{server.url}/f", TransientError, **KNOWN)
        port = server.port
    assert dead.is_set()
    refused(on, f"http://127.0.0.1:{port}/f", TransientError, "no connection", **KNOWN)
    with ScriptedHttp(serving(files), port=port) as server:
        assert on.fetch(f"{server.url}/f", **KNOWN).size == len(DATA)


@pytest.mark.parametrize("announced", [len(DATA) - 1, len(DATA) + 1, 5, 10**15])
def test_a_wrong_content_length_is_told_at_once(announced, bench):
    def script(connection):
        connection.request()
        connection.answer(200, DATA, {"Content-Length": str(announced)})
        connection.stall()

    with ScriptedHttp(script) as server:
        on = bench()
        refused(on, f"{server.url}/f", SizeMismatch, "catalogue says", size=len(DATA))
        assert not on.told


def test_a_truncated_file_of_known_checksum_is_refused(bench, answering):
    """The storage lies about the length: it has only a part, and says that this is all."""
    with ScriptedHttp(answering(200, DATA[:-1])) as server:
        refused(bench(), f"{server.url}/f", ChecksumMismatch, checksum=adler32(DATA))
        refused(bench(), f"{server.url}/f", SizeMismatch, size=len(DATA))


def test_a_body_that_ends_with_the_connection_needs_a_catalogue(bench):
    def script(connection):
        connection.request()
        connection.send(
            b"HTTP/1.0 200 OK\r\nLast-Modified: x\r\n\r\n" + DATA[: len(DATA) - 100 * (connection.number > 2)]
        )

    with ScriptedHttp(script) as server:
        refused(bench(), f"{server.url}/f", BackendUnavailable, "neither storage nor catalogue")
        assert bench().fetch(f"{server.url}/f", **KNOWN).size == len(DATA)
        (bench().copy).unlink()
        refused(bench(), f"{server.url}/f", SizeMismatch, size=len(DATA))


def test_a_chunked_file_is_fetched_and_a_cut_one_is_not(bench):
    whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA)

    def script(connection):
        connection.request()
        sent = whole if connection.number == 1 else whole[:-5]
        connection.send(b"HTTP/1.1 200 OK\r\nETag: W/x\r\nTransfer-Encoding: chunked\r\n\r\n" + sent)

    with ScriptedHttp(script) as server:
        on = bench()
        assert on.fetch(f"{server.url}/f").checksum == adler32(DATA)
        on.copy.unlink()
        refused(on, f"{server.url}/f", TransientError)


def test_a_wrong_checksum_of_the_catalogue_or_of_the_storage_is_a_mismatch(bench, answering):
    with ScriptedHttp(answering(200, DATA, {"Digest": "adler32=deadbeef"})) as server:
        error = refused(bench(), f"{server.url}/f", ChecksumMismatch, "deadbeef", checksum="adler32:deadbeef")
        assert error.error_code == PilotErrorCode.GETADMISMATCH
        refused(bench(), f"{server.url}/f", ChecksumMismatch, "adler32:deadbeef was expected")
        assert server.asked[-1].headers["want-digest"] == "adler32"
        assert bench().fetch(f"{server.url}/f", **KNOWN).size == len(DATA)  # the catalogue's word counts
        assert "want-digest" not in server.asked[-1].headers


def test_a_storage_that_cannot_tell_a_checksum_is_asked_without(bench, serving):
    def answer(connection, asked, body):
        if "want-digest" in asked.headers:
            connection.answer(409)
        else:
            connection.answer(200, DATA, {"ETag": '"1"'})

    with ScriptedHttp(serving(answer)) as server:
        assert bench().fetch(f"{server.url}/f").size == len(DATA)
        assert bench().stat(f"{server.url}/f").size == len(DATA)


def test_an_encoded_file_is_refused(bench, answering):
    with ScriptedHttp(answering(200, DATA, {"Content-Encoding": "gzip"})) as server:
        refused(bench(), f"{server.url}/f", BackendUnavailable, "encoded")


def stalled(connection):
    connection.request()
    connection.answer(200, DATA[:100_000], {"Content-Length": str(len(DATA))})
    connection.stall()


def test_a_stall_ends_after_the_timeout(bench):
    with ScriptedHttp(stalled) as server:
        refused(bench(timeout=0.2), f"{server.url}/f", TransferTimeout, r"nothing moved for 0\.2 s", **KNOWN)


def test_a_stall_is_cancelled_at_once(bench):
    with ScriptedHttp(stalled) as server:
        on = bench()
        begun = on.clock.monotonic()
        refused(
            on,
            f"{server.url}/f",
            Cancelled,
            "enough",
            progress=lambda _: on.cancel.cancel("f: enough " + server.url + "/f"),
        )
        assert on.clock.monotonic() - begun < 1


def test_a_drip_ends_at_the_deadline(bench):
    def script(connection):
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA))
        connection.send(DATA, piece=10)

    with ScriptedHttp(script) as server:
        on = bench()
        on.deadline = Deadline.after(on.clock, 0.3)
        refused(on, f"{server.url}/f", TransferTimeout, **KNOWN)
        assert on.told, "it dripped"


def test_a_target_that_cannot_be_written_is_told(bench, tmp_path, answering):
    with ScriptedHttp(answering(200, DATA)) as server:
        on = bench()
        on.folder.rmdir()
        with pytest.raises(TransferError, match="cannot be written"):
            on.fetch(f"{server.url}/f", **KNOWN)
        on.folder.mkdir()


def test_a_full_disk_here_is_no_space(tmp_path, answering):
    """In a process of its own, whose files may not grow further: what a quota does."""
    with ScriptedHttp(answering(200, DATA)) as server:
        code = f"""
import logging, resource, signal
from pathlib import Path
from pilot_core import CancelToken, Context, Deadline, FetchRequest, NoSpace, SystemClock
from pilot_stager_http.settings import Settings
from pilot_stager_http.stager import HttpStager
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))
clock, folder = SystemClock(), Path({str(tmp_path)!r})
stager = HttpStager(Settings(), Context(clock=clock, log=logging.getLogger(), work_dir=folder))
request = FetchRequest(url={server.url!r} + "/f", destination=folder / "in.dat", size={len(DATA)})
try:
    stager.fetch(request, cancel=CancelToken(), deadline=Deadline.after(clock, 20))
except NoSpace:
    print("no space, left:", *folder.iterdir())
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "no space, left:", done.stderr


def test_memory_does_not_grow_with_the_file(bench):
    """512 MiB go through; what the process needs grows by less than 32 MiB."""
    size, block = 512 << 20, bytes(1 << 20)

    def script(connection):
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(block)):
            connection.send(block)

    with ScriptedHttp(script) as server:
        on = bench()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert on.fetch(f"{server.url}/f", size=size).size == size
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
        on.copy.unlink()
