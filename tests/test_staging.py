"""The mover: which backend and replica is tried after which error, with real files; the ledger of every attempt."""

from __future__ import annotations

import logging
import math
import shutil
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    CancelToken,
    ChecksumMismatch,
    ConfigError,
    FileStat,
    HandledError,
    InputFile,
    JobDescriptionError,
    NoSpace,
    OutputFile,
    PilotErrorCode,
    PluginError,
    Provider,
    Queue,
    SizeMismatch,
    SourceNotFound,
    Storage,
    TransferError,
    TransferResult,
    TransferTimeout,
    TransientError,
)
from pilot_core.logs import job_logger
from pilot_core.plugins import Loaded, Record
from pilot_core.staging import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    START_ALLOWANCE,
    TRIES,
    UNKNOWN_SIZE_ALLOWANCE,
    Backends,
    Mover,
    time_allowed,
)
from pilot_core.staging.health import DOWN_AFTER
from pilot_core.testing.clock import FakeClock

CONTENT = b"what the storage holds"
ADLER = f"adler32:{zlib.adler32(CONTENT):08x}"
INPUT = InputFile(lfn="f", size=len(CONTENT), checksum=ADLER)
OUTPUT = OutputFile(lfn="out")


class Disk:
    """A stager that copies real files: `disk://RSE/path` lies in the folder of that RSE.

    `script` has, for each call in turn, an error to raise, a value to return, or None for a good copy.
    """

    def __init__(self, top, *script):
        self.top = top
        self.script = list(script)
        self.calls = []
        self.fails = lambda _url: None
        """Returns the error of a URL, if it has one."""

    def path(self, url):
        return self.top / url.partition("://")[2]

    def _next(self, *call):
        self.calls.append(call)
        return self.script.pop(0) if self.script else None

    def fetch(self, request, *, cancel, deadline):
        return self._copy(self.path(request.url), request.destination, request.url, "fetch", deadline)

    def store(self, request, *, cancel, deadline):
        return self._copy(request.source, self.path(request.url), request.url, "store", deadline)

    def _copy(self, source, target, url, what, deadline):
        planned = self._next(what, url, round(deadline.remaining(), 3)) or self.fails(url)
        if isinstance(planned, BaseException):
            raise planned
        if planned is not None:
            return planned
        if not source.exists():
            raise SourceNotFound(f"{url}: not there")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        data = target.read_bytes()
        return TransferResult(size=len(data), checksum=f"adler32:{zlib.adler32(data):08x}", url=url)

    def stat(self, url, *, cancel, deadline):
        return FileStat(size=self.path(url).stat().st_size)

    def remove(self, url, *, cancel, deadline):
        planned = self._next("remove", url)
        if isinstance(planned, BaseException):
            raise planned
        if not self.path(url).exists():
            raise SourceNotFound(f"{url}: not there")
        self.path(url).unlink()


def loaded(name, hook, schemes=("disk",), priority=50):
    """Return what the plugin loader makes of a stager of that name."""
    provider = Provider(name=name, factory=lambda *_: None, schemes=frozenset(schemes), priority=priority)
    record = Record(
        entry_point=f"stager.{name}",
        value="x",
        api=1,
        distribution=f"pilot-stager-{name}",
        version="1.2",
        where="",
        directory="",
    )
    return Loaded(hook, provider, record)


class Tiny:
    """The stagers of a test, by name."""

    def __init__(self, **stagers):
        self.made = stagers
        self.priorities = {name: 10 * number for number, name in enumerate(stagers)}
        self.places = None
        """In a replay: where each URL's next call stands in the recording."""

    def stagers(self, hook, urls):
        return [loaded(name, hook, priority=self.priorities[name]) for name in self.made]

    def recorded(self, hook, candidate):
        return self.places.get(candidate.replica.url, math.inf) if self.places is not None else None

    def instance(self, hook, name):
        found = self.made[name]
        if isinstance(found, BaseException):
            raise found
        return found


