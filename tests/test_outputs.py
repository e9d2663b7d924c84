"""What comes out of a job: all outputs or none, and the log."""

from __future__ import annotations

import json
import os
import tarfile
import uuid
import zlib

import pytest

from pilot_core import (
    AuthError,
    Cancelled,
    CancelToken,
    HandledError,
    InputFile,
    Job,
    JobDescriptionError,
    NoSpace,
    OutputFile,
    PilotErrorCode,
    Queue,
    SourceNotFound,
    Storage,
    TransferResult,
)
from pilot_core.journal import FileJournal, SteadyJournal
from pilot_core.logs import job_logger
from pilot_core.outputs import Outputs
from pilot_core.plugins import Loaded, Record
from pilot_core.staging import Mover
from pilot_core.testing.clock import FakeClock

JOB = Job(
    id=7,
    inputs=(InputFile(lfn="in.root"),),
    outputs=tuple(OutputFile(lfn=f"out{number}.root") for number in (1, 2, 3)),
    log=OutputFile(lfn="log.tgz", guid="the-logs-guid"),
)


class Disk:
    """A stager for one folder; `fails` has the error for a file's name, if that is to fail."""

    def __init__(self, top):
        self.top = top
        self.fails = {}
        self.removed = []

    def store(self, request, *, cancel, deadline):
        name = request.url.rpartition("/")[2]
        if name in self.fails:
            raise self.fails[name]
        data = request.source.read_bytes()
        (self.top / name).write_bytes(data)
        return TransferResult(size=len(data), checksum=f"adler32:{zlib.adler32(data):08x}", url=request.url)

    def remove(self, url, *, cancel, deadline):
        cancel.raise_if_cancelled()
        self.removed.append(url)
        try:
            (self.top / url.rpartition("/")[2]).unlink()
        except FileNotFoundError:
            raise SourceNotFound(url) from None


class Tiny:
    """The one stager of these tests."""

    def __init__(self, disk):
        self.disk = disk

    def stagers(self, hook, urls):
        from pilot_core import Provider

        provider = Provider(name="disk", factory=lambda *_: None, schemes=frozenset({"disk"}))
        record = Record(
            entry_point="stager.disk", value="x", api=1, distribution="d", version="1", where="", directory=""
        )
        return [Loaded(hook, provider, record)]

    def recorded(self, hook, candidate):
        return None

    def instance(self, hook, name):
        return self.disk


class Bench:
    def __init__(self, tmp_path, job=JOB, queue_name="Q"):
        self.storage = tmp_path / "storage"
        self.storage.mkdir()
        self.dir = tmp_path / "job"
        self.payload = self.dir / "payload"
        self.payload.mkdir(parents=True)
        (self.dir / "pilot.log").write_text("the pilot's log\n")
        self.clock = FakeClock()
        journal = SteadyJournal(lambda error: pytest.fail(str(error)))
        journal.begin(FileJournal(self.dir / "journal.jsonl", self.clock))
        self.disk = Disk(self.storage)
        queue = Queue(name=queue_name, storages={"S": Storage(rse="S", url="disk://S")}, write=("S",))
        mover = Mover(
            queue=queue,
            backends=Tiny(self.disk),
            clock=self.clock,
            log=job_logger(7, "staging"),
            listener=lambda _: None,
        )
        self.journal = journal
        self.outputs = Outputs(job, queue_name, mover, journal)
        self.cancel, self.cleanup = CancelToken(), CancelToken()

    def write(self, *names):
        for name in names:
            (self.payload / name).write_text(f"content of {name}")

    def store_all(self):
        self.outputs.store_all(self.payload, cancel=self.cancel, cleanup=self.cleanup)

    def store_log(self):
        self.outputs.store_log(self.outputs._job.log, self.dir, cancel=self.cancel)

    def stored(self):
        return sorted(path.name for path in self.storage.iterdir())

    def members(self, name="log.tgz"):
        with tarfile.open(self.storage / name) as tar:
            return {member.name: member for member in tar}


@pytest.fixture
def bench(tmp_path):
    one = Bench(tmp_path)
    yield one
    one.journal.close()


