"""Each fault on real files: what the pilot is told, and what lies where afterwards."""

import threading
import zlib

import pytest
from pilot_stager_fault.errors import Bug
from pilot_stager_fault.kinds import KINDS

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    CancelToken,
    ChecksumMismatch,
    Context,
    Deadline,
    FetchRequest,
    NoSpace,
    SizeMismatch,
    SourceNotFound,
    StoreRequest,
    SystemClock,
    TransferError,
    TransferTimeout,
    TransientError,
)
from pilot_core.testing.clock import FakeClock

CONTENT = bytes(range(256)) * 20
GOOD = f"adler32:{zlib.adler32(CONTENT):08x}"
ERRORS = {
    "transient": TransientError,
    "not-found": SourceNotFound,
    "auth": AuthError,
    "no-space": NoSpace,
    "unavailable": BackendUnavailable,
    "timeout": TransferTimeout,
    "checksum-mismatch": ChecksumMismatch,
    "size-mismatch": SizeMismatch,
    "crash": Bug,
}


def nothing_left(bench):
    """Nothing of a transfer, whichever way, not even temporary files."""
    found = {path.name for path in (*bench.storage.iterdir(), *bench.work.iterdir())}
    return found <= {"f", "local"}


def test_without_faults_the_other_stager_does_it_all(bench):
    result = bench.fetch("none", size=len(CONTENT), checksum=GOOD)
    assert (result.size, result.checksum, result.url) == (len(CONTENT), GOOD, bench.url("none"))
    assert bench.local.read_bytes() == CONTENT
    stored = bench.store("none", checksum=GOOD)
    assert (stored.size, stored.checksum, stored.url) == (len(CONTENT), GOOD, bench.url("none", "out"))
    assert bench.out.read_bytes() == CONTENT
    assert bench.stager.stat(bench.url("none", "out"), **bench.limits()).size == len(CONTENT)
    bench.stager.remove(bench.url("none", "out"), **bench.limits())
    assert not bench.out.exists()


def test_what_is_wrong_with_the_file_itself_is_told_by_the_other_stager(bench):
    with pytest.raises(SizeMismatch, match=f"^file://{bench.storage}/f: "):
        bench.fetch("none", size=1)
    with pytest.raises(SourceNotFound):
        bench.stager.stat(bench.url("none", "nope"), **bench.limits())


@pytest.mark.parametrize(("fault", "kind"), ERRORS.items())
def test_an_error_is_of_its_class_and_nothing_is_left(bench, fault, kind):
    for transfer in (bench.fetch, bench.store):
        with pytest.raises(kind, match=rf"^fault://{fault}/file://.*: {fault} on purpose$") as caught:
            transfer(fault)
        assert type(caught.value) is kind
        assert nothing_left(bench)
    assert not bench.out.exists()


def test_every_fault_is_an_error_here_or_has_a_test_of_its_own():
    own = {"none", "slow", "stall", "hang", "corrupt", "truncate", "partial", "wrong-checksum", "wrong-size"}
    assert set(KINDS) == set(ERRORS) | own


def test_the_first_attempts_fail_and_then_all_goes_well(bench):
    for _ in range(2):
        with pytest.raises(TransientError):
            bench.fetch("transient;first=2")
    assert bench.fetch("transient;first=2").size == len(CONTENT)
    with pytest.raises(TransientError):
        bench.store("transient;first=1"), "another operation, counted for itself"
    assert bench.store("transient;first=1").size == len(CONTENT)


def test_attempts_are_counted_for_each_file(bench):
    (bench.storage / "g").write_bytes(b"g")
    for name in ("f", "g"):
        request = FetchRequest(url=bench.url("transient;first=1", name), destination=bench.work / name)
        with pytest.raises(TransientError):
            bench.stager.fetch(request, **bench.limits())
        bench.stager.fetch(request, **bench.limits())


def test_several_faults_strike_one_after_the_other(bench):
    faults = "transient;first=1,not-found;after=1;first=1"
    with pytest.raises(TransientError):
        bench.fetch(faults)
    with pytest.raises(SourceNotFound):
        bench.fetch(faults)
    assert bench.fetch(faults).size == len(CONTENT)


def test_a_transient_error_may_ask_for_a_pause(bench):
    with pytest.raises(TransientError) as caught:
        bench.fetch("transient;retry-after=2.5")
    assert caught.value.retry_after == 2.5
    with pytest.raises(TransientError) as caught:
        bench.fetch("transient")
    assert caught.value.retry_after is None