class Bench:
    """Two storages, A and B, each with the file `f`; a mover over the stagers given."""

    def __init__(self, tmp_path):
        self.top = tmp_path / "storages"
        self.clock = FakeClock()
        self.told = []
        self.cancel = CancelToken()
        self.queue = Queue(
            name="Q",
            storages={rse: Storage(rse=rse, url=f"disk://{rse}") for rse in ("A", "B")},
            read=("A", "B"),
            write=("A", "B"),
        )
        self.destination = tmp_path / "payload" / "f"
        self.destination.parent.mkdir()
        for rse in "AB":
            (self.top / rse).mkdir(parents=True)
            (self.top / rse / "f").write_bytes(CONTENT)

    def disk(self, *script):
        return Disk(self.top, *script)

    def mover(self, **stagers):
        self.told.clear()
        self.made = Mover(
            queue=self.queue,
            backends=Tiny(**stagers),
            clock=self.clock,
            log=job_logger(7, "staging"),
            listener=self.told.append,
        )
        return self.made

    def fetch(self, file=INPUT, **stagers):
        return self.mover(**stagers).bring_in(file, self.destination, cancel=self.cancel)

    def store(self, file=OUTPUT, activity="write", **stagers):
        self.destination.write_bytes(CONTENT)
        return self.mover(**stagers).bring_out(file, self.destination, activity, cancel=self.cancel)

    def failure(self, call, error=HandledError, **arguments):
        with pytest.raises(error) as caught:
            call(**arguments)
        assert str(caught.value).isprintable()
        return caught.value

    def ledger(self):
        """Return (backend, storage, outcome) of every attempt; the listener must have heard of the same."""
        assert self.told == self.made.ledger
        return [(one.backend, one.rse, one.outcome) for one in self.made.ledger]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# -- the everyday way --------------------------------------------------------------------------------------------------


def test_a_file_comes_in_from_the_first_storage(bench):
    result = bench.fetch(one=bench.disk())
    assert bench.destination.read_bytes() == CONTENT
    assert result == TransferResult(size=len(CONTENT), checksum=ADLER, url="disk://A/f")
    [attempt] = bench.made.ledger
    assert bench.told == [attempt]
    assert attempt.to_json() == {
        "activity": "read",
        "lfn": "f",
        "url": "disk://A/f",
        "rse": "A",
        "backend": "one",
        "backend_version": "1.2",
        "number": 1,
        "started": 1_700_000_000.0,
        "seconds": 0.0,
        "bytes": len(CONTENT),
        "outcome": "ok",
        "error": "",
    }


def test_a_file_goes_out_and_its_storage_is_told(bench):
    result, rse = bench.store(one=bench.disk())
    assert rse == "A"
    assert (bench.top / "A/out").read_bytes() == CONTENT
    assert result.url == "disk://A/out"
    assert bench.ledger() == [("one", "A", "ok")]
    assert bench.made.ledger[0].activity == "write"


def test_the_storage_that_the_server_suggests_is_read_where_it_is_known(bench):
    assert bench.fetch(InputFile(lfn="f", rse="B"), one=bench.disk()).url == "disk://B/f"
    assert bench.fetch(InputFile(lfn="f", rse="ELSEWHERE"), one=bench.disk()).url == "disk://A/f"


@pytest.mark.parametrize(
    ("rse", "activity", "log", "first"),
    [
        ("", "write", (), "A"),
        ("B", "write", (), "B"),
        ("ELSEWHERE", "write", (), "A"),
        ("", "log", (), "A"),
        ("", "log", ("B",), "B"),
        ("ELSEWHERE", "log", ("B",), "B"),
        ("A", "log", ("B",), "A"),
    ],
)
def test_where_a_file_goes(bench, rse, activity, log, first):
    bench.queue = replace(bench.queue, log=log)
    assert bench.store(OutputFile(lfn="out", rse=rse), activity, one=bench.disk())[1] == first


def test_an_output_with_its_own_storage_goes_nowhere_else_but_a_log_may(bench):
    broken = TransferError("bug"), TransferError("bug")
    bench.failure(bench.store, file=OutputFile(lfn="out", rse="B"), one=bench.disk(*broken))
    assert [rse for _, rse, _ in bench.ledger()] == ["B"]
    bench.failure(bench.store, file=OutputFile(lfn="log", rse="B"), activity="log", one=bench.disk(*broken))
    assert [rse for _, rse, _ in bench.ledger()] == ["B", "A"]


