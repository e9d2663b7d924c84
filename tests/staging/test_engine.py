"""A job's files moved side by side: what is planned, watched, called off, believed and told."""

from __future__ import annotations

import json
import os
import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from staging_bench import (
    ADLER,
    CONTENT,
    PATIENCE,
    Shelf,
    Told,
    all_in,
    input_file,
    loaded,
    mover_of,
    queue_at,
    real_backends,
)

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    Event,
    FetchRequest,
    HandledError,
    InputFile,
    JobDescriptionError,
    NoSpace,
    OutputFile,
    PilotErrorCode,
    PluginError,
    Replica,
    SourceNotFound,
    SystemClock,
    TransferAttempt,
    TransferResult,
    TransferTimeout,
    TransientError,
)
from pilot_core.logs import job_logger
from pilot_core.staging import START_ALLOWANCE, AttemptFile, Limits, Space, free_space, in_words, time_allowed
from pilot_core.staging.lane import Attempt
from pilot_core.staging.ledger import Ledger
from pilot_core.staging.limits import SLOWDOWN, WINDOW, Rates
from pilot_core.staging.reporter import INTERVAL, LOG_INTERVAL, Reporter
from pilot_core.staging.strays import sweep
from pilot_core.staging.transfer import Transfer
from pilot_core.testing.clock import FakeClock


def lfns(number):
    return [f"f{index}" for index in range(number)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- side by side ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 4])
def test_as_many_files_move_at_the_same_time_as_the_limit_says_and_no_more(folder, cancel, limit):
    full = Event()

    def does(*_):
        if told.most >= limit:
            full.set()
        assert told.clock.wait(full, until=told.clock.monotonic() + PATIENCE)

    told = Told(does)
    mover = mover_of(Shelf(one=told), limits=Limits(transfers=limit))
    all_in(mover, folder, [input_file(lfn) for lfn in lfns(12)], cancel)
    assert told.most == limit
    assert names(folder) == sorted(lfns(12))


def test_copies_of_small_files_on_this_machine_do_not_hinder_each_other(folder, cancel):
    told = Told()
    mover = mover_of(Shelf("file", one=told), queue_at("file:///data"), limits=Limits(transfers=4))
    all_in(mover, folder, [input_file(lfn) for lfn in lfns(50)], cancel)
    assert told.most == 1
    assert told.names == lfns(50)


def test_results_are_in_the_order_of_the_files_whatever_the_order_of_their_ends(folder, cancel):
    second = Event()

    def does(name, *_):
        if name == "f0":
            assert told.clock.wait(second, until=told.clock.monotonic() + PATIENCE)

    class Heard(list):
        def append(self, attempt):
            super().append(attempt)
            second.set()

    told = Told(does)
    mover = mover_of(Shelf(one=told), told=Heard())
    moved = all_in(mover, folder, [input_file(lfn) for lfn in lfns(2)], cancel)
    assert [each.transfer.lfn for each in moved] == ["f0", "f1"]
    assert [attempt.lfn for attempt in mover.ledger] == ["f1", "f0"]


def test_in_turn_files_are_moved_in_the_given_order_by_the_jobs_own_thread(folder, cancel):
    told = Told()
    asked = []

    def order(urls):
        asked.extend(urls)
        return [2, 0, 1]

    mover = mover_of(Shelf(one=told), in_turn=order)
    all_in(mover, folder, [input_file(lfn) for lfn in lfns(3)], cancel)
    assert asked == [["disk://A/f0"], ["disk://A/f1"], ["disk://A/f2"]]
    assert told.names == ["f2", "f0", "f1"]
    assert told.threads == {threading.current_thread().name}


@pytest.mark.parametrize("size", [0, 1, 100_000])
@pytest.mark.parametrize("lfn", ["plain", "with space", "ü文.root", "a%20b", "#hash?", "-dash", "x" * 250])
def test_any_name_and_any_size_comes_in_and_goes_out_by_the_real_stager(tmp_path, folder, cancel, lfn, size):
    storage = tmp_path / "storage"
    storage.mkdir()
    data = b"x" * size
    (storage / lfn).write_bytes(data)
    queue = queue_at(storage.as_uri())
    mover = mover_of(real_backends(queue, SystemClock(), tmp_path), queue)
    all_in(mover, folder, [input_file(lfn, data)], cancel)
    assert (folder / lfn).read_bytes() == data
    (storage / lfn).unlink()
    mover.bring_out(OutputFile(lfn=lfn), folder / lfn, "write", cancel=cancel)
    assert (storage / lfn).read_bytes() == data
    assert [attempt.outcome for attempt in mover.ledger] == ["ok", "ok"]


