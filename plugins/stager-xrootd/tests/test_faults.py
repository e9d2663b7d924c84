"""Storages that let a transfer down in its midst: a real server, behind a wire that breaks, or itself in trouble."""

import os
import random
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    ChecksumMismatch,
    Event,
    NoSpace,
    PilotErrorCode,
    SystemClock,
    TransferTimeout,
    TransientError,
)
from pilot_core.testing.servers.relay import Relay, Trouble
from pilot_core.testing.servers.xrootd import XrootdServer, XrootdStorage

pytestmark = pytest.mark.needs("bin:xrootd", "module:XRootD")

SIZE = 40 * 1024 * 1024 + 1
LARGE = random.Random(1).randbytes(SIZE)
CUT_ONCE = Trouble(kind="cut", after=SIZE // 2)
CUT = Trouble(kind="cut", after=SIZE // 2, times=0)
STALL = Trouble(kind="stall", after=SIZE // 2, times=0)


def at_half(do, size=SIZE):
    """Return a `progress` that does something once, in the midst."""
    done = []

    def progress(moved):
        if moved >= size // 2 and not done:
            done.append(moved)
            do()

    return progress


def workers():
    """Return the processes that this one has as children."""
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for text in lists for pid in text.split()]


def our_workers():
    return [pid for pid in workers() if b"pilot_stager_xrootd" in Path(f"/proc/{pid}/cmdline").read_bytes()]


# -- fetching ----------------------------------------------------------------------------------------------------------


def test_a_download_that_is_cut_goes_on_where_it_ended(bench, storage):
    storage.put("x", LARGE)
    with Relay(storage.server.port, CUT_ONCE) as relay:
        storage.reach("x", relay.port)
        told = []
        bench.fetch(storage.url("x"), size=len(LARGE), progress=told.append)
        assert relay.connections >= 2, "the connection was not cut"
    assert bench.got() == LARGE
    assert told == sorted(told), "it began afresh"


def test_a_download_goes_on_when_its_process_dies(bench, storage):
    storage.put("x", LARGE)
    told = []
    half = at_half(lambda: [os.kill(pid, signal.SIGKILL) for pid in our_workers()])

    def progress(moved):
        told.append(moved)
        half(moved)

    bench.fetch(storage.url("x"), progress=progress)
    assert bench.got() == LARGE
    assert told == sorted(told)


def test_a_download_that_is_cut_for_good_is_worth_another_try(bench_with, storage):
    bench = bench_with(connect_timeout=2, stall_timeout=3)
    storage.put("x", LARGE)
    with Relay(storage.server.port, CUT) as relay:
        storage.reach("x", relay.port)
        with pytest.raises(TransientError):
            bench.fetch(storage.url("x"))
    assert not bench.left()


def test_a_file_that_changes_between_two_parts_is_no_mixture(bench, storage):
    storage.put("x", LARGE)

    def change():
        storage.put("x", LARGE[::-1] + b"more")
        for pid in our_workers():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(TransientError, match="was changed while it was fetched"):
        bench.fetch(storage.url("x"), progress=at_half(change))
    assert not bench.left()


def test_a_download_outlives_a_restart_of_the_server(bench, own_server):
    storage = XrootdStorage(own_server, "k")
    storage.put("x", LARGE)

    def restart():
        own_server.stop()
        own_server.start()

    bench.fetch(storage.url("x"), size=len(LARGE), progress=at_half(restart))
    assert bench.got() == LARGE


def test_a_deadline_ends_a_download_that_stalls(bench, storage):
    storage.put("x", LARGE)
    with Relay(storage.server.port, STALL) as relay:
        storage.reach("x", relay.port)
        bench.seconds = 1.0
        before = bench.clock.monotonic()
        with pytest.raises(TransferTimeout) as caught:
            bench.fetch(storage.url("x"))
        assert bench.clock.monotonic() - before < 3
    assert caught.value.error_code == PilotErrorCode.STAGEINTIMEOUT
    assert not bench.left()


def test_silence_is_given_up_before_the_deadline(bench_with, storage):
    bench = bench_with(stall_timeout=2, connect_timeout=2, resumes=0)
    storage.put("x", LARGE)
    with Relay(storage.server.port, STALL) as relay:
        storage.reach("x", relay.port)
        with pytest.raises((TransientError, TransferTimeout)):
            bench.fetch(storage.url("x"))
    assert not bench.left()


@pytest.mark.parametrize("call", ["stat", "remove", "fetch"])
def test_a_frozen_server_is_not_waited_for(call, bench, own_server):
    storage = XrootdStorage(own_server, "k")
    storage.put("x", b"x")
    own_server.freeze()
    bench.cancel_in(0.3)
    before = bench.clock.monotonic()
    with pytest.raises(Cancelled):
        getattr(bench, call)(storage.url("x"))
    assert bench.clock.monotonic() - before < 2
    own_server.thaw()
    assert storage.names() == {"x"}


def test_a_machine_without_room_for_a_process_is_worth_another_try(bench, storage):
    import resource

    storage.put("x", b"x")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(TransientError, match="no process"):
            bench.stat(storage.url("x"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert bench.stat(storage.url("x")).size == 1


# -- storing -----------------------------------------------------------------------------------------------------------


def test_an_upload_that_stalls_can_be_cancelled(bench, storage):
    with Relay(storage.server.port, replace(STALL, way="up")) as relay:
        storage.reach("x", relay.port)
        bench.cancel_in(1.0)
        before = bench.clock.monotonic()
        with pytest.raises(Cancelled):
            bench.store(storage.url("x"), LARGE)
        assert bench.clock.monotonic() - before < 4
    assert storage.get("x") is None


def test_an_upload_that_is_cut_has_no_final_name(bench_with, storage):
    bench = bench_with(connect_timeout=2, stall_timeout=3)
    with Relay(storage.server.port, replace(CUT, way="up")) as relay:
        storage.reach("x", relay.port)
        with pytest.raises(TransientError):
            bench.store(storage.url("x"), LARGE)
    assert storage.get("x") is None


def test_what_an_upload_leaves_whose_process_dies_is_removed_by_the_storage(bench, storage, caplog):
    half = at_half(lambda: [os.kill(pid, signal.SIGKILL) for pid in our_workers()])
    with pytest.raises(TransientError, match="signal 9"):
        bench.store(storage.url("x"), LARGE, progress=half)
    assert storage.get("x") is None
    assert ".x.part-" in caplog.text
    storage.server.await_log(rf"Unpersisting.*/{storage.folder.name}/\.x\.part-")
    # it says so just before it does it
    clock, never = SystemClock(), Event()
    until = clock.monotonic() + 30
    while storage.names() and clock.monotonic() < until:
        clock.wait(never, until=clock.monotonic() + 0.01)
    assert not storage.names()


def test_bytes_that_the_storage_damages_are_noticed(bench, storage):
    def damage():
        (part,) = storage.folder.glob(".x.part-*")
        with part.open("r+b") as file:
            file.seek(1000)
            file.write(b"damaged")

    with pytest.raises(ChecksumMismatch) as caught:
        bench.store(storage.url("x"), LARGE, progress=at_half(damage))
    assert caught.value.error_code == PilotErrorCode.PUTADMISMATCH
    assert not storage.names()


def test_a_storage_that_lacks_bytes_is_noticed_without_its_checksum(bench_with, storage):
    bench = bench_with(verify_stored=False)
    data = LARGE[: 12 * 1024 * 1024]

    def add():
        (part,) = storage.folder.glob(".x.part-*")
        with part.open("ab") as file:
            file.truncate(len(data) + 5)

    with pytest.raises(ChecksumMismatch, match="bytes were sent"):
        bench.store(storage.url("x"), data, progress=at_half(add, len(data)))
    assert not storage.names()


def test_a_source_that_changes_is_not_stored(bench, storage):
    def grow():
        with (bench.here / "out.dat").open("ab") as file:
            file.write(b"more")

    with pytest.raises(TransientError, match="changed"):
        bench.store(storage.url("x"), LARGE, progress=at_half(grow))
    assert not storage.names()


def test_a_server_without_checksums_takes_files(bench):
    with XrootdServer(checksums=False) as server:
        storage = XrootdStorage(server, "k")
        result = bench.store(storage.url("x"), b"hello")
        assert result.checksum == "adler32:062c0215"
        assert bench.stat(storage.url("x")).checksum == ""
        assert storage.get("x") == b"hello"


def test_a_read_only_storage_is_told_as_such(bench):
    with XrootdServer(options="r/o") as server:
        storage = XrootdStorage(server, "k")
        storage.put("x", b"kept")
        with pytest.raises((BackendUnavailable, AuthError)):
            bench.store(storage.url("new"), b"x")
        with pytest.raises((BackendUnavailable, AuthError)):
            bench.remove(storage.url("x"))
        bench.fetch(storage.url("x"))
        assert storage.names() == {"x"}


@pytest.mark.needs("root", "bin:mount", "bin:umount")
def test_a_full_disk_of_a_storage_is_no_space(bench):
    data = Path("/tmp") / f"xrootd-disk-{os.getpid()}"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(data)], check=True)
    try:
        with XrootdServer(data=data) as server:
            storage = XrootdStorage(server, "k")
            with pytest.raises(NoSpace) as caught:
                bench.store(storage.url("x"), LARGE)
            assert caught.value.error_code == PilotErrorCode.NOREMOTESPACE
            assert not storage.names()
    finally:
        subprocess.run(["umount", str(data)], check=True)
        data.rmdir()