def test_a_transfer_may_take_as_long_as_its_size_allows(bench):
    one = bench.disk()
    size = 256 * 1024 * 10
    (bench.top / "A/f").write_bytes(bytes(size))
    bench.fetch(InputFile(lfn="f", size=size), one=one)
    bench.fetch(InputFile(lfn="f"), one=one)
    assert [seconds for _, _, seconds in one.calls] == [START_ALLOWANCE + 10, UNKNOWN_SIZE_ALLOWANCE]
    assert time_allowed(0) == START_ALLOWANCE


def test_the_layout_of_the_storage_gives_the_path(bench):
    bench.queue = replace(bench.queue, storages={"A": Storage(rse="A", url="disk://A", layout="rucio")})
    result, _ = bench.store(OutputFile(lfn="out", scope="user.me"), one=bench.disk())
    assert result.url.startswith("disk://A/user/me/")
    assert (bench.top / result.url.removeprefix("disk://")).read_bytes() == CONTENT


# -- what happens after which error ------------------------------------------------------------------------------------

FALLBACKS = {
    # the file is not there, or it is not this file: no backend can help, the other replica may
    SourceNotFound: [("one", "A"), ("one", "B")],
    ChecksumMismatch: [("one", "A"), ("one", "B")],
    SizeMismatch: [("one", "A"), ("one", "B")],
    # the backend is the trouble: another one for the same replica
    BackendUnavailable: [("one", "A"), ("two", "A")],
    AuthError: [("one", "A"), ("two", "A")],
    # a plugin that breaks its contract
    TransferError: [("one", "A"), ("two", "A")],
    ValueError: [("one", "A"), ("two", "A")],
    OSError: [("one", "A"), ("two", "A")],
    SystemExit: [("one", "A"), ("two", "A")],
    # may work later: the same again
    TransientError: [("one", "A"), ("one", "A")],
    TransferTimeout: [("one", "A"), ("one", "A")],
}


@pytest.mark.parametrize("error", FALLBACKS, ids=lambda kind: kind.__name__)
def test_what_is_tried_after_an_error_follows_from_its_class(bench, error):
    """A fetch that fails once and then succeeds."""
    bench.fetch(one=bench.disk(error("first")), two=bench.disk())
    (*first, outcome), (*second, good) = bench.ledger()
    assert [tuple(first), tuple(second)] == FALLBACKS[error]
    assert outcome == (error.__name__ if issubclass(error, HandledError) else "PluginError")
    assert good == "ok"
    assert bench.destination.read_bytes() == CONTENT


@pytest.mark.parametrize("error", [NoSpace, Cancelled])
def test_some_errors_stop_everything(bench, error):
    caught = bench.failure(bench.fetch, error, one=bench.disk(error("enough")), two=bench.disk())
    assert str(caught) == "enough"
    assert bench.ledger() == [("one", "A", error.__name__)]


def test_a_transient_error_is_tried_a_few_times_and_then_the_next(bench):
    one = bench.disk(*[TransientError("busy")] * TRIES)
    bench.fetch(one=one, two=bench.disk())
    assert bench.ledger() == [("one", "A", "TransientError")] * TRIES + [("two", "A", "ok")]


def test_every_backend_and_replica_gets_its_own_tries(bench):
    stagers = {name: bench.disk(*[TransientError("busy")] * 2 * TRIES) for name in ("one", "two")}
    caught = bench.failure(bench.fetch, TransientError, **stagers)
    assert bench.ledger() == [
        (name, rse, "TransientError") for rse in "AB" for name in ("one", "two") for _ in range(TRIES)
    ]
    assert str(caught) == f"busy (first of {4 * TRIES} attempts)"


# -- pauses ------------------------------------------------------------------------------------------------------------


def test_pauses_double_with_some_chance_in_them(bench):
    bench.failure(bench.fetch, one=bench.disk(*[TransientError("busy")] * 2 * TRIES))
    pauses = bench.clock.waits
    assert len(pauses) == 2 * (TRIES - 1)
    for number in range(TRIES - 1):
        for pause in (pauses[number], pauses[number + TRIES - 1]):
            assert FIRST_PAUSE * 2**number / 2 <= pause <= FIRST_PAUSE * 2**number