def test_a_thousand_files_come_in(tmp_path, folder, cancel):
    storage = tmp_path / "storage"
    storage.mkdir()
    files = [input_file(f"file {number}", str(number).encode()) for number in range(1000)]
    for number, file in enumerate(files):
        (storage / file.lfn).write_text(str(number))
    queue = queue_at(storage.as_uri())
    mover = mover_of(real_backends(queue, SystemClock(), tmp_path), queue)
    all_in(mover, folder, files, cancel)
    assert len(mover.ledger) == len(names(folder)) == 1000
    assert all((folder / file.lfn).read_text() == str(number) for number, file in enumerate(files))


def test_where_fewer_threads_may_be_had_they_move_all_files(folder, cancel, monkeypatch):
    start, started = threading.Thread.start, []

    def few(thread):
        if thread.name.startswith("transfer-") and len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    all_in(mover_of(Shelf(one=Told())), folder, [input_file(lfn) for lfn in lfns(9)], cancel)
    assert names(folder) == lfns(9)
    with pytest.raises(HandledError, match="no file can be moved: can't start new thread"):
        all_in(mover_of(Shelf(one=Told())), folder, [input_file("g")], cancel)


def test_a_job_without_inputs_needs_nothing(folder, cancel):
    assert all_in(mover_of(Shelf()), folder, [], cancel) == ()


# -- before the first byte ---------------------------------------------------------------------------------------------


def test_nothing_is_moved_if_one_of_the_files_has_no_way_in(folder, cancel):
    told = Told()
    queue = queue_at("disk://A", "tape://B")
    mover = mover_of(Shelf(one=told), queue)
    with pytest.raises(BackendUnavailable, match=r"^f1: no stager here serves tape") as caught:
        all_in(mover, folder, [input_file("f0", rse="A"), input_file("f1", rse="B")], cancel)
    assert caught.value.error_code is PilotErrorCode.NOSTORAGEPROTOCOL
    assert (told.names, names(folder), list(mover.ledger)) == ([], [], [])


def test_the_same_input_twice_is_fetched_once(folder, cancel):
    told = Told()
    all_in(mover_of(Shelf(one=told)), folder, [input_file("f"), InputFile(lfn="f"), input_file("f")], cancel)
    assert told.names == ["f"]


@pytest.mark.parametrize("other", [{"scope": "other"}, {"size": 5}, {"checksum": "adler32:00000001"}])
def test_two_inputs_of_one_name_are_refused_before_the_first_byte(folder, cancel, other):
    told = Told()
    with pytest.raises(JobDescriptionError, match="would have one name in the job's directory"):
        all_in(mover_of(Shelf(one=told)), folder, [input_file("f"), InputFile(**{"lfn": "f", **other})], cancel)
    assert told.names == []


def test_inputs_that_do_not_fit_are_not_begun(folder, cancel):
    told = Told()
    space = Space(reserve=1_000_000, free=lambda _: 5_000_000)
    mover = mover_of(Shelf(one=told), space=space)
    files = [InputFile(lfn="small", size=1), InputFile(lfn="large", size=4_000_000)]
    with pytest.raises(NoSpace) as caught:
        all_in(mover, folder, files, cancel)
    assert caught.value.error_code is PilotErrorCode.NOLOCALSPACE
    assert str(caught.value) == (
        "no room for the job's 2 inputs (large is the largest): 4 MB (4000001 bytes) are needed, and "
        f"{folder} has 5 MB free, of which 1 MB stay free; make room there, or give the pilot a larger disk"
    )
    assert told.names == []


def test_jobs_of_one_pilot_do_not_count_on_the_same_space(tmp_path):
    space = Space(free=lambda _: 100)
    with space.hold(tmp_path, 60, "one") as hold:
        with pytest.raises(NoSpace, match="60 B are promised to other jobs"), space.hold(tmp_path, 60, "two"):
            pass
        hold.used(30)
        with space.hold(tmp_path, 60, "two"):
            pass
    with space.hold(tmp_path, 100, "three"):
        pass


