"""What the next pilot reads out of a job's steps."""

from __future__ import annotations

from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from pilot_core import FileReport, JobState, PayloadHandle, PayloadResult
from pilot_core.journal.points import POINTS
from pilot_core.journal.records import Step
from pilot_core.past import NEW, Past
from pilot_core.reporting import Failure, Verdict

STEPS = [name for name in POINTS if not name.startswith(("state-", "pilot-", "ask"))] + ["state", "of a later pilot"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(list(map(str, JobState))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["new", "old", "phases", "failures", "handle", "result", "report", "lfn", "keep", "code", "reason", "limit"]
RESULT = PayloadResult(exit_code=0, signal=None, started=1.0, ended=2.0)
HANDLE = PayloadHandle(executor="process", version=1, data={"pid": 7})
FAILURE = Failure(task="payload", code=1305, message="the payload exited with 1")


def stored(lfn):
    report = FileReport(lfn=lfn, guid="g", size=1, checksum="adler32:00000001")
    return "stored", {"lfn": lfn, "report": asdict(report)}


def past_of(*steps):
    return Past.of(Step(at=float(at), step=step, details=details) for at, (step, details) in enumerate(steps))


@given(
    st.lists(
        st.builds(
            Step,
            at=st.floats(0, 1e10),
            step=st.sampled_from(STEPS),
            details=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
        ),
        max_size=8,
    )
)
def test_a_step_that_makes_no_sense_counts_as_not_taken(steps):
    past = Past.of(steps)
    assert past.begun
    assert past.resumes_at in JobState
    past.verdict().text()


def test_a_new_job_has_no_past():
    assert NEW.resumes_at is JobState.ACQUIRED
    assert NEW.verdict() == Verdict()


def test_what_had_not_come_to_its_payload_begins_anew():
    past = past_of(("acquired", {}), ("state", {"new": "stage-in", "phases": {}, "failures": []}))
    assert (past.state, past.resumes_at) == (JobState.STAGE_IN, JobState.ACQUIRED)


def test_a_payload_that_was_about_to_be_started_may_run():
    past = past_of(("payload-starting", {}))
    assert (past.payload_begun, past.handle) == (True, None)
    past = past_of(("payload-starting", {}), ("payload-started", {"handle": HANDLE.to_json()}))
    assert (past.handle, past.started) == (HANDLE, 1.0)


def test_another_start_is_another_payload():
    """The first was about to be started by a pilot that died, and surely was not."""
    start = [("payload-starting", {}), ("payload-started", {"handle": HANDLE.to_json()})]
    assert past_of(*start, ("payload-starting", {})).handle is None


def test_the_first_cause_is_kept():
    details = {"new": "stage-out", "phases": {"payload": 2.0}, "payload_error": [65, "of the experiment"]}
    past = past_of(("payload-ended", {"result": asdict(RESULT)}), ("state", {**details, "failures": [asdict(FAILURE)]}))
    verdict = past.verdict()
    assert (verdict.payload, verdict.cause) == (RESULT, FAILURE)
    assert (verdict.payload_error_code, verdict.payload_error) == (65, "of the experiment")
    assert past.phases == {"payload": 2.0}


def test_what_was_removed_again_is_not_stored():
    past = past_of(stored("a"), stored("log"), ("withdrawing", {"keep": "log"}))
    assert [report.lfn for report in past.stored] == ["log"]
    assert [report.lfn for report in past_of(stored("a"), stored("a")).stored] == ["a"]


def test_the_first_reason_to_call_a_job_off_counts():
    past = past_of(*(("called-off", {"reason": reason, "code": 1212}) for reason in ("first", "second")))
    assert past.called_off == Failure(task="pilot", code=1212, message="first")