@pytest.mark.parametrize(
    ("asked", "pause"), [(0.0, 0.0), (7.5, 7.5), (3600.0, LONGEST_PAUSE), (float("inf"), LONGEST_PAUSE)]
)
def test_the_storage_may_ask_for_a_pause(bench, asked, pause):
    begun = bench.clock.monotonic()
    bench.fetch(one=bench.disk(TransientError("busy", retry_after=asked)))
    assert bench.clock.monotonic() - begun == pause


@pytest.mark.parametrize("asked", [-5.0, float("nan")])
def test_a_pause_that_makes_no_sense_is_not_taken(bench, asked):
    bench.fetch(one=bench.disk(TransientError("busy", retry_after=asked)))
    [pause] = bench.clock.waits
    assert FIRST_PAUSE / 2 <= pause <= FIRST_PAUSE


def test_a_timeout_is_tried_again_after_a_pause_too(bench):
    bench.fetch(one=bench.disk(TransferTimeout("slow")))
    assert len(bench.clock.waits) == 1


def test_other_errors_need_no_pause(bench):
    bench.fetch(one=bench.disk(SourceNotFound("x"), AuthError("y")), two=bench.disk())
    assert bench.clock.waits == []


def test_a_cancellation_ends_a_pause(bench):
    class Cancelling(Disk):
        def fetch(self, request, **more):
            bench.cancel.cancel("tobekilled")
            return super().fetch(request, **more)

    one = Cancelling(bench.top, TransientError("busy", retry_after=50))
    assert str(bench.failure(bench.fetch, Cancelled, one=one)) == "tobekilled"
    assert bench.clock.waits == []
    assert bench.ledger() == [("one", "A", "TransientError")]


def test_a_cancelled_job_moves_nothing(bench):
    bench.cancel.cancel("enough")
    one = bench.disk()
    assert str(bench.failure(bench.fetch, Cancelled, one=one)) == "enough"
    assert one.calls == []
    assert bench.ledger() == []


# -- plugins that break ------------------------------------------------------------------------------------------------


def test_a_broken_plugin_is_named_with_its_version(bench, caplog):
    caught = bench.failure(bench.fetch, PluginError, one=bench.disk(*[KeyError("etag")] * 2))
    assert str(caught).startswith("plugin stager.one (pilot-stager-one 1.2) broke: KeyError: 'etag'")
    assert caught.error_code is PilotErrorCode.INTERNALPILOTPROBLEM
    traced = [record for record in caplog.records if record.exc_info]
    assert traced[0].exc_info[0] is KeyError
    assert traced[0].panda_id == 7


@pytest.mark.parametrize("value", [True, "done", {"size": 3}, (22, "x")])
def test_a_plugin_that_returns_something_else_has_not_moved_the_file(bench, value):
    bench.fetch(one=bench.disk(value), two=bench.disk())
    assert bench.ledger() == [("one", "A", "PluginError"), ("two", "A", "ok")]
    assert bench.made.ledger[0].error == (
        f"plugin stager.one (pilot-stager-one 1.2) broke: TypeError: it returned {type(value).__name__}, "
        "not TransferResult"
    )


def test_a_plugin_that_returns_nothing_has_not_moved_the_file(bench):
    class Silent(Disk):
        def fetch(self, request, **more):
            super().fetch(request, **more)

    bench.fetch(one=Silent(bench.top), two=bench.disk())
    assert [outcome for _, _, outcome in bench.ledger()] == ["PluginError", "ok"]


@pytest.mark.parametrize("error", [PluginError("not importable"), ConfigError("pilot.toml: stager.one.x: unknown key")])
def test_a_plugin_that_cannot_be_made_is_passed_over(bench, error):
    bench.fetch(one=error, two=bench.disk())
    assert bench.ledger() == [("one", "A", type(error).__name__), ("two", "A", "ok")]
    assert bench.failure(bench.fetch, type(error), one=error) is error