def test_a_file_system_that_knows_no_blocks_has_room(tmp_path, monkeypatch):
    assert 0 < free_space(tmp_path) < sys.maxsize
    nothing = SimpleNamespace(f_blocks=0, f_bavail=0, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: nothing)
    with Space().hold(tmp_path, 10**15, "a lot"):
        pass


def test_files_of_unknown_size_need_no_promise(tmp_path):
    with Space(free=lambda _: 0).hold(tmp_path, 0, "nothing"):
        pass


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_600, "1 MB"), (12_345_678_901, "12.3 GB")]
)
def test_sizes_are_said_in_words(size, text):
    assert in_words(size) == text


# -- what fails --------------------------------------------------------------------------------------------------------


def test_every_input_that_fails_is_told_and_the_others_come(folder, cancel):
    errors = {"f1": SourceNotFound("f1: gone"), "f2": AuthError("f2: expired"), "f4": SourceNotFound("f4: gone")}

    def does(name, *_):
        if name in errors:
            raise errors[name]

    mover = mover_of(Shelf(one=Told(does)))
    with pytest.raises(AuthError) as caught:
        all_in(mover, folder, [input_file(lfn) for lfn in lfns(5)], cancel)
    assert str(caught.value) == "f2: expired; 2 more failed: f1 (SourceNotFound), f4 (SourceNotFound)"
    assert caught.value.error_code is PilotErrorCode.STAGEINAUTHENTICATIONFAILURE
    assert names(folder) == ["f0", "f3"]
    assert len(mover.ledger) == 5


def test_many_failures_make_no_endless_text(folder, cancel):
    def does(name, *_):
        raise SourceNotFound(f"{name}: gone")

    with pytest.raises(SourceNotFound) as caught:
        all_in(mover_of(Shelf(one=Told(does))), folder, [input_file(lfn) for lfn in lfns(100)], cancel)
    assert str(caught.value).startswith("f0: gone; 99 more failed: f1 (SourceNotFound), ")
    assert str(caught.value).endswith("f10 (SourceNotFound) and 89 more")


def test_a_full_disk_calls_off_the_other_transfers(folder, cancel):
    begun = Event()

    def does(name, request, token):
        if name == "f1":
            assert told.clock.wait(begun, until=told.clock.monotonic() + PATIENCE)
            raise NoSpace("f1: no room")
        if name == "f0":
            begun.set()
        told.until(token)

    told = Told(does)
    mover = mover_of(Shelf(one=told), limits=Limits(transfers=2))
    with pytest.raises(NoSpace, match=r"^f1: no room$"):
        all_in(mover, folder, [input_file(lfn) for lfn in lfns(10)], cancel)
    assert told.names == ["f0", "f1"]
    assert {(one.lfn, one.outcome) for one in mover.ledger} == {("f0", "Cancelled"), ("f1", "NoSpace")}
    assert "called off, because f1 failed" in next(one.error for one in mover.ledger if one.lfn == "f0")


def test_an_output_that_fails_calls_off_the_others(tmp_path, folder, cancel):
    begun = Event()

    def does(name, request, token):
        if name == "f1":
            assert told.clock.wait(begun, until=told.clock.monotonic() + PATIENCE)
            raise AuthError("f1: expired")
        begun.set()
        told.until(token)

    told = Told(does)
    mover = mover_of(Shelf(one=told), limits=Limits(transfers=2))
    for lfn in lfns(5):
        (folder / lfn).write_bytes(CONTENT)
    with pytest.raises(AuthError) as caught:
        mover.bring_all_out([(OutputFile(lfn=lfn), folder / lfn) for lfn in lfns(5)], "write", cancel=cancel)
    assert caught.value.error_code is PilotErrorCode.STAGEOUTAUTHENTICATIONFAILURE
    assert sorted(told.names) == ["f0", "f1"]


def test_a_cancelled_job_ends_its_transfers_within_a_second(folder, cancel):
    clock = SystemClock()
    when = []

    def does(name, request, token):
        if told.most == 4:
            when.append(clock.monotonic())
            cancel.cancel("tobekilled")
        told.until(token)

    told = Told(does)
    mover = mover_of(Shelf(one=told), limits=Limits(transfers=4))
    with pytest.raises(Cancelled, match=r"^tobekilled$"):
        all_in(mover, folder, [input_file(lfn) for lfn in lfns(100)], cancel)
    assert clock.monotonic() - when[0] < 1
    assert len(told.names) == 4
    assert names(folder) == []


