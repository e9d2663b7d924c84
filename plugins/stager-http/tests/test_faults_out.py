"""What becomes of stores when the storage or the network fails: the right class, and nothing left on the storage."""

from __future__ import annotations

import zlib

import pytest

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    ChecksumMismatch,
    Deadline,
    NoSpace,
    PilotErrorCode,
    SizeMismatch,
    SourceNotFound,
    TargetExists,
    TransferError,
    TransferTimeout,
    TransientError,
)
from pilot_core.testing.servers.scripted_http import ScriptedHttp

DATA = bytes(range(256)) * 8192  # 2 MiB


def adler32(data):
    return f"adler32:{zlib.adler32(data):08x}"


def refused(bench, url, error, match="", **what):
    with pytest.raises(error, match=match or None) as caught:
        bench.store(url, **what)
    assert type(caught.value) in {error, *error.__subclasses__()}
    assert str(caught.value).isprintable()
    return caught.value


def test_a_stored_file_is_compared_with_what_the_storage_says(bench, serving, kept):
    files = kept()
    with ScriptedHttp(serving(files)) as server:
        on = bench()
        result = on.store(f"{server.url}/f")
        assert files == {"/f": DATA}
        assert (result.size, result.checksum, result.url) == (len(DATA), adler32(DATA), f"{server.url}/f")
        assert server.methods() == ["PUT", "HEAD"]
        put, head = server.asked
        assert put.headers["expect"] == "100-continue"
        assert put.headers["want-digest"] == head.headers["want-digest"] == "adler32"
        assert {asked.connection for asked in server.asked} == {1}
        assert on.told == sorted(on.told)
        assert on.told[-1] == len(DATA)


def test_a_digest_in_the_answer_to_the_put_is_enough(bench, serving):
    def answer(connection, asked, body):
        connection.answer(201, b"", {"Digest": f"adler32={zlib.adler32(body):08x}"})

    with ScriptedHttp(serving(answer)) as server:
        bench().store(f"{server.url}/f")
        assert server.methods() == ["PUT"]


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512"])
def test_other_checksums_are_asked_for_by_their_names(name, bench, serving, kept):
    with ScriptedHttp(serving(kept())) as server:
        assert bench().store(f"{server.url}/f", checksum=name).checksum.startswith(f"{name}:")
        wire = {"md5": "md5", "sha1": "sha", "sha256": "sha-256", "sha512": "sha-512"}
        assert server.asked[0].headers["want-digest"] == wire[name]


@pytest.mark.parametrize("where", ["put", "head"])
def test_a_storage_that_stored_something_else_is_a_mismatch_and_is_cleaned(where, bench, serving, kept):
    class Wrong(kept):
        def put(self, connection, asked, body):
            self[asked.target] = body
            connection.answer(201, b"", {"Digest": "adler32=deadbeef"} if where == "put" else {})

        def told(self, asked, data):
            return {"Digest": "adler32=deadbeef"}

    files = Wrong()
    with ScriptedHttp(serving(files)) as server:
        error = refused(bench(), f"{server.url}/f", ChecksumMismatch, "the storage says adler32:deadbeef")
        assert error.error_code == PilotErrorCode.PUTADMISMATCH
    assert not files


def test_a_storage_that_kept_only_a_part_is_a_mismatch_and_is_cleaned(bench, serving, kept):
    class Short(kept):
        def put(self, connection, asked, body):
            self[asked.target] = body[:-1]
            connection.answer(201)

    files = Short(digest=False)
    with ScriptedHttp(serving(files)) as server:
        for verify in ("checksum", "size"):
            refused(
                bench(verify=verify), f"{server.url}/f", SizeMismatch, "2097151 bytes are there, 2097152 were stored"
            )
    assert not files


def test_a_stored_file_that_is_not_there_is_a_passing_trouble(bench, serving, kept):
    class Forgetful(kept):
        def put(self, connection, asked, body):
            connection.answer(201)

    with ScriptedHttp(serving(Forgetful())) as server:
        refused(bench(), f"{server.url}/f", TransientError, "was stored, and is not there")


@pytest.mark.parametrize(
    ("status", "error", "deleted"),
    [
        (400, BackendUnavailable, False),
        (401, AuthError, False),
        (403, AuthError, False),
        (405, BackendUnavailable, False),
        (412, TargetExists, False),
        (413, NoSpace, False),
        (429, TransientError, True),
        (500, TransientError, True),
        (503, TransientError, True),
        (507, NoSpace, True),
    ],
)
@pytest.mark.parametrize("size", [1000, 3_000_000], ids=["at-once", "asked-before"])
def test_every_status_of_a_put_is_an_error_of_its_class(status, error, deleted, size, bench, serving):
    """After a body that was sent what may be left is deleted; not after a refusal, which leaves an older file alone."""

    def answer(connection, asked, body):
        connection.answer(status if asked.method == "PUT" else 204)

    with ScriptedHttp(serving(answer)) as server:
        refused(bench(), f"{server.url}/f", error, data=bytes(size))
        assert server.methods() == ["PUT", "DELETE"] if deleted else ["PUT"]