def test_a_backend_that_failed_comes_last_for_the_next_files(bench):
    bench.queue = replace(bench.queue, read=("A",))
    tiny = {"one": bench.disk(BackendUnavailable("no binary")), "two": bench.disk()}
    mover = bench.mover(**tiny)
    mover._backends.priorities = dict.fromkeys(tiny, 50)
    for _ in range(2):
        mover.bring_in(InputFile(lfn="f"), bench.destination, cancel=bench.cancel)
    assert bench.ledger() == [("one", "A", "BackendUnavailable"), ("two", "A", "ok"), ("two", "A", "ok")]


def fetch_all(bench, lfns, **stagers):
    """Bring some files in, one after the other; returns what became of each."""
    mover = bench.mover(**stagers)
    outcomes = []
    for lfn in lfns:
        try:
            mover.bring_in(InputFile(lfn=lfn), bench.destination, cancel=bench.cancel)
        except HandledError as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("ok")
    return outcomes


@pytest.mark.parametrize("error", [TransientError("no connection"), BackendUnavailable("no such host")])
def test_a_storage_that_is_down_comes_last_for_the_next_files(bench, error):
    bench.queue = replace(bench.queue, read=("A", "B"))
    only_b = bench.disk()
    only_b.fails = lambda url: error if "//A/" in url else None
    assert fetch_all(bench, "f" * 10, one=only_b) == ["ok"] * 10
    tries = TRIES if isinstance(error, TransientError) else 1
    at_a = [rse for _, rse, _ in bench.ledger() if rse == "A"]
    assert len(at_a) == DOWN_AFTER * tries
    assert [rse for _, rse, _ in bench.ledger()][-5:] == ["B"] * 5


def test_a_file_that_is_missing_takes_no_storage_for_down(bench):
    lfns = ["missing"] * 2 * DOWN_AFTER + ["f"]
    fetch_all(bench, lfns, one=bench.disk())
    assert bench.ledger()[-1] == ("one", "A", "ok")


def test_a_storage_that_serves_some_files_is_not_down(bench):
    disk = bench.disk()
    disk.fails = lambda url: TransientError("busy") if url == "disk://A/bad" else None
    (bench.top / "A" / "bad").write_bytes(CONTENT)
    (bench.top / "B" / "bad").write_bytes(CONTENT)
    fetch_all(bench, ["bad", "bad", "f"] * DOWN_AFTER, one=disk)
    assert bench.ledger()[-1] == ("one", "A", "ok")


def test_where_a_job_has_failed_already_a_storage_that_is_down_is_not_asked_for_its_other_inputs(bench):
    bench.queue = replace(bench.queue, read=("A",))
    disk = bench.disk()
    disk.fails = lambda _: TransientError("no connection")
    assert fetch_all(bench, "f" * 1000, one=disk)[-1] == "BackendUnavailable"
    asked = [call for call in disk.calls if call[0] == "fetch"]
    assert len(asked) == DOWN_AFTER * TRIES
    assert len(bench.ledger()) == DOWN_AFTER * TRIES


def test_in_a_replay_the_recording_says_what_is_tried_and_in_which_order(bench):
    disk = bench.disk()
    mover = bench.mover(one=disk)
    mover._backends.places = {"disk://B/f": 3, "disk://A/f": 7}
    disk.fails = lambda url: BackendUnavailable("no") if "//B/" in url else None
    for _ in range(2 * DOWN_AFTER):
        mover.bring_in(InputFile(lfn="f"), bench.destination, cancel=bench.cancel)
    assert [rse for _, rse, _ in bench.ledger()] == ["B", "A"] * 2 * DOWN_AFTER


# -- what is told in the end -------------------------------------------------------------------------------------------

CODES = [
    # error, code of stage-in, code of stage-out (PanDA Pilot 3, common/errorcodes.py)
    (SourceNotFound, 1331, 1103),
    (ChecksumMismatch, 1171, 1172),
    (SizeMismatch, 1171, 1172),
    (BackendUnavailable, 1324, 1137),
    (AuthError, 1338, 1383),
    (TransferError, 1099, 1137),
    (TransientError, 1099, 1137),
    (TransferTimeout, 1151, 1152),
    (NoSpace, 1098, 1333),
    (ValueError, 1319, 1319),
]


