"""A file's one pass through the pilot: what `Incoming` and `Outgoing` verify, whatever a stager gives and takes."""

from __future__ import annotations

import hashlib
import os
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_core import (
    Cancelled,
    CancelToken,
    ChecksumMismatch,
    Deadline,
    FetchRequest,
    Incoming,
    Outgoing,
    SizeMismatch,
    SourceNotFound,
    StoreRequest,
    SystemClock,
    TransferError,
    TransferTimeout,
    TransientError,
)
from pilot_core.api.extents import Hole

MB = 1 << 20
anywhere = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def limits(seconds=3600.0):
    return {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), seconds)}


def adler(data):
    return f"adler32:{zlib.adler32(data):08x}"


@pytest.fixture
def coming(tmp_path):
    """Begin a fetch; options are those of the request, and `cancel` and `deadline`."""

    def begin(**options):
        control = {**limits(), **{name: options.pop(name) for name in ("cancel", "deadline") if name in options}}
        return Incoming(FetchRequest(url="x://host/x", destination=tmp_path / "x", **options), **control)

    return begin


@pytest.fixture
def going(tmp_path):
    """Begin a store of some bytes."""

    def begin(data=b"data", **options):
        control = {**limits(), **{name: options.pop(name) for name in ("cancel", "deadline") if name in options}}
        (tmp_path / "source").write_bytes(data)
        return Outgoing(StoreRequest(source=tmp_path / "source", url="x://host/x", **options), **control)

    return begin


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- in ---------------------------------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(st.binary(max_size=300), st.integers(1, 200_000), st.just("restart"), st.integers(0, 10**6).map(str)),
    max_size=12,
)


@given(steps)
@anywhere
def test_what_is_published_is_what_came_since_the_last_beginning(tmp_path, steps):
    request = FetchRequest(url="x://host/x", destination=tmp_path / "x", checksum="")
    expected = b""
    with Incoming(request, **limits()) as incoming:
        for step in steps:
            if step == "restart":
                incoming.restart()
                expected = b""
            elif isinstance(step, str):
                incoming.expect(int(step))
            elif isinstance(step, int):
                incoming.hole(step)
                expected += bytes(step)
            else:
                incoming.write(step)
                expected += step
            assert incoming.received == len(expected)
        incoming.expect(len(expected))
        result = incoming.publish(url="x://other/x")
    assert (result.size, result.checksum, result.url) == (len(expected), adler(expected), "x://other/x")
    assert (tmp_path / "x").read_bytes() == expected
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, MB, 5 * MB + 3])
def test_blocks_of_any_length_and_kind_are_written_whole(coming, tmp_path, size):
    data = os.urandom(size)
    for kind in (bytes, bytearray, memoryview):
        with coming(size=size, checksum=adler(data)) as incoming:
            incoming.write(kind(data))
            incoming.publish(url="x")
        assert (tmp_path / "x").read_bytes() == data


def test_a_block_may_be_reused(coming, tmp_path):
    buffer = bytearray(b"first")
    with coming() as incoming:
        incoming.write(buffer)
        buffer[:] = b"again"
        incoming.write(buffer)
        assert incoming.publish(url="x").checksum == adler(b"firstagain")


def test_fewer_and_more_bytes_than_the_storage_announced_are_tried_again(coming, tmp_path):
    for known in (None, 5):
        for announced, data in ((5, b"1234"), (5, b"12345" if known else b"123456")):
            with coming(size=known) as incoming:
                incoming.expect(announced)
                incoming.write(data)
                if len(data) == announced:
                    continue
                with pytest.raises(TransientError, match=f"{len(data)} bytes came of the 5 that the storage announced"):
                    incoming.publish(url="x")
    assert names(tmp_path) == []


def test_sizes_that_the_catalogue_does_not_know_end_a_fetch_at_once(coming, tmp_path):
    with pytest.raises(SizeMismatch, match="6 bytes, but the catalogue says 5"):
        coming(size=5).expect(6)
    with coming(size=5) as incoming, pytest.raises(SizeMismatch, match="more than the 5 bytes"):
        incoming.write(b"123456")
    with coming(size=5) as incoming, pytest.raises(SizeMismatch, match="more than the 5 bytes"):
        incoming.hole(6)
    with coming(size=5) as incoming:
        incoming.write(b"1234")
        with pytest.raises(SizeMismatch, match="4 bytes, but the catalogue says 5"):
            incoming.publish(url="x")
    assert names(tmp_path) == []


def test_a_wrong_checksum_is_not_published_and_the_older_file_stays(coming, tmp_path):
    (tmp_path / "x").write_bytes(b"older")
    with coming(checksum=adler(b"other")) as incoming:
        incoming.write(b"data")
        with pytest.raises(ChecksumMismatch, match="was expected"):
            incoming.publish(url="x")
    assert (tmp_path / "x").read_bytes() == b"older"
    assert names(tmp_path) == ["x"]