def test_a_bug_of_the_pilot_in_a_transfer_comes_out_where_the_job_is_judged(folder, cancel):
    def broken(attempt):
        raise ZeroDivisionError("a bug")

    mover = mover_of(Shelf(one=Told()), told=None)
    mover._ledger = mover._attempts._ledger = Ledger(broken)
    with pytest.raises(ZeroDivisionError):
        all_in(mover, folder, [input_file(lfn) for lfn in lfns(10)], cancel)


# -- too slow ----------------------------------------------------------------------------------------------------------


class Watched:
    """An attempt whose time a test makes pass."""

    def __init__(self, size=10_000_000, allowed=1e6, **limits):
        self.clock = FakeClock()
        self.limits = Limits(**limits)
        replica = Replica(url="disk://user:secret@A/f", rse="A")
        transfer = Transfer(activity="read", lfn="f", local=None, replicas=(replica,), size=size)
        stager = loaded("one", "pilot_stagein")
        self.attempt = Attempt(transfer, replica, stager, self.clock, allowed=allowed)

    def after(self, seconds, moved=None):
        self.clock.advance(seconds)
        if moved is not None:
            self.attempt.progress(moved)
        return self.attempt.fault(self.clock.monotonic(), self.limits)


def test_a_transfer_that_stands_still_in_its_middle_has_stalled():
    watched = Watched(stall=60)
    assert watched.after(30, moved=1000) == ""
    assert watched.after(59.9) == ""
    assert watched.after(0.1) == "disk://A/f: no byte moved for 60 s, at 1000 of 10000000 bytes"


def test_before_the_first_byte_and_after_the_last_there_is_time():
    watched = Watched(stall=60)
    assert watched.after(START_ALLOWANCE - 1) == ""
    assert "no byte moved for 600 s, at 0 of 10000000 bytes" in watched.after(1)
    watched = Watched(stall=60, size=1000)
    assert watched.after(1, moved=1000) == ""
    assert watched.after(START_ALLOWANCE - 1) == ""
    assert "at 1000 of 1000 bytes" in watched.after(1)


def test_a_transfer_that_drips_is_noticed():
    watched = Watched(stall=60, slowest=1000)
    watched.after(500, moved=1)
    faults = [watched.after(10, moved=1 + 10 * number) for number in range(1, 31)]
    assert not any(faults[:-1])
    assert faults[-1] == ("disk://A/f: only 300 bytes moved in 300 s; below 1000 bytes a second it is given up")


def test_a_transfer_at_the_least_rate_goes_on():
    watched = Watched(stall=60, slowest=1000)
    moved = 1
    watched.after(1, moved=moved)
    for _ in range(200):
        moved += 10_000
        assert watched.after(10, moved=moved) == ""


def test_a_transfer_that_its_stager_does_not_end_in_time_is_ended():
    watched = Watched(stall=60, slowest=0, allowed=100, grace=30)
    for moved in range(1, 13):
        assert watched.after(10, moved=moved) == ""
    assert watched.attempt.look_at(watched.limits) == watched.attempt.began + 130
    assert watched.after(10, moved=13) == (
        "disk://A/f: not moved within the 100 s allowed for it, nor given up by its stager"
    )


def test_a_transfer_that_begins_again_is_measured_anew():
    watched = Watched(stall=60, slowest=1000)
    watched.after(1, moved=5_000_000)
    assert watched.after(50, moved=1) == ""
    assert watched.after(WINDOW - 10, moved=10_000_000 - 1) == ""


def test_progress_that_says_the_same_again_is_none():
    watched = Watched(stall=60)
    watched.after(1, moved=1000)
    watched.after(30, moved=1000)
    assert "no byte moved for 60 s" in watched.after(30, moved=1000)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=30),
    st.sampled_from([0, 1, 999, 10_000_000, None]),
)
def test_who_looks_when_it_is_said_misses_no_stall_and_nothing_else_is_one(steps, size):
    watched = Watched(size=size, stall=60, slowest=0)
    last = before = time = 0
    for seconds, moved in steps:
        time += seconds
        if moved != before:
            last, before = time, moved
        patience = 60 if 0 < moved != size else START_ALLOWANCE
        assert bool(watched.after(seconds, moved=moved)) == (time - last >= patience)
    look = watched.attempt.look_at(watched.limits)
    assert watched.after(max(0.0, look - watched.clock.monotonic()) + 1e-6)