@pytest.mark.parametrize(("error", "code_in", "code_out"), CODES, ids=lambda value: getattr(value, "__name__", None))
def test_every_error_has_pandas_code_for_each_way(bench, error, code_in, code_out):
    every = [error("x") for _ in range(4 * TRIES)]
    assert bench.failure(bench.fetch, one=bench.disk(*every)).error_code == code_in
    every = [error("x") for _ in range(4 * TRIES)]
    assert bench.failure(bench.store, one=bench.disk(*every)).error_code == code_out


def test_a_code_that_the_plugin_chose_is_kept(bench):
    error = ChecksumMismatch("md5", error_code=PilotErrorCode.GETMD5MISMATCH)
    assert bench.failure(bench.fetch, one=bench.disk(error, SourceNotFound("x"))).error_code == 1145


def test_all_replicas_bad_tells_the_first_error_and_how_many(bench):
    caught = bench.failure(
        bench.fetch, ChecksumMismatch, one=bench.disk(ChecksumMismatch("A is not it"), SourceNotFound("B is gone"))
    )
    assert str(caught) == "A is not it (first of 2 attempts)"
    assert [one.error for one in bench.made.ledger] == ["A is not it", "B is gone"]
    assert [one.number for one in bench.made.ledger] == [1, 2]


def test_one_attempt_is_told_as_it_is(bench):
    bench.queue = replace(bench.queue, read=("A",))
    assert str(bench.failure(bench.fetch, one=bench.disk(SourceNotFound("gone")))) == "gone"


def test_a_refused_credential_is_what_is_told(bench):
    caught = bench.failure(bench.fetch, AuthError, one=bench.disk(SourceNotFound("gone"), AuthError("proxy expired")))
    assert str(caught) == "proxy expired"


def test_a_full_disk_is_what_is_told_whatever_came_before(bench):
    stagers = {"one": bench.disk(AuthError("x")), "two": bench.disk(NoSpace("full"))}
    assert str(bench.failure(bench.fetch, NoSpace, **stagers)) == "full"


def test_without_a_storage_it_is_said_what_to_add(bench):
    bench.queue = Queue(name="Q")
    caught = bench.failure(bench.fetch, TransferError, one=bench.disk())
    assert str(caught) == "input f: queue Q has no storage to read it from (queue's `read` is empty)"
    assert caught.error_code is PilotErrorCode.NOSTORAGEPROTOCOL
    caught = bench.failure(bench.fetch, TransferError, file=InputFile(lfn="f", rse="X"), one=bench.disk())
    assert str(caught) == "input f: queue Q has no storage to read it from; add [queues.Q.storages.X]"
    caught = bench.failure(bench.store, TransferError, one=bench.disk())
    assert str(caught) == "output out: queue Q has no storage to write it to (queue's `write` is empty)"
    caught = bench.failure(bench.store, TransferError, file=OutputFile(lfn="out", rse="X"), one=bench.disk())
    assert str(caught) == "output out: queue Q has no storage to write it to; add [queues.Q.storages.X]"
    assert bench.ledger() == []


def test_where_the_storage_names_another_stager_that_is_said(bench):
    storages = {rse: replace(storage, stagers=("tape",)) for rse, storage in bench.queue.storages.items()}
    bench.queue = replace(bench.queue, storages=storages)
    caught = bench.failure(bench.fetch, BackendUnavailable, one=bench.disk())
    assert "one: the storage A is to be reached by tape only" in str(caught)
    assert caught.error_code == 1313


def test_without_a_stager_it_is_said_how_to_see_what_there_is(bench):
    caught = bench.failure(bench.fetch, BackendUnavailable)
    assert (
        str(caught) == "f: no stager here serves disk; 'pilot-core list-plugins --why disk://A/f' shows what there is"
    )
    assert caught.error_code is PilotErrorCode.NOSTORAGEPROTOCOL


@pytest.mark.parametrize("scope", ["..", ".", "a/../../b", "../x", "/etc", "a\nb", "\ud800"])
def test_a_scope_leads_out_of_no_storage(bench, scope):
    bench.queue = replace(
        bench.queue, storages={rse: Storage(rse=rse, url=f"disk://{rse}", layout="rucio") for rse in "AB"}
    )
    for call, file in ((bench.fetch, InputFile(lfn="f", scope=scope)), (bench.store, OutputFile(lfn="f", scope=scope))):
        caught = bench.failure(call, JobDescriptionError, file=file, one=bench.disk())
        assert "is not the name of a Rucio scope" in str(caught)
    assert bench.ledger() == []


