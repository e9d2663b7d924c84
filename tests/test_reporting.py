"""The truth about a job, and the final report as a value that is stored, read and sent."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import (
    AuthError,
    Cancelled,
    CancelToken,
    CommunicationError,
    FileReport,
    HandledError,
    InputFile,
    Job,
    JobUpdate,
    OutputFile,
    PayloadResult,
    PilotErrorCode,
    RequestRefused,
    ServerAnswer,
    TransferAttempt,
)
from pilot_core.logs import Redactor
from pilot_core.reporting import (
    LONGEST_ERROR,
    LONGEST_EXTRACT,
    MOST_ATTEMPTS,
    Facts,
    Failure,
    FinalReport,
    Verdict,
    payload_failure,
)
from pilot_core.testing.clock import FakeClock

CANARY = "canary5d1f7c0ae2"
RESULT = PayloadResult(
    exit_code=0, signal=None, started=100.0, ended=160.0, user_seconds=12.3, system_seconds=4.4, max_rss_kb=2048
)
LOG = FileReport(lfn="log.tgz", guid="g-log", size=3, checksum="adler32:00000001")
OUT = FileReport(lfn="out.root", guid="g-out", size=4, checksum="adler32:00000002")
JOB = Job(
    id=7,
    attempt=2,
    core_count=8,
    inputs=(InputFile(lfn="a"), InputFile(lfn="b")),
    outputs=(OutputFile(lfn="out.root"),),
    log=OutputFile(lfn="log.tgz"),
)
UPDATE = JobUpdate(job_id=7, attempt=2, state="running", queue="Q", node="n", batch_id="17")


def facts(verdict=None, **more):
    values = {
        "job": JOB,
        "verdict": verdict or Verdict(payload=RESULT),
        "phases": {"get-job": 1.4, "stage-in": 2.6, "payload": 60.0, "stage-out": 3.5, "log": 0.1},
        "files": (OUT, LOG),
        "attempts": (),
        "metadata": {},
        "shell": False,
    }
    return Facts(**{**values, **more})


def final(verdict=None, clean=lambda text: text, **more):
    return facts(verdict, **more).final_update(UPDATE, 1000.0, clean)


# -- the verdict -------------------------------------------------------------------------------------------------------


def test_without_a_failure_a_job_is_finished():
    verdict = Verdict()
    assert (verdict.state, verdict.cause, verdict.text()) == ("finished", None, "")


def test_the_first_failure_is_the_cause_and_none_overwrites_another():
    verdict = Verdict(payload=RESULT)
    verdict.fail("payload", 1305, "exited with 3")
    verdict.fail("stage-out", PilotErrorCode.STAGEOUTFAILED, "no storage")
    verdict.fail("log", 1320, "disk full")
    assert verdict.state == "failed"
    assert verdict.cause == Failure(task="payload", code=1305, message="exited with 3")
    assert verdict.text() == "payload: exited with 3; stage-out: no storage; log: disk full"
    assert verdict.payload is RESULT


@given(st.lists(st.tuples(st.sampled_from(["stage-in", "payload", "log"]), st.integers(0, 2000), st.text())))
def test_every_failure_is_kept_in_its_place(failures):
    verdict = Verdict()
    for failure in failures:
        verdict.fail(*failure)
    assert [(f.task, f.code, f.message) for f in verdict.failures] == failures
    assert (verdict.state == "failed") == bool(failures)


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({"exit_code": 1}, 1305, "the payload exited with 1"),
        ({"exit_code": 255}, 1305, "the payload exited with 255"),
        ({"exit_code": None, "signal": 9}, 1305, "the payload was ended by SIGKILL (9)"),
        ({"exit_code": None, "signal": int(signal.SIGSEGV)}, 1328, "the payload was ended by SIGSEGV (11)"),
        ({"exit_code": None, "signal": 99}, 1305, "the payload was ended by a signal (99)"),
        ({"exit_code": None, "error": "no such file"}, 1310, "no such file"),
        ({"exit_code": 0, "error": "lost"}, 1310, "lost"),
    ],
)
def test_a_payloads_end_in_pandas_terms(values, code, message):
    failure = payload_failure(replace(RESULT, **values))
    assert (failure.task, failure.code, failure.message) == ("payload", code, message)


def test_a_payload_that_exits_with_0_did_not_fail():
    assert payload_failure(RESULT) is None


# -- the final update --------------------------------------------------------------------------------------------------


def test_a_finished_job_reports_everything_it_did():
    update = final()
    assert update.final
    assert update.state == "finished"
    assert (update.start_time, update.end_time) == (100.0, 1000.0)
    assert update.timing == (1, 3, 60, 4, 0, 0)
    assert (update.cpu_seconds, update.cpu_unit, update.max_rss_kb) == (17, "s", 2048)
    assert (update.payload_exit_code, update.payload_error_code) == (0, 0)
    assert (update.pilot_error_code, update.pilot_error, update.log_extract) == (0, "", "")
    assert update.files == (OUT, LOG)
    assert update.input_files == 2
    assert update.metrics == {"actualCoreCount": "8"}
    assert (update.job_id, update.attempt, update.queue, update.node, update.batch_id) == (7, 2, "Q", "n", "17")


def test_a_failed_job_reports_its_log_only_and_every_failure_apart():
    verdict = Verdict(payload=replace(RESULT, exit_code=3))
    verdict.fail("payload", 1305, "the payload exited with 3")
    verdict.fail("log", 1320, "no space")
    update = final(verdict)
    assert update.state == "failed"
    assert update.files == (LOG,)
    assert (update.payload_exit_code, update.payload_error_code) == (3, 3)
    assert update.pilot_error_code == 1305
    assert update.pilot_error == "payload: the payload exited with 3; log: no space"
    assert update.metadata["pilot"]["failures"] == [
        {"task": "payload", "code": 1305, "message": "the payload exited with 3"},
        {"task": "log", "code": 1320, "message": "no space"},
    ]


def test_a_stage_out_error_does_not_touch_the_payloads_exit_code():
    verdict = Verdict(payload=RESULT)
    verdict.fail("stage-out", 1137, "no storage")
    update = final(verdict)
    assert (update.payload_exit_code, update.payload_error_code, update.pilot_error_code) == (0, 0, 1137)


def test_a_job_without_a_payload_says_nothing_of_one():
    verdict = Verdict()
    verdict.fail("stage-in", 1331, "gone")
    update = final(verdict, phases={})
    assert (update.payload_exit_code, update.payload_error_code, update.start_time) == (None, None, None)
    assert update.timing == (0, 0, 0, 0, 0, 0)
    assert update.metadata["pilot"]["payload"] is None


def test_a_signal_becomes_the_shells_exit_code():
    verdict = Verdict(payload=replace(RESULT, exit_code=None, signal=9))
    verdict.failures.append(payload_failure(verdict.payload))
    assert final(verdict).payload_exit_code == 137


def test_an_experiments_diagnosis_is_reported_beside_the_exit_code():
    verdict = Verdict(payload=replace(RESULT, exit_code=65), payload_error_code=4711, payload_error="bad conditions")
    verdict.fail("payload", 1305, "bad conditions")
    update = final(verdict)
    assert (update.payload_exit_code, update.payload_error_code, update.payload_error) == (65, 4711, "bad conditions")


def test_a_failed_job_never_has_the_code_0():
    verdict = Verdict()
    verdict.fail("payload", 0, "a plugin's diagnosis without a code")
    assert final(verdict).pilot_error_code == PilotErrorCode.GENERALERROR


def test_secrets_are_in_no_part_of_the_report():
    redactor = Redactor()
    redactor.add([CANARY])
    verdict = Verdict(payload=replace(RESULT, exit_code=1, extra={"x": CANARY}), payload_error=f"e {CANARY}")
    verdict.fail("stage-in", 1099, f"https://s/x?sig={CANARY}")
    attempts = [attempt(1, outcome="AuthError", url=f"https://s/x?sig={CANARY}", error=CANARY)]
    update = final(verdict, redactor.clean, attempts=attempts, metadata={"a": [CANARY], CANARY: {"b": CANARY}})
    assert CANARY not in json.dumps(update.to_json())
    assert "<hidden>" in update.pilot_error


def attempt(number, outcome="ok", **more):
    values = {
        "activity": "read",
        "lfn": f"f{number}",
        "url": "u",
        "rse": "R",
        "backend": "file",
        "backend_version": "1",
        "number": 1,
        "started": 1.0,
        "seconds": 0.5,
        "bytes": 1,
        "outcome": outcome,
    }
    return TransferAttempt(**{**values, **more})


def test_of_many_attempts_the_failed_ones_are_reported_first():
    attempts = [attempt(n, "ok" if n % 3 else "TransientError") for n in range(MOST_ATTEMPTS + 50)]
    own = final(attempts=attempts).metadata["pilot"]
    assert len(own["attempts"]) == MOST_ATTEMPTS
    assert own["attempts_left_out"] == 50
    failed = len([one for one in attempts if one.outcome != "ok"])
    assert [one["outcome"] for one in own["attempts"]] == ["TransientError"] * failed + ["ok"] * (
        MOST_ATTEMPTS - failed
    )
    assert own["attempts"][0] == attempts[0].to_json()


def test_attempts_are_reported_in_the_order_of_the_jobs_files_whenever_they_ended():
    job = Job(id=7, inputs=tuple(InputFile(lfn=f"f{n}") for n in range(3)))
    attempts = [
        replace(attempt(number), lfn=lfn, number=number, outcome=outcome)
        for lfn, number, outcome in (
            ("f2", 1, "ok"),
            ("f1", 1, "AuthError"),
            ("f0", 1, "AuthError"),
            ("f0", 2, "AuthError"),
            ("f0", 3, "ok"),
            ("f1", 2, "ok"),
        )
    ]
    own = final(attempts=attempts, job=job).metadata["pilot"]
    assert [(one["lfn"], one["number"]) for one in own["attempts"]] == [
        *(("f0", 1), ("f0", 2), ("f1", 1)),
        *(("f0", 3), ("f1", 2), ("f2", 1)),
    ]


def test_an_attempts_error_is_reported_within_a_limit_and_no_half_of_a_secret_with_it():
    redactor = Redactor()
    redactor.add([CANARY])
    text = "x" * (LONGEST_ERROR - 5) + CANARY + "y" * 5000
    [one] = final(None, redactor.clean, attempts=[attempt(1, "AuthError", error=text)]).metadata["pilot"]["attempts"]
    assert one["error"] == ("x" * (LONGEST_ERROR - 5) + "<hidden>")[:LONGEST_ERROR]


def test_a_failed_jobs_log_extract_has_its_failed_attempts_for_no_server_keeps_its_metadata():
    verdict = Verdict()
    verdict.fail("stage-in", 1331, "a: gone")
    attempts = [
        replace(attempt(1, "SourceNotFound", error="a:\n gone"), lfn="a", rse="DISK"),
        replace(attempt(2), lfn="b"),
    ]
    one = attempts[0]
    assert final(verdict, attempts=attempts).log_extract == (
        f"stage-in: a: gone\n{one.activity} a, attempt {one.number} by {one.backend} {one.backend_version} at DISK: "
        "SourceNotFound: a: gone"
    )
    assert final(None, attempts=attempts).log_extract == ""


def test_a_log_extract_stays_within_what_the_server_keeps():
    redactor = Redactor()
    redactor.add([CANARY])
    verdict = Verdict()
    verdict.fail("stage-in", 1331, "gone")
    attempts = [attempt(number, "AuthError", error=f"{CANARY} {'x' * 5000}") for number in range(300)]
    text = final(verdict, redactor.clean, attempts=attempts).log_extract
    assert len(text) <= LONGEST_EXTRACT + 4
    assert text.endswith("\n...")
    assert CANARY not in text


class Colour(Enum):
    RED = "red"


class Nasty:
    def __str__(self):
        raise RuntimeError("no")


def test_whatever_plugins_collect_can_be_reported():
    loop = []
    loop.append(loop)
    collected = {
        "path": Path("/x"),
        "nan": math.nan,
        "inf": -math.inf,
        "bytes": b"x",
        "set": {3},
        "enum": Colour.RED,
        "code": PilotErrorCode.SIGTERM,
        "tuple": (1, 2.5, None, True),
        "nasty": Nasty(),
        "lone": "\ud800",
        "loop": loop,
        5: "number as key",
    }
    update = final(metadata=collected)
    plain = json.loads(json.dumps(update.metadata, allow_nan=False))
    assert plain == update.metadata
    assert plain["path"] == "/x"
    assert plain["nan"] is plain["inf"] is None
    assert (plain["set"], plain["enum"], plain["code"]) == ([3], "red", 1201)
    assert plain["tuple"] == [1, 2.5, None, True]
    assert plain["nasty"] == "(Nasty)"
    assert plain["5"] == "number as key"
    assert plain["pilot"]["phases"]["payload"] == 60.0


def test_plugins_cannot_take_the_pilots_own_part():
    assert final(metadata={"pilot": "forged"}).metadata["pilot"]["shell"] is False


# -- the report as a value ---------------------------------------------------------------------------------------------

TEXT = st.text(max_size=10)
NUMBER = st.integers(-(2**63), 2**63)
REAL = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | REAL | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FILES = st.builds(
    FileReport,
    lfn=TEXT,
    guid=TEXT,
    size=NUMBER,
    checksum=TEXT,
    surl=TEXT,
    rse=TEXT,
    events=st.none() | NUMBER,
)
UPDATES = st.builds(
    JobUpdate,
    job_id=NUMBER,
    attempt=st.none() | NUMBER,
    state=st.sampled_from(["finished", "failed"]),
    sub_state=TEXT,
    pilot_error=TEXT,
    pilot_error_code=st.none() | NUMBER,
    payload_exit_code=st.none() | NUMBER,
    start_time=st.none() | REAL,
    end_time=st.none() | REAL,
    timing=st.lists(NUMBER, max_size=6).map(tuple),
    files=st.lists(FILES, max_size=3).map(tuple),
    metadata=st.dictionaries(TEXT, JSON, max_size=3),
    metrics=st.dictionaries(TEXT, TEXT, max_size=3),
    log_extract=TEXT,
)


@given(UPDATES, REAL)
def test_a_report_is_the_same_after_it_was_stored(update, made):
    report = FinalReport(update=update, made=made)
    assert FinalReport.from_json(json.loads(json.dumps(report.to_json()))) == report


VERDICTS = st.builds(
    Verdict,
    payload=st.none()
    | st.builds(
        PayloadResult,
        exit_code=st.none() | st.integers(0, 255),
        signal=st.none() | st.integers(1, 64),
        started=REAL,
        ended=REAL,
        user_seconds=st.floats(0, 1e9),
        system_seconds=st.floats(0, 1e9),
        max_rss_kb=NUMBER,
        error=TEXT,
        extra=st.dictionaries(TEXT, JSON, max_size=2),
    ),
    failures=st.lists(st.builds(Failure, task=TEXT, code=st.sampled_from(PilotErrorCode) | NUMBER, message=TEXT)),
    payload_error_code=st.none() | NUMBER,
    payload_error=TEXT,
)


@given(VERDICTS, st.dictionaries(TEXT, st.floats(0, 1e6), max_size=4), st.dictionaries(TEXT, JSON, max_size=3))
def test_any_jobs_end_makes_a_report_that_can_be_stored(verdict, phases, metadata):
    update = final(verdict, phases=phases, metadata=metadata)
    report = FinalReport(update=update, made=1000.0)
    assert FinalReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report
    assert update.state == ("failed" if verdict.failures else "finished")
    assert (update.pilot_error_code != 0) == bool(verdict.failures)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"version": 2}, "a final report of version 2; this pilot knows version 1"),
        ({}, "version None"),
        ([], "version None"),
        (None, "version None"),
        ({"version": 1}, "not whole: KeyError: 'update'"),
        ({"version": 1, "made": 1, "update": {}}, "not whole: TypeError: "),
        ({"version": 1, "made": 1, "update": []}, "not whole: "),
        ({"version": 1, "made": None, "update": UPDATE.to_json()}, "not whole: TypeError: "),
        ({"version": 1, "made": 1, "update": {**UPDATE.to_json(), "new": 1}}, "unexpected keyword argument 'new'"),
    ],
)
def test_what_is_no_report_is_a_value_error(value, message):
    with pytest.raises(ValueError, match="a final report") as caught:
        FinalReport.from_json(value)
    assert message in str(caught.value)


@given(JSON)
def test_any_json_is_a_report_or_a_value_error(value):
    with pytest.raises(ValueError, match="a final report"):
        FinalReport.from_json(value)
    with pytest.raises(ValueError, match="a final report"):
        FinalReport.from_json({"version": 1, "made": 0, "update": value})


# -- kept --------------------------------------------------------------------------------------------------------------

REPORT = FinalReport(update=replace(UPDATE, state="finished", log_extract="\ud800☃"), made=5.0)


def test_a_kept_report_is_read_back(tmp_path):
    path = REPORT.store(tmp_path / "spool")
    assert path == tmp_path / "spool/7-2.json"
    assert FinalReport.from_json(json.loads(path.read_text(encoding="utf-8"))) == REPORT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [path.name for path in path.parent.iterdir()] == ["7-2.json"]


def test_a_report_that_is_kept_again_replaces_the_older_one(tmp_path):
    REPORT.store(tmp_path)
    path = replace(REPORT, made=6.0).store(tmp_path)
    assert json.loads(path.read_text())["made"] == 6.0


def test_reports_of_several_jobs_and_attempts_lie_side_by_side(tmp_path):
    for attempt_number in (None, 1, 2):
        replace(REPORT, update=replace(UPDATE, attempt=attempt_number)).store(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"7-0.json", "7-1.json", "7-2.json"}


def test_what_a_dead_process_left_half_does_not_stand_in_the_way(tmp_path):
    (tmp_path / f".7-2.json.{os.getpid()}.part").write_text("half")
    REPORT.store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["7-2.json"]


def test_a_report_that_cannot_be_kept_leaves_the_older_one_and_no_half(tmp_path):
    """The limit of a file's size is the full disk here."""
    REPORT.store(tmp_path)
    code = (
        "import pathlib, resource, sys\n"
        "from pilot_core import JobUpdate\n"
        "from pilot_core.reporting import FinalReport\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "update = JobUpdate(job_id=7, attempt=2, state='failed')\n"
        "try: FinalReport(update=update, made=6.0).store(pathlib.Path(sys.argv[1]))\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    [path] = tmp_path.iterdir()
    assert FinalReport.from_json(json.loads(path.read_text())) == REPORT


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(OSError, match="File exists"):
        REPORT.store(tmp_path / "spool")


# -- sent --------------------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """The way to a server, as far as a report goes it: answers once, or fails once."""

    answer: ServerAnswer | Exception
    seen: list = field(default_factory=list)

    def update(self, update, *, cancel, deadline):
        self.seen.append((update, deadline.remaining(), cancel))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_report_is_sent_as_it_is_within_its_budget():
    line, cancel = Line(ServerAnswer(commands=("tobekilled",))), CancelToken()
    assert REPORT.send(line, FakeClock(), budget=1800, cancel=cancel).kill
    assert line.seen == [(REPORT.update, 1800.0, cancel)]


@pytest.mark.parametrize(
    "error", [CommunicationError("down"), RequestRefused("no"), AuthError("expired"), Cancelled("now")]
)
def test_what_the_communicator_says_is_passed_on(error):
    with pytest.raises(HandledError) as caught:
        REPORT.send(Line(error), FakeClock(), budget=1, cancel=CancelToken())
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyError("x"), OSError("y"), RecursionError()])
def test_a_communicator_that_breaks_does_not_lose_the_report(error):
    with pytest.raises(CommunicationError, match=f"the communicator broke: {type(error).__name__}: "):
        REPORT.send(Line(error), FakeClock(), budget=1, cancel=CancelToken())