def test_a_stalled_transfer_is_called_off_and_tried_again(folder, cancel):
    """In a clock in which a minute takes a fifth of a second."""
    stalls = []

    def does(name, request, token):
        if not stalls:
            stalls.append(name)
            request.progress(3)
            told.until(token)

    told = Told(does)
    mover = mover_of(Shelf(one=told), clock=SystemClock(scale=300), limits=Limits(stall=60))
    all_in(mover, folder, [input_file("f")], cancel)
    first, second = mover.ledger
    assert (first.outcome, second.outcome) == ("TransferTimeout", "ok")
    assert first.error.startswith("disk://A/f: no byte moved for 6")
    assert first.error.endswith(" s, at 3 of 22 bytes")


def test_a_stalled_transfer_calls_off_no_other(folder, cancel):
    stalled = Event()

    def does(name, request, token):
        if name == "f0" and not stalled.is_set():
            request.progress(3)
            try:
                told.until(token)
            finally:
                stalled.set()
        if name == "f1":
            for moved in range(1, 200):
                request.progress(moved % CONTENT.__len__() or 1)
                if told.clock.wait(token, stalled, until=told.clock.monotonic() + 0.05):
                    break
            token.raise_if_cancelled()

    told = Told(does)
    mover = mover_of(Shelf(one=told), clock=SystemClock(scale=300), limits=Limits(stall=90, transfers=2))
    all_in(mover, folder, [input_file(lfn) for lfn in ("f0", "f1", "f2")], cancel)
    assert sorted((one.lfn, one.outcome) for one in mover.ledger) == [
        ("f0", "TransferTimeout"),
        ("f0", "ok"),
        ("f1", "ok"),
        ("f2", "ok"),
    ]


def test_an_output_that_stalls_has_the_code_of_stage_out(folder, cancel):
    def does(name, request, token):
        request.progress(3)
        told.until(token)

    told = Told(does)
    (folder / "f").write_bytes(CONTENT)
    mover = mover_of(Shelf(one=told), clock=SystemClock(scale=1000), limits=Limits(stall=60))
    with pytest.raises(TransferTimeout) as caught:
        mover.bring_out(OutputFile(lfn="f"), folder / "f", "write", cancel=cancel)
    assert caught.value.error_code is PilotErrorCode.STAGEOUTTIMEOUT


def test_a_stager_that_does_not_heed_its_token_is_named_and_left_behind(folder, cancel):
    released = Event()

    def does(name, request, token):
        request.progress(3)
        told.clock.wait(released, until=told.clock.monotonic() + PATIENCE)
        raise TransientError("at last")

    told = Told(does)
    limits = Limits(stall=60, grace=10)
    mover = mover_of(Shelf(one=told), clock=SystemClock(scale=300), limits=limits)
    with pytest.raises(PluginError) as caught:
        all_in(mover, folder, [input_file("f")], cancel)
    assert str(caught.value).startswith("plugin stager.one (pilot-stager-one 1.2) does not heed that f was called off ")
    released.set()
    for thread in threading.enumerate():
        if thread.name.startswith("transfer-"):
            thread.join()


def test_a_cancelled_job_does_not_wait_for_a_stager_that_heeds_nothing(folder, cancel):
    released = Event()

    def does(*_):
        cancel.cancel("tobekilled")
        told.clock.wait(released, until=told.clock.monotonic() + PATIENCE)

    told = Told(does)
    mover = mover_of(Shelf(one=told), clock=SystemClock(scale=100), limits=Limits(grace=10))
    with pytest.raises(PluginError, match="does not heed that f was called off"):
        all_in(mover, folder, [input_file("f")], cancel)
    released.set()
    for thread in threading.enumerate():
        if thread.name.startswith("transfer-"):
            thread.join()


# -- how long ----------------------------------------------------------------------------------------------------------

SIZES = st.integers(0, 10**14)