def test_errors_of_stage_out_have_its_codes(bench, answering):
    codes = {403: PilotErrorCode.STAGEOUTAUTHENTICATIONFAILURE, 507: PilotErrorCode.NOREMOTESPACE}
    for status, code in codes.items():
        with ScriptedHttp(answering(status)) as server:
            assert refused(bench(), f"{server.url}/f", (AuthError, NoSpace)[status == 507]).error_code == code


@pytest.mark.parametrize("text", ["Unable to write; no space left on device", "user QUOTA exceeded"])
def test_a_500_that_speaks_of_space_is_no_space(text, bench, answering):
    with ScriptedHttp(answering(500, text.encode())) as server:
        refused(bench(), f"{server.url}/f", NoSpace, "make room there")


def test_a_refusal_before_the_body_sends_no_body(bench):
    def script(connection):
        connection.request()
        connection.answer(507, b"full")
        connection.request()  # the next request, or none: the body would be no request

    with ScriptedHttp(script) as server:
        on = bench()
        refused(on, f"{server.url}/f", NoSpace, "full")
        assert not on.told
        assert server.methods() == ["PUT"]


def test_a_storage_that_fills_up_in_the_midst_is_no_space(bench):
    def script(connection):
        asked = connection.request()
        if asked.method == "PUT":
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.body(100_000)
            connection.answer(507, b"full")
            connection.stall()
        connection.answer(204)

    with ScriptedHttp(script) as server:
        refused(bench(), f"{server.url}/f", NoSpace, "full", data=bytes(50_000_000))
        assert server.methods() == ["PUT", "DELETE"]


def broken(what):
    """Return a script that takes a part of a file and then does something; what was taken it shows until a DELETE."""

    def script(connection):
        asked = connection.request()
        if asked.method != "PUT":
            return connection.answer(204)
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.body(100_000)
        return getattr(connection, what)()

    return script


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_cut_store_is_a_passing_trouble_and_is_cleaned(how, bench):
    with ScriptedHttp(broken(how)) as server:
        refused(bench(), f"{server.url}/f", TransientError, f"{server.url}/f: ", data=bytes(50_000_000))
        assert server.methods() == ["PUT", "DELETE"]


def test_a_stalled_store_ends_after_the_timeout_and_is_cleaned(bench):
    with ScriptedHttp(broken("stall")) as server:
        refused(bench(timeout=0.2), f"{server.url}/f", TransferTimeout, "nothing moved", data=bytes(50_000_000))
        assert server.methods() == ["PUT", "DELETE"]


def test_a_store_ends_at_its_deadline(bench):
    with ScriptedHttp(broken("stall")) as server:
        on = bench()
        on.deadline = Deadline.after(on.clock, 0.3)
        refused(on, f"{server.url}/f", TransferTimeout, data=bytes(50_000_000))


def test_a_stalled_store_is_cancelled_within_a_second_although_the_storage_hangs(bench):
    """The DELETE is tried, and not waited for longer than that."""

    def script(connection):
        connection.request()
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.stall()

    with ScriptedHttp(script) as server:
        on = bench()
        begun = on.clock.monotonic()
        refused(
            on,
            f"{server.url}/f",
            Cancelled,
            "enough",
            data=bytes(50_000_000),
            progress=lambda _: on.cancel.cancel("enough"),
        )
        assert on.clock.monotonic() - begun < 1


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_a_wrong_checksum_of_the_job_is_a_mismatch_and_is_cleaned(size, bench, serving, kept):
    files = kept()
    with ScriptedHttp(serving(files)) as server:
        error = refused(
            bench(), f"{server.url}/f", ChecksumMismatch, "deadbeef", data=bytes(size), checksum="adler32:deadbeef"
        )
        assert error.error_code == PilotErrorCode.PUTADMISMATCH
    assert not files


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_source_that_changes_while_it_is_read_is_a_passing_trouble(change, bench, serving, kept):
    files = kept()
    with ScriptedHttp(serving(files)) as server:
        on = bench()
        source = on.folder / "out.dat"

        def changed(done):
            if done == 1 << 20:
                with source.open("r+b") as file:
                    {"grow": lambda: file.seek(0, 2), "shrink": file.truncate, "rewrite": lambda: file.seek(5)}[
                        change
                    ]()
                    file.write(b"more")

        refused(on, f"{server.url}/f", TransientError, "out.dat", data=bytes(5_000_000), progress=changed)
    assert not files


def test_a_missing_source_asks_the_storage_nothing(bench, serving, kept):
    with ScriptedHttp(serving(kept())) as server:
        on = bench()
        from pilot_core import StoreRequest

        with pytest.raises(SourceNotFound):
            on.stager.store(StoreRequest(source=on.folder / "none", url=f"{server.url}/f"), **on.limits)
        assert not server.asked


# -- names and folders -------------------------------------------------------------------------------------------------