def test_what_is_struck_can_be_chosen(bench):
    bench.fetch("auth;on=store+stat")
    with pytest.raises(AuthError):
        bench.store("auth;on=store+stat")
    with pytest.raises(AuthError):
        bench.stager.stat(bench.url("auth;on=store+stat"), **bench.limits())
    with pytest.raises(TransientError):
        bench.stager.remove(bench.url("transient;on=remove"), **bench.limits())
    assert (bench.storage / "f").exists()


def test_a_slow_transfer_takes_its_time_by_the_clock(bench):
    for transfer in (bench.fetch, bench.store):
        begun = bench.clock.monotonic()
        assert transfer("slow;rate=100").size == len(CONTENT)
        assert bench.clock.monotonic() - begun == pytest.approx(len(CONTENT) / 100)


def test_a_slow_transfer_ends_at_its_deadline(bench):
    for transfer in (bench.fetch, bench.store):
        with pytest.raises(TransferTimeout):
            transfer("slow;rate=1", seconds=60)
        assert nothing_left(bench)


@pytest.mark.parametrize("faults", ["stall", "stall;bytes=1", "stall;bytes=999999999"])
def test_a_transfer_that_stands_still_ends_at_its_deadline(bench, faults):
    for transfer in (bench.fetch, bench.store):
        begun = bench.clock.monotonic()
        with pytest.raises(TransferTimeout):
            transfer(faults, seconds=3600)
        assert bench.clock.monotonic() - begun == pytest.approx(3600)
        assert nothing_left(bench)
    assert not bench.out.exists()


@pytest.mark.parametrize("faults", ["stall", "hang", "slow;rate=1"])
@pytest.mark.parametrize("way", ["fetch", "store"])
def test_a_transfer_that_stands_still_ends_when_it_is_called_off(bench, faults, way):
    """In real time: a thread that really waits."""
    clock = SystemClock()
    bench.stager._context.__dict__["clock"] = clock
    deadline = Deadline.after(clock, 600)
    begun = threading.Event()
    caught = []
    request = (
        FetchRequest(url=bench.url(faults), destination=bench.local, progress=lambda _: begun.set())
        if way == "fetch"
        else StoreRequest(source=bench.storage / "f", url=bench.url(faults, "out"), progress=lambda _: begun.set())
    )

    def move():
        try:
            getattr(bench.stager, way)(request, cancel=bench.cancel, deadline=deadline)
        except Cancelled as error:
            caught.append(str(error))

    thread = threading.Thread(target=move)
    thread.start()
    if faults != "hang":
        begun.wait()
    bench.cancel.cancel("enough")
    thread.join()
    assert caught == ["enough"]
    assert nothing_left(bench)
    assert not bench.out.exists()


def test_a_hanging_stager_does_not_look_at_its_deadline(bench):
    bench.cancel.cancel("enough")
    with pytest.raises(Cancelled):
        bench.fetch("hang")
    cancel = CancelToken()
    waited = []

    class Watched(FakeClock):
        def wait(self, *things, until=None):
            waited.append(until)
            cancel.cancel("enough")
            return super().wait(*things, until=until)

    bench.stager._context.__dict__["clock"] = clock = Watched()
    request = FetchRequest(url=bench.url("hang"), destination=bench.local)
    with pytest.raises(Cancelled):
        bench.stager.fetch(request, cancel=cancel, deadline=Deadline.after(clock, -1))
    assert waited == [None]