@given(SIZES, SIZES, st.floats(0, 1e12), st.floats(0, 1e12))
def test_the_time_allowed_grows_with_the_size_and_shrinks_with_the_rate_within_reason(size, more, rate, faster):
    allowed = time_allowed(size, rate)
    assert START_ALLOWANCE <= allowed <= START_ALLOWANCE + size / (256 * 1024) < float("inf")
    assert time_allowed(size + more, rate) >= allowed
    assert time_allowed(size, rate + faster) <= allowed
    # fifty times slower than it was seen to be is still in time
    if rate:
        assert allowed >= START_ALLOWANCE + min(size / rate * SLOWDOWN, size / (256 * 1024)) * 0.999


def test_a_hundred_gigabytes_have_days_on_a_slow_storage_and_hours_on_a_fast_one():
    assert 4 * 86400 < time_allowed(10**11) < 5 * 86400
    assert 5 * 3600 < time_allowed(10**11, 250e6) < 7 * 3600


def test_rates_are_those_of_large_files_only():
    rates = Rates()
    rates.observe("http", "A", 1000, 0.001)
    assert rates.of("http", "A") == 0
    rates.observe("http", "A", 10**9, 10)
    rates.observe("http", "A", 10**9, 5)
    assert rates.of("http", "A") == 1.5e8
    assert rates.of("http", "B") == 0


# -- what a stager says ------------------------------------------------------------------------------------------------