@pytest.fixture
def make(tmp_path):
    """Make a bench for another job."""
    made = []

    def make(**more):
        made.append(Bench(tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.journal.close()


# -- outputs -----------------------------------------------------------------------------------------------------------


def test_every_output_is_stored_and_described(bench):
    bench.write("out1.root", "out2.root", "out3.root", "scratch")
    bench.store_all()
    assert bench.stored() == ["out1.root", "out2.root", "out3.root"]
    for number, report in enumerate(bench.outputs.stored, start=1):
        content = f"content of out{number}.root".encode()
        assert (report.lfn, report.size, report.rse) == (f"out{number}.root", len(content), "S")
        assert report.checksum == f"adler32:{zlib.adler32(content):08x}"
        assert report.surl == f"disk://S/out{number}.root"
        assert uuid.UUID(report.guid).version == 4
    assert len({report.guid for report in bench.outputs.stored}) == 3


def test_outputs_are_taken_back_and_the_log_stays(bench):
    bench.write("out1.root", "out2.root", "out3.root")
    bench.store_all()
    bench.store_log()
    bench.outputs.withdraw(cancel=bench.cleanup)
    assert bench.stored() == ["log.tgz"]
    assert [report.lfn for report in bench.outputs.stored] == ["log.tgz"]


def test_each_stored_file_is_in_the_journal(bench):
    bench.write("out1.root", "out2.root", "out3.root")
    bench.store_all()
    lines = [json.loads(line) for line in (bench.dir / "journal.jsonl").read_text().splitlines()]
    # they are stored side by side
    assert sorted((line["step"], line["lfn"]) for line in lines) == [
        ("stored", "out1.root"),
        ("stored", "out2.root"),
        ("stored", "out3.root"),
    ]
    assert lines[0]["checksum"].startswith("adler32:")


def test_a_job_without_outputs_stores_none(make):
    bench = make(job=Job(id=7))
    bench.store_all()
    assert bench.outputs.stored == []


def test_nothing_is_stored_before_all_outputs_are_known_to_be_there(bench):
    bench.write("out1.root", "out2.root")
    with pytest.raises(
        HandledError, match=r"output out3\.root was not written by the payload; its log shows"
    ) as caught:
        bench.store_all()
    assert caught.value.error_code is PilotErrorCode.MISSINGOUTPUTFILE
    assert bench.stored() == []
    assert bench.disk.removed == []


def test_an_output_that_may_be_missing_may_be_missing(make):
    bench = make(job=Job(id=7, outputs=(OutputFile(lfn="a", may_be_missing=True), OutputFile(lfn="b"))))
    bench.write("b")
    bench.store_all()
    assert [report.lfn for report in bench.outputs.stored] == ["b"]


@pytest.mark.parametrize("may_be_missing", [True, False])
@pytest.mark.parametrize(
    ("planted", "text"),
    [
        ("link", "is a link; the payload has to write a plain file"),
        ("dangling", "is a link; the payload has to write a plain file"),
        ("directory", "is not a plain file; the payload has to write a plain file"),
        ("pipe", "is not a plain file; the payload has to write a plain file"),
    ],
)
def test_what_is_no_plain_file_is_not_stored(make, tmp_path, planted, text, may_be_missing):
    """A link could lead to the pilot's own credentials; a pipe would never end."""
    bench = make(job=Job(id=7, outputs=(OutputFile(lfn="out", may_be_missing=may_be_missing),)))
    target = bench.payload / "out"
    (tmp_path / "secret").write_text("canary")
    {
        "link": lambda: target.symlink_to(tmp_path / "secret"),
        "dangling": lambda: target.symlink_to("nowhere"),
        "directory": target.mkdir,
        "pipe": lambda: os.mkfifo(target),
    }[planted]()
    with pytest.raises(HandledError, match=f"output out {text}") as caught:
        bench.store_all()
    assert caught.value.error_code is PilotErrorCode.MISSINGOUTPUTFILE
    assert bench.stored() == []


@pytest.mark.parametrize("lfn", ["../pilot.log", "/etc/passwd", "a/b", ""])
def test_a_name_that_leads_elsewhere_is_refused(make, lfn):
    bench = make(job=Job(id=7, outputs=(OutputFile(lfn=lfn),)))
    with pytest.raises(JobDescriptionError, match="not a plain file name"):
        bench.store_all()
    assert bench.stored() == []


@pytest.mark.parametrize(
    "error", [NoSpace("full"), AuthError("expired"), Cancelled("killed"), KeyError("bug"), SystemExit(1)], ids=repr
)
def test_all_or_none(bench, error):
    """What was stored before the one that failed is taken away again, whatever the reason."""
    bench.write("out1.root", "out2.root", "out3.root")
    bench.disk.fails["out3.root"] = error
    with pytest.raises(HandledError):
        bench.store_all()
    assert bench.stored() == []
    assert bench.outputs.stored == []
    assert set(bench.disk.removed) <= {"disk://S/out1.root", "disk://S/out2.root"}
    assert bench.disk.removed == sorted(bench.disk.removed)


def test_a_cancelled_job_still_takes_away_what_it_stored(bench):
    """Cancelled between two files: the cleaning up has a token of its own."""
    bench.write("out1.root", "out2.root", "out3.root")
    copy = bench.disk.store

    def store(request, **more):
        result = copy(request, **more)
        bench.cancel.cancel("tobekilled")
        return result

    bench.disk.store = store
    with pytest.raises(Cancelled, match="tobekilled"):
        bench.store_all()
    assert bench.stored() == []


def test_cleaning_up_that_is_called_off_says_what_stays(bench, caplog):
    bench.write("out1.root", "out2.root", "out3.root")
    bench.disk.fails["out2.root"] = AuthError("expired")
    bench.cleanup.cancel("hurry")
    with pytest.raises(AuthError):
        bench.store_all()
    assert "disk://S/out1.root stays on the storage: hurry" in caplog.messages
    assert bench.outputs.stored == []


def test_an_output_that_vanishes_meanwhile_takes_the_others_along(bench):
    bench.write("out1.root", "out2.root", "out3.root")
    copy = bench.disk.store

    def store(request, **more):
        (bench.payload / "out3.root").unlink(missing_ok=True)
        return copy(request, **more)

    bench.disk.store = store
    with pytest.raises((FileNotFoundError, HandledError)):
        bench.store_all()
    assert bench.stored() == []
    assert bench.outputs.stored == []


# -- the log -----------------------------------------------------------------------------------------------------------


def test_the_log_is_stored_and_described_with_its_own_guid(bench):
    bench.write("payload.stdout", "in.root", "out1.root")
    bench.store_log()
    [report] = bench.outputs.stored
    data = (bench.storage / "log.tgz").read_bytes()
    assert (report.lfn, report.guid, report.size) == ("log.tgz", "the-logs-guid", len(data))
    assert report.checksum == f"adler32:{zlib.adler32(data):08x}"
    folder = "tarball_PandaJob_7_Q"
    assert set(bench.members()) == {f"{folder}/{name}" for name in ("pilot.log", "journal.jsonl", "payload.stdout")}


def test_secrets_never_go_into_the_log(bench):
    """As they lie there when a job ends before its payload."""
    bench.write("panda_secrets.json", "payload.stdout")
    bench.store_log()
    assert "tarball_PandaJob_7_Q/panda_secrets.json" not in bench.members()


def test_the_log_of_a_job_without_a_directory_of_its_own_files(bench):
    (bench.dir / "pilot.log").unlink()
    (bench.dir / "journal.jsonl").unlink()
    bench.store_log()
    assert bench.members() == {}


def test_a_queues_name_makes_one_folder(make):
    bench = make(queue_name="a/b/../c")
    bench.store_log()
    assert {name.count("/") for name in bench.members()} == {1}
    assert all(name.startswith("tarball_PandaJob_7_a_b_.._c/") for name in bench.members())


@pytest.mark.parametrize("lfn", ["pilot.log", "journal.jsonl", "payload", "log", "control"])
def test_a_log_may_have_any_name(make, lfn):
    """Also one that something in the job's directory has: that stays as it is."""
    bench = make(job=Job(id=7, log=OutputFile(lfn=lfn)))
    (bench.dir / "control").mkdir()
    bench.store_log()
    assert "tarball_PandaJob_7_Q/pilot.log" in bench.members(lfn)
    assert (bench.dir / "pilot.log").read_text() == "the pilot's log\n"


@pytest.mark.parametrize("lfn", ["../x", "a/b", ""])
def test_a_log_whose_name_leads_elsewhere_is_refused(make, lfn):
    bench = make(job=Job(id=7, log=OutputFile(lfn=lfn)))
    with pytest.raises(JobDescriptionError, match="not a plain file name"):
        bench.store_log()
    assert bench.stored() == []


def test_a_log_that_cannot_be_stored_takes_nothing_away(bench):
    bench.write("out1.root", "out2.root", "out3.root")
    bench.store_all()
    bench.disk.fails["log.tgz"] = AuthError("expired")
    with pytest.raises(AuthError):
        bench.store_log()
    assert bench.stored() == ["out1.root", "out2.root", "out3.root"]
    assert len(bench.outputs.stored) == 3


def test_a_pilot_in_a_hurry_makes_no_log(bench):
    bench.write("payload.stdout")
    bench.cancel.cancel("the pilot got SIGTERM again")
    with pytest.raises(Cancelled, match="SIGTERM again"):
        bench.store_log()
    assert bench.stored() == []