def test_a_layout_that_needs_a_scope_says_so(bench):
    bench.queue = replace(bench.queue, storages={"A": Storage(rse="A", url="disk://A", layout="rucio")})
    caught = bench.failure(bench.fetch, JobDescriptionError, one=bench.disk())
    assert str(caught) == "file f: has no scope, which the storage's layout (rucio) needs"


# -- the ledger --------------------------------------------------------------------------------------------------------

ERRORS = [
    *(SourceNotFound, ChecksumMismatch, SizeMismatch, BackendUnavailable, AuthError, TransferError, TransientError),
    *(TransferTimeout, NoSpace, Cancelled, ValueError, KeyError, SystemExit),
]


@given(
    st.lists(st.sampled_from(ERRORS) | st.none(), max_size=12),
    st.lists(st.sampled_from(ERRORS) | st.none(), max_size=12),
)
def test_any_row_of_errors_ends_and_every_attempt_is_in_the_ledger(tmp_path_factory, first, second):
    bench = Bench(tmp_path_factory.mktemp("bench"))
    stagers = {
        "one": bench.disk(*(kind and kind("x") for kind in first)),
        "two": bench.disk(*(kind and kind("y") for kind in second)),
    }
    try:
        result, failed = bench.fetch(**stagers), None
    except HandledError as error:
        result, failed = None, error
    calls = sum(len(stager.calls) for stager in stagers.values())
    ledger = bench.ledger()
    assert len(ledger) == calls <= 4 * TRIES
    assert [one.number for one in bench.made.ledger] == list(range(1, calls + 1))
    assert [outcome for *_, outcome in ledger].count("ok") == (result is not None)
    assert (ledger[-1][2] == "ok") == (result is not None)
    assert (failed is None) == (result is not None)
    for one in bench.made.ledger:
        assert (one.outcome == "ok") == (one.error == "") == (one.bytes > 0)


def test_attempts_say_when_they_began_and_how_long_they_took(bench):
    class Slow(Disk):
        def fetch(self, request, **more):
            bench.clock.advance(12.5)
            return super().fetch(request, **more)

    bench.fetch(one=Slow(bench.top, SourceNotFound("x")))
    first, second = bench.made.ledger
    assert (first.started, first.seconds) == (1_700_000_000.0, 12.5)
    assert (second.started, second.seconds) == (1_700_000_012.5, 12.5)


def test_each_file_counts_its_own_attempts(bench):
    mover = bench.mover(one=bench.disk(SourceNotFound("x")))
    (bench.top / "A/g").write_bytes(b"g")
    for lfn in ("f", "g"):
        mover.bring_in(InputFile(lfn=lfn), bench.destination, cancel=bench.cancel)
    assert [(one.lfn, one.number) for one in mover.ledger] == [("f", 1), ("f", 2), ("g", 1)]


def test_attempts_are_logged_in_one_line_each(bench, caplog):
    with caplog.at_level(logging.INFO, "pilot_core"):
        bench.fetch(one=bench.disk(SourceNotFound("A: gone")))
        bench.store(one=bench.disk())
    assert caplog.messages == [
        "f: attempt 1 failed: A: gone",
        "f from disk://B/f (22 bytes, 0.000 s)",
        "out to disk://A/out (22 bytes, 0.000 s)",
    ]


# -- taking away again -------------------------------------------------------------------------------------------------


def test_a_stored_file_is_removed(bench):
    bench.mover(one=bench.disk()).remove("A", "disk://A/f", cancel=CancelToken())
    assert not (bench.top / "A/f").exists()


def test_a_file_that_is_gone_already_is_removed(bench, caplog):
    bench.mover(one=bench.disk(), two=bench.disk()).remove("A", "disk://A/none", cancel=CancelToken())
    assert "stays on the storage" not in caplog.text


@pytest.mark.parametrize(
    "error", [AuthError("no"), TransientError("busy"), NoSpace("x"), KeyError("bug"), SystemExit(3)], ids=repr
)
def test_a_backend_that_cannot_remove_leaves_it_to_the_next(bench, error):
    bench.mover(one=bench.disk(error), two=bench.disk()).remove("A", "disk://A/f", cancel=CancelToken())
    assert not (bench.top / "A/f").exists()