LIES = {
    "fewer bytes than it says": lambda request: (request.destination.write_bytes(b"x"), (22, ADLER)),
    "another size than the catalogue's": lambda request: (
        request.destination.write_bytes(b"x"),
        (1, "adler32:00790079"),
    ),
    "another checksum than the catalogue's": lambda request: (
        request.destination.write_bytes(CONTENT),
        (22, "adler32:00000001"),
    ),
    "no checksum": lambda request: (request.destination.write_bytes(CONTENT), (22, "")),
    "nothing at all": lambda request: (None, (22, ADLER)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_stager_that_lies_is_a_bug_and_the_next_one_is_asked(folder, cancel, lie):
    def does(name, request, token):
        size, checksum = LIES[lie](request)[1]
        return TransferResult(size=size, checksum=checksum, url=request.url)

    mover = mover_of(Shelf(liar=Told(does), honest=Told()))
    all_in(mover, folder, [input_file("f")], cancel)
    assert [(one.backend, one.outcome) for one in mover.ledger] == [("liar", "PluginError"), ("honest", "ok")]
    assert "plugin stager.liar (pilot-stager-liar 1.2) broke: ValueError" in mover.ledger[0].error
    assert (folder / "f").read_bytes() == CONTENT
    mover = mover_of(Shelf(liar=Told(does)))
    with pytest.raises(PluginError):
        all_in(mover, folder, [input_file("g")], cancel)
    assert not (folder / "g").exists() or lie == "no checksum"


def test_a_file_comes_from_the_second_replica_when_the_first_is_corrupt(tmp_path, folder, cancel):
    for rse, content in (("a", b"x" * len(CONTENT)), ("b", CONTENT)):
        (tmp_path / rse).mkdir()
        (tmp_path / rse / "f").write_bytes(content)
    queue = queue_at((tmp_path / "a").as_uri(), (tmp_path / "b").as_uri())
    mover = mover_of(real_backends(queue, SystemClock(), tmp_path), queue)
    all_in(mover, folder, [input_file("f")], cancel)
    assert [(one.rse, one.outcome) for one in mover.ledger] == [("A", "ChecksumMismatch"), ("B", "ok")]
    assert (folder / "f").read_bytes() == CONTENT


def test_what_fails_alike_at_the_same_moment_is_told_in_the_order_of_the_files(folder, cancel):
    clock = SystemClock()

    def does(name, request, token):
        if name == "a":  # it fails when the other one has
            clock.wait(token, until=clock.monotonic() + PATIENCE)
        raise NoSpace(f"{name} finds no room")

    with pytest.raises(NoSpace, match="a finds no room"):
        all_in(mover_of(Shelf(one=Told(does))), folder, [input_file(name, b"x" * (1 << 24)) for name in "ab"], cancel)


@pytest.mark.parametrize(("places", "tries"), [(("disk://A",), [6]), (("disk://A", "disk://B"), [3, 6])])
def test_an_output_is_tried_for_longer_where_it_has_no_other_place_to_go(folder, cancel, places, tries):
    def does(name, request, token):
        raise TransientError("it restarts", retry_after=0)

    (folder / "f").write_bytes(CONTENT)
    mover = mover_of(Shelf(one=Told(does)), queue_at(*places))
    with pytest.raises(TransientError) as caught:
        mover.bring_out(OutputFile(lfn="f"), folder / "f", "write", cancel=cancel)
    assert caught.value.error_code is PilotErrorCode.STAGEOUTFAILED
    assert [sum(one.rse == rse for one in mover.ledger) for rse in "AB"[: len(places)]] == tries


# -- what is left ------------------------------------------------------------------------------------------------------


def test_partial_files_of_a_pilot_that_was_killed_are_swept_away_and_nothing_else(folder, cancel):
    strays = [".f.part-0123456789abcdef", f".{'x' * 100}.part-0123456789abcdef"]
    kept = [".f.part-0123456789abcde", "f.part-0123456789abcdef", ".f.part-0123456789ABCDEF", ".hidden"]
    for name in (*strays, *kept):
        (folder / name).write_bytes(b"x")
    (folder / ".d.part-0123456789abcdef").mkdir()
    all_in(mover_of(Shelf(one=Told())), folder, [input_file("f")], cancel)
    assert names(folder) == sorted([*kept, ".d.part-0123456789abcdef", "f"])


def test_what_a_stager_left_half_done_is_swept_away(folder, cancel):
    def does(name, request, token):
        request.destination.with_name(f".{name}.part-0123456789abcdef").write_bytes(b"x")
        raise SourceNotFound("gone")

    with pytest.raises(SourceNotFound):
        all_in(mover_of(Shelf(one=Told(does))), folder, [input_file("f")], cancel)
    assert names(folder) == []


def test_a_folder_that_is_not_there_has_no_partial_files(tmp_path):
    assert sweep(tmp_path / "none") == []


# -- the ledger --------------------------------------------------------------------------------------------------------


def attempt_of(lfn="f", **more):
    values = {
        "activity": "read",
        "url": "disk://A/f",
        "rse": "A",
        "backend": "one",
        "backend_version": "1.2",
        "number": 1,
        "started": 1.5,
        "seconds": 0.5,
        "bytes": 22,
        "outcome": "ok",
    }
    return TransferAttempt(lfn=lfn, **{**values, **more})


def test_attempts_of_many_threads_are_numbered_told_and_kept_in_one_order():
    told = []
    ledger = Ledger(told.append)
    threads = [
        threading.Thread(target=lambda name=name: [ledger.add(attempt_of(name)) for _ in range(100)])
        for name in ("f", "f", "g", "h")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == list(ledger.attempts)
    for lfn, count in (("f", 200), ("g", 100), ("h", 100)):
        assert [one.number for one in told if one.lfn == lfn] == list(range(1, count + 1))


def test_the_ledger_is_kept_as_json_lines_without_secrets(tmp_path):
    file = AttemptFile(tmp_path / "transfers.jsonl", lambda text: text.replace("hunter2", "<hidden>"))
    attempts = [attempt_of(), attempt_of("ü\nx", number=2, outcome="AuthError", error="token hunter2 expired")]
    for attempt in attempts:
        file.write(attempt)
    file.close()
    file.close()
    file.write(attempts[0])
    lines = [json.loads(line) for line in (tmp_path / "transfers.jsonl").read_text().splitlines()]
    assert lines[0] == attempts[0].to_json()
    assert lines[1] == {**attempts[1].to_json(), "error": "token <hidden> expired"}
    assert len(lines) == 2


def test_a_job_that_goes_on_in_its_directory_goes_on_in_its_ledger(tmp_path):
    for number in (1, 2):
        file = AttemptFile(tmp_path / "transfers.jsonl", str)
        file.write(attempt_of(number=number))
        file.close()
    lines = (tmp_path / "transfers.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2]


def test_a_ledger_on_a_full_disk_ends_with_one_line_in_the_log(tmp_path, caplog):
    path = tmp_path / "transfers.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="symbolic links"):
        AttemptFile(path, str)
    file = AttemptFile(path.resolve(), str)
    for _ in range(3):
        file.write(attempt_of())
    assert caplog.messages == ["/dev/full ends here: No space left on device"]


# -- progress ----------------------------------------------------------------------------------------------------------


def reporter_of(clock, transfers, listener=None):
    return Reporter(transfers, job_id=7, clock=clock, log=job_logger(7, "staging"), listener=listener)


def transfers_of(*sizes):
    replica = Replica(url="disk://A/f", rse="A")
    return [
        Transfer(activity="read", lfn=f"f{number}", local=None, replicas=(replica,), size=size)
        for number, size in enumerate(sizes)
    ]


def test_progress_is_told_a_few_times_a_second_and_once_at_the_end():
    clock, heard = FakeClock(), []
    transfers = transfers_of(100, 300)
    reporter = reporter_of(clock, transfers, heard.append)
    attempt = Attempt(transfers[1], transfers[1].replicas[0], loaded("one", "pilot_stagein"), clock, allowed=1e6)
    reporter.done(100)
    attempt.progress(50)
    for _ in range(17):
        reporter.tell(clock.monotonic(), [attempt])
        clock.advance(INTERVAL / 8)
    reporter.done(300)
    reporter.end()
    assert len(heard) == 3
    first, _, last = heard
    assert (first.job_id, first.activity, first.files, first.files_done, first.bytes, first.size, first.ended) == (
        *(7, "read", 2, 1, 150, 400),
        False,
    )
    [under_way] = first.under_way
    assert (under_way.lfn, under_way.backend, under_way.rse, under_way.bytes, under_way.size) == (
        *("f1", "one", "A", 50),
        300,
    )
    assert (last.files_done, last.bytes, last.under_way, last.ended) == (2, 400, (), True)
    assert last.to_json()["files"] == 2


def test_where_nobody_listens_nobody_is_woken_for_progress(caplog):
    clock = FakeClock()
    reporter = reporter_of(clock, transfers_of(None))
    assert reporter.next_look() == clock.monotonic() + LOG_INTERVAL
    reporter.tell(clock.monotonic() + 1, [])
    reporter.end()
    assert caplog.messages == []


def test_long_transfers_are_told_of_in_the_log_now_and_then(caplog):
    clock = FakeClock()
    transfers = transfers_of(4_000_000_000, 10**9)
    reporter = reporter_of(clock, transfers)
    attempt = Attempt(transfers[0], transfers[0].replicas[0], loaded("one", "pilot_stagein"), clock, allowed=1e6)
    attempt.progress(2_000_000_000)
    reporter.done(10**9)
    with caplog.at_level("INFO", "pilot_core"):
        for _ in range(5):
            clock.advance(LOG_INTERVAL / 2)
            reporter.tell(clock.monotonic(), [attempt])
    assert caplog.messages == [
        "stage-in: 1 of 2 files, 3 GB of 5 GB, 100 MB/s; under way: f0",
        "stage-in: 1 of 2 files, 3 GB of 5 GB, 50 MB/s; under way: f0",
    ]


def test_a_total_that_nobody_knows_is_not_told():
    clock, heard = FakeClock(), []
    reporter = reporter_of(clock, transfers_of(1, None), heard.append)
    reporter.end()
    assert heard[0].size is None


def test_a_mover_tells_how_far_it_is(folder, cancel):
    heard = []
    half = Event()

    def does(name, request, token):
        if name == "f1":
            request.progress(11)
            assert told.clock.wait(half, until=told.clock.monotonic() + PATIENCE)

    def listener(progress):
        heard.append(progress)
        if progress.under_way and progress.under_way[0].bytes:
            half.set()

    told = Told(does)
    mover = mover_of(Shelf(one=told), progress=listener, job_id=41)
    all_in(mover, folder, [input_file("f0"), input_file("f1")], cancel)
    assert heard[-1].ended
    assert (heard[-1].job_id, heard[-1].files_done, heard[-1].bytes) == (41, 2, 44)
    assert any(one.under_way and one.under_way[0].lfn == "f1" and one.bytes == 33 for one in heard)


def test_what_is_asked_of_a_stager_says_what_the_catalogue_knows(folder, cancel):
    seen = []
    told = Told(lambda name, request, token: seen.append(request))
    all_in(mover_of(Shelf(one=told)), folder, [input_file("f")], cancel)
    [request] = seen
    assert isinstance(request, FetchRequest)
    assert (request.url, request.destination, request.size, request.checksum, request.root) == (
        *("disk://A/f", folder / "f", len(CONTENT), ADLER),
        "disk://A",
    )