def test_missing_folders_are_made_from_the_deepest_one_up(bench, serving, kept):
    files = kept(folders={"/", "/a/"})
    with ScriptedHttp(serving(files)) as server:
        on = bench()
        on.store(f"{server.url}/a/b%20c/d/f")
        assert files == {"/a/b%20c/d/f": DATA}
        assert [(asked.method, asked.target) for asked in server.asked] == [
            ("PUT", "/a/b%20c/d/f"),
            ("MKCOL", "/a/b%20c/d/"),
            ("MKCOL", "/a/b%20c/"),
            ("MKCOL", "/a/b%20c/d/"),
            ("PUT", "/a/b%20c/d/f"),
            ("HEAD", "/a/b%20c/d/f"),
        ]
        on.store(f"{server.url}/a/b%20c/d/g")
        assert server.methods()[6:] == ["PUT", "HEAD"]


def test_folders_that_may_not_be_made_are_an_auth_error(bench, serving):
    with ScriptedHttp(serving(lambda c, asked, body: c.answer({"PUT": 409, "MKCOL": 403}[asked.method]))) as server:
        refused(bench(), f"{server.url}/a/f", AuthError)


def test_folders_that_cannot_be_made_are_an_error_and_no_circle(bench, answering):
    for status in (404, 409):
        with ScriptedHttp(answering(status)) as server:
            refused(bench(), f"{server.url}/a/b/f", TransferError, f"HTTP {status}")
            assert server.methods() == ["PUT", "MKCOL", "MKCOL"]


def test_an_older_file_is_not_overwritten_unless_that_was_asked_for(bench, serving, kept):
    files = kept()
    files["/f"] = b"older"
    with ScriptedHttp(serving(files)) as server:
        refused(bench(), f"{server.url}/f", TargetExists, "is there already", overwrite=False)
        assert server.methods() == ["HEAD"]
        bench().store(f"{server.url}/g", overwrite=False)
        assert server.asked[2].headers["if-none-match"] == "*"
        bench().store(f"{server.url}/f")
    assert files == {"/f": DATA, "/g": DATA}


def test_a_file_that_somebody_else_stored_meanwhile_is_kept(bench, serving):
    def answer(connection, asked, body):
        connection.answer(404 if asked.method == "HEAD" else 412)

    with ScriptedHttp(serving(answer)) as server:
        refused(bench(), f"{server.url}/f", TargetExists, "is there already", overwrite=False)
        assert server.methods() == ["HEAD", "PUT"]


def test_a_temporary_name_is_given_up_for_the_final_one(bench, serving, kept):
    files = kept()
    with ScriptedHttp(serving(files)) as server:
        bench(temporary_names=True).store(f"{server.url}/a/f")
        assert files == {"/a/f": DATA}
        assert server.methods() == ["PUT", "HEAD", "MOVE"]
        assert server.asked[0].target.startswith("/a/.pilot-")
        assert server.asked[2].headers["destination"] == f"{server.url}/a/f"
        assert server.asked[2].headers["overwrite"] == "T"


def test_of_a_temporary_name_nothing_is_left_after_a_failure(bench, serving, kept):
    class NoMove(kept):
        def move(self, connection, asked, body):
            connection.answer(403)

    files = NoMove()
    files["/a/f"] = b"older"
    with ScriptedHttp(serving(files)) as server:
        refused(bench(temporary_names=True), f"{server.url}/a/f", AuthError)
    assert files == {"/a/f": b"older"}


def test_small_files_are_stored_without_asking_first(bench, serving, kept):
    with ScriptedHttp(serving(kept())) as server:
        on = bench(expect_from=1000)
        on.store(f"{server.url}/f", data=bytes(999))
        on.store(f"{server.url}/f", data=bytes(1000))
        assert ["expect" in asked.headers for asked in server.asked if asked.method == "PUT"] == [False, True]


# -- removing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_removed_and_a_missing_one_is_not_found(bench, serving, kept):
    files = kept()
    files["/f"] = DATA
    with ScriptedHttp(serving(files)) as server:
        bench().remove(f"{server.url}/f")
        assert not files
        with pytest.raises(SourceNotFound):
            bench().remove(f"{server.url}/f")


def test_a_folder_is_never_deleted(bench, serving):
    """WebDAV's DELETE takes all that is in it along."""
    page = b"<D:multistatus><D:prop><lp1:resourcetype><D:collection/></lp1:resourcetype></D:prop></D:multistatus>"

    def redirecting(connection, asked, body):
        connection.answer(301, b"", {"Location": "/folder/"})

    def showing(connection, asked, body):  # as XRootD does
        if asked.method == "PROPFIND":
            connection.answer(207, page)
        else:
            connection.answer(200, b"", {"Content-Length": "4096"})

    for answer in (redirecting, showing):
        with ScriptedHttp(serving(answer)) as server:
            with pytest.raises(SourceNotFound, match="is a folder"):
                bench().remove(f"{server.url}/folder")
            assert "DELETE" not in server.methods()


def test_what_could_not_be_cleaned_is_told(bench, serving, caplog):
    def answer(connection, asked, body):
        connection.answer(500 if asked.method == "PUT" else 403)

    with ScriptedHttp(serving(answer)) as server:
        refused(bench(), f"{server.url}/f?authz=canary", TransientError)
        assert f"{server.url}/f: may be left on the storage" in caplog.text
        assert "canary" not in caplog.text