def test_a_checksum_that_nobody_computes_is_refused_before_anything_is_written(coming, going, tmp_path):
    for begin in (coming, going):
        with pytest.raises(TransferError, match="crc32"):
            begin(checksum="crc32:12345678")
    assert names(tmp_path) == ["source"]


def test_cancellation_and_time_end_every_step(coming, tmp_path):
    late = Deadline.after(SystemClock(), -1)
    cancelled = CancelToken()
    cancelled.cancel("enough")
    for error, option in ((TransferTimeout, {"deadline": late}), (Cancelled, {"cancel": cancelled})):
        for step in (lambda i: i.write(b"x"), lambda i: i.hole(5), lambda i: i.publish(url="x"), lambda i: i.check()):
            with coming(**option) as incoming, pytest.raises(error):
                step(incoming)
    assert names(tmp_path) == []


def test_progress_tells_every_block_and_an_empty_file_too(coming):
    seen = []
    with coming(progress=seen.append) as incoming:
        for step in (b"ab", b"c"):
            incoming.write(step)
        incoming.hole(10)
        incoming.publish(url="x")
    with coming(progress=seen.append) as incoming:
        incoming.publish(url="x")
    assert seen == [2, 3, 13, 0]


def test_nothing_is_used_outside_the_block(coming, going):
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        coming().write(b"x")
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        _ = going().size


# -- out --------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=2000), st.integers(1, 700), st.integers(0, 4))
@anywhere
def test_every_pass_yields_the_whole_file_and_its_checksum(tmp_path, data, length, given_up):
    (tmp_path / "source").write_bytes(data)
    request = StoreRequest(source=tmp_path / "source", url="x://host/x", checksum="md5")
    with Outgoing(request, **limits()) as outgoing:
        assert outgoing.size == len(data)
        for _, _block in zip(range(given_up), outgoing.blocks(length), strict=False):
            pass  # a connection that breaks: the stager begins again
        blocks = [bytes(block) for block in outgoing.blocks(length)]
        assert str(outgoing.finish()) == f"md5:{hashlib.md5(data).hexdigest()}"
    assert b"".join(blocks) == data
    assert all(len(block) == length for block in blocks[:-1])


def test_holes_are_yielded_as_such_or_as_zeros(tmp_path):
    data = b"head" + bytes(3 * MB) + b"tail"
    with (tmp_path / "source").open("wb") as file:
        file.write(b"head")
        file.seek(len(data) - 4)
        file.write(b"tail")
    request = StoreRequest(source=tmp_path / "source", url="x://host/x", checksum=adler(data))
    with Outgoing(request, **limits()) as outgoing:
        assert b"".join(map(bytes, outgoing.blocks())) == data
        assert str(outgoing.finish()) == adler(data)
        pieces = [bytes(piece.length) if isinstance(piece, Hole) else bytes(piece) for piece in outgoing.pieces()]
        assert b"".join(pieces) == data
        assert str(outgoing.finish()) == adler(data)
        assert sum(piece.length for piece in outgoing.pieces() if isinstance(piece, Hole)) > 2 * MB


def test_a_pass_that_did_not_reach_the_end_is_not_a_whole_file(going):
    with going(b"x" * 1000) as outgoing:
        blocks = outgoing.blocks(100)
        next(blocks)
        next(blocks)
        with pytest.raises(TransientError, match="only 100 of its 1000 bytes were read, though"):
            outgoing.finish()


def test_a_file_that_changes_before_it_is_finished_is_tried_again(going, tmp_path):
    with going() as outgoing:
        for _ in outgoing.blocks():
            pass
        (tmp_path / "source").write_bytes(b"later")
        with pytest.raises(TransientError, match="changed while it was read"):
            outgoing.finish()


def test_a_known_checksum_of_an_output_has_to_be_met(going):
    with going(checksum=adler(b"other")) as outgoing:
        for _ in outgoing.blocks():
            pass
        with pytest.raises(ChecksumMismatch, match="was expected"):
            outgoing.finish()


def test_a_store_is_cancelled_between_blocks(going):
    cancel = CancelToken()
    with going(b"x" * 1000, cancel=cancel) as outgoing:
        blocks = outgoing.blocks(100)
        next(blocks)
        cancel.cancel("enough")
        with pytest.raises(Cancelled, match="enough"):
            next(blocks)


def test_an_output_that_is_missing_is_told_before_anything_is_sent(tmp_path):
    request = StoreRequest(source=tmp_path / "none", url="x://host/x")
    with pytest.raises(SourceNotFound), Outgoing(request, **limits()):
        pass