@pytest.mark.parametrize(
    ("stager", "why"),
    [
        (AuthError("no"), "no"),
        (KeyError("bug"), "plugin stager.one (pilot-stager-one 1.2) broke: KeyError: 'bug'"),
    ],
)
def test_what_cannot_be_removed_is_said_and_stops_nothing(bench, caplog, stager, why):
    bench.mover(one=bench.disk(stager)).remove("A", "disk://A/f", cancel=CancelToken())
    assert f"disk://A/f stays on the storage: {why}" in caplog.messages
    assert (bench.top / "A/f").exists()


def test_without_a_backend_it_is_said_that_a_file_stays(bench, caplog):
    bench.mover(one=PluginError("not importable")).remove("A", "disk://A/f", cancel=CancelToken())
    bench.mover().remove("A", "disk://A/f", cancel=CancelToken())
    assert caplog.messages == [
        "disk://A/f stays on the storage: not importable",
        "disk://A/f stays on the storage: no stager here serves it",
    ]


# -- the stagers of a pilot --------------------------------------------------------------------------------------------


class Shelf:
    """A registry of stagers, as far as `Backends` asks one."""

    def __init__(self, **schemes):
        self.schemes = schemes
        self.asked = []

    def stagers(self, hook, scheme, named):
        self.asked.append((hook, scheme, tuple(named)))
        return [loaded(name, hook, served) for name, served in self.schemes.items() if scheme in served]


def test_stagers_are_asked_for_by_scheme_and_named_by_the_queue():
    shelf = Shelf(one=("disk", "tape"), two=("tape",))
    queue = Queue(
        name="Q",
        stagers={"read": ("two", "one"), "write": ("one",)},
        storages={"A": Storage(rse="A", url="disk://A", stagers=("three", "one"))},
    )
    backends = Backends(shelf, queue, lambda *_: None)
    urls = ["disk://a/x", "tape://b/x", "DISK://c/x", "no-scheme"]
    assert [one.name for one in backends.stagers("pilot_stagein", urls)] == ["one", "two"]
    named = ("two", "one", "three")
    assert shelf.asked == [("pilot_stagein", scheme, named) for scheme in ("disk", "tape", "")]


def test_a_stager_is_made_once_for_each_way():
    made = []
    backends = Backends(Shelf(), Queue(name="Q"), lambda *what: made.append(what) or object())
    first = backends.instance("pilot_stagein", "one")
    assert backends.instance("pilot_stagein", "one") is first
    assert backends.instance("pilot_stageout", "one") is not first
    assert made == [("stager", "one", "pilot_stagein"), ("stager", "one", "pilot_stageout")]


def test_a_stager_that_could_not_be_made_is_tried_anew():
    outcomes = [PluginError("not yet"), "made"]

    def make(*_):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    backends = Backends(Shelf(), Queue(name="Q"), make)
    with pytest.raises(PluginError):
        backends.instance("pilot_stagein", "one")
    assert backends.instance("pilot_stagein", "one") == "made"


class Making:
    """Makes stagers by name; one of an unlucky name cannot be made."""

    def __call__(self, kind, name, hook):
        if name == "broken":
            raise PluginError("broken: cannot be made")
        return kind, name, hook


def test_a_stager_may_ask_for_the_one_that_serves_a_url():
    backends = Backends(Shelf(broken=("disk",), fine=("disk",)), Queue(name="Q"), Making())
    assert backends.stage_in("disk://A/x") == ("stager", "fine", "pilot_stagein")
    assert backends.stage_out("disk://A/x") == ("stager", "fine", "pilot_stageout")
    with pytest.raises(BackendUnavailable, match=r"^tape://a/x: no stager here serves tape$"):
        backends.stage_in("tape://u:secret@a/x")
    alone = Backends(Shelf(broken=("disk",)), Queue(name="Q"), Making())
    with pytest.raises(BackendUnavailable, match=r"disk://A/x: broken: cannot be made"):
        alone.stage_in("disk://A/x")