def test_a_corrupt_file_differs_in_one_byte_and_nobody_says_so(bench):
    for _ in range(2):
        result = bench.fetch("corrupt", size=len(CONTENT), checksum=GOOD)
        assert (result.size, result.checksum) == (len(CONTENT), GOOD)
        assert different(bench.local.read_bytes()) == [len(CONTENT) // 2]
    stored = bench.store("corrupt", checksum=GOOD)
    assert (stored.size, stored.checksum) == (len(CONTENT), GOOD)
    assert different(bench.out.read_bytes()) == [len(CONTENT) // 2]
    assert bench.local.read_bytes() == CONTENT, "the job's own file stays as it is"
    assert (bench.storage / "f").read_bytes() == CONTENT


def different(content):
    assert len(content) == len(CONTENT)
    return [place for place, (one, other) in enumerate(zip(content, CONTENT, strict=True)) if one != other]


@pytest.mark.parametrize(("faults", "left"), [
    ("truncate", len(CONTENT) // 2),
    ("truncate;bytes=7", 7),
    ("truncate;bytes=0", 0),
    ("truncate;bytes=99999", len(CONTENT)),
])  # fmt: skip
def test_a_truncated_file_is_the_beginning_and_nobody_says_so(bench, faults, left):
    result = bench.fetch(faults, size=len(CONTENT), checksum=GOOD)
    assert (result.size, result.checksum) == (len(CONTENT), GOOD)
    assert bench.local.read_bytes() == CONTENT[:left]
    stored = bench.store(faults)
    assert (stored.size, stored.checksum) == (len(CONTENT), GOOD)
    assert bench.out.read_bytes() == CONTENT[:left]


def test_a_partial_file_is_left_with_an_error(bench):
    with pytest.raises(TransientError, match="partial on purpose"):
        bench.fetch("partial;bytes=10;first=1")
    assert bench.local.read_bytes() == CONTENT[:10]
    assert bench.fetch("partial;bytes=10;first=1").size == len(CONTENT)
    with pytest.raises(TransientError, match="partial on purpose"):
        bench.store("partial")
    assert bench.out.read_bytes() == CONTENT[: len(CONTENT) // 2]


def test_what_is_told_may_be_wrong(bench):
    for transfer in (bench.fetch, bench.store):
        assert transfer("wrong-size").size == len(CONTENT) + 1
        told = transfer("wrong-checksum").checksum
        assert told != GOOD
        assert told[:-1] == GOOD[:-1]
        both = transfer("wrong-size,wrong-checksum")
        assert (both.size, both.checksum) == (len(CONTENT) + 1, told)
    assert bench.stager.stat(bench.url("wrong-size;on=stat"), **bench.limits()).size == len(CONTENT) + 1


def test_an_md5_of_a_damaged_copy_is_that_of_the_good_file(bench):
    good = bench.store("none", checksum="md5").checksum
    assert good.startswith("md5:")
    assert bench.store("corrupt", checksum="md5").checksum == good


def test_an_empty_file_can_be_damaged_too(bench):
    (bench.storage / "f").write_bytes(b"")
    bench.fetch("corrupt")
    assert bench.local.read_bytes() == b"\0"
    bench.fetch("truncate")
    assert bench.local.read_bytes() == b""
    with pytest.raises(TransferTimeout):
        bench.fetch("stall")
    assert not bench.local.exists()


def test_chance_strikes_the_same_attempts_again(bench):
    def pattern():
        struck = []
        for _ in range(30):
            try:
                bench.fetch("transient;probability=0.5;seed=a")
            except TransientError:
                struck.append(True)
            else:
                struck.append(False)
        return struck

    first = pattern()
    bench.stager._attempts.clear()  # as in another pilot
    assert pattern() == first
    assert 5 < sum(first) < 25


def test_a_fault_before_a_fault(bench):
    faults = bench.url("transient;first=1")
    request = FetchRequest(url=f"fault://not-found;first=1/{faults}", destination=bench.local)
    for kind in (SourceNotFound, TransientError):
        with pytest.raises(kind):
            bench.stager.fetch(request, **bench.limits())
    assert bench.stager.fetch(request, **bench.limits()).size == len(CONTENT)


def test_a_scheme_that_nobody_serves_is_told(bench):
    request = FetchRequest(url="fault://none/xyz://host/f", destination=bench.local)
    with pytest.raises(BackendUnavailable, match="no stager here serves xyz://host/f"):
        bench.stager.fetch(request, **bench.limits())


def test_without_other_stagers_it_says_so(tmp_path):
    import logging

    from pilot_stager_fault.stager import FaultStager

    clock = SystemClock()
    alone = FaultStager(Context(clock=clock, log=logging.getLogger("x"), work_dir=tmp_path))
    with pytest.raises(BackendUnavailable, match="stands before others, and was given none"):
        alone.stat("fault://none/file:///x", cancel=CancelToken(), deadline=Deadline.after(clock, 1))


def test_passwords_in_urls_are_shown_to_nobody(bench, caplog):
    caplog.set_level("DEBUG")
    url = "fault://transient/davs://user:canary@host/f"
    with pytest.raises(TransferError) as caught:
        bench.stager.stat(url.replace("transient", "transient;on=stat"), **bench.limits())
    assert "canary" not in str(caught.value)
    assert "canary" not in caplog.text
