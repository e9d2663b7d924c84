"""The Adder's verdicts: what the report of a finished or failed job must contain."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_devserver.store_adder import Reported, judge
from pilot_devserver.store_jobs import FileSpec

GOOD = {"guid": "g", "fsize": 1, "adler32": "00000001"}
OUT, LOG, IN = FileSpec(lfn="out", kind="output"), FileSpec(lfn="log", kind="log"), FileSpec(lfn="in")
NO_REPORT = "Could not get GUID/LFN/MD5/FSIZE/SURL from pilot JSON"


def verdict(report, *, files=(IN, OUT, LOG), state="finished", **values):
    text = report if isinstance(report, str) else json.dumps(report)
    return judge(Reported(state=state, report=text, files=files, **values))


def test_a_complete_report_finishes_the_job():
    assert verdict({"out": GOOD, "log": GOOD}).status == "finished"


def test_a_job_without_outputs_needs_no_report():
    assert verdict("", files=(IN,)).status == "finished"
    assert verdict("", files=(), state="failed").status == "failed"


def test_an_md5_sum_will_do():
    entry = {"guid": "g", "fsize": "1", "md5sum": "d41d8cd98f00b204e9800998ecf8427e"}
    assert verdict({"out": entry, "log": entry}).status == "finished"


@pytest.mark.parametrize(
    "report",
    [
        "",
        "nonsense",
        "5",
        "null",
        '"text"',
        '["out"]',
        {"out": {}, "log": GOOD},
        {"out": "x", "log": GOOD},
        {"out": {"fsize": 1, "adler32": "1"}, "log": GOOD},
        {"out": {"guid": "g", "adler32": "1"}, "log": GOOD},
        {"out": {"guid": "g", "fsize": 1}, "log": GOOD},
        {"out": {"guid": "g", "fsize": 1, "md5sum": "short"}, "log": GOOD},
        {"out": {"guid": "g", "fsize": None, "adler32": "1"}, "log": GOOD},
        {"out": {"guid": "g", "fsize": "many", "adler32": "1"}, "log": GOOD},
        "[" * 100_000,
    ],
)
def test_an_unreadable_report_fails_the_job(report):
    refused = verdict(report)
    assert (refused.status, refused.ddm_error) == ("failed", NO_REPORT)
    assert refused.files == {"out": "failed", "log": "failed"}
    assert verdict(report, has_error=True).ddm_error == "", "the pilot's own error says it already"


def test_a_missing_output_fails_the_job():
    assert verdict({"out": GOOD}).ddm_error == "expected output log is missing in pilot JSON"
    assert verdict({"log": GOOD}).ddm_error == "expected output out is missing in pilot JSON"
    assert verdict({}).ddm_error == "expected output log is missing in pilot JSON", "the last one is named"


def test_an_output_that_may_be_missing_may():
    optional = FileSpec(lfn="out", kind="output", dispatch_token="an")
    found = verdict({"log": GOOD}, files=(optional, LOG))
    assert (found.status, found.files) == ("finished", {"out": "nooutput", "log": "ready"})


def test_an_unknown_file_fails_the_job():
    refused = verdict({"out": GOOD, "log": GOOD, "other": GOOD})
    assert (refused.status, refused.ddm_error) == ("failed", "pilot produced other inconsistently with jobdef")


def test_numbered_outputs_take_the_place_of_theirs():
    assert verdict({"out._1": GOOD, "out._2": GOOD, "log": GOOD}).status == "finished"
    pattern = FileSpec(lfn="regex|^hist.*$", kind="output")
    assert verdict({"hist.a": GOOD, "hist.b": GOOD, "log": GOOD}, files=(pattern, LOG)).status == "finished"


@pytest.mark.parametrize(("label", "status"), [("managed", "failed"), ("test", "failed"), ("user", "skipped")])
def test_a_listed_input_is_noted(label, status):
    found = verdict({"in": {"guid": "g"}, "out": GOOD, "log": GOOD}, label=label)
    assert (found.status, found.files["in"]) == ("finished", status)


def test_a_failed_job_needs_its_log_only():
    failed = verdict({"log": GOOD}, state="failed")
    assert (failed.status, failed.ddm_error) == ("failed", "")
    assert verdict({}, state="failed").ddm_error == "expected output log is missing in pilot JSON"


def test_a_killed_job_is_cancelled_unless_it_finished():
    assert verdict({"log": GOOD}, state="failed", killed=True).status == "cancelled"
    assert verdict({"out": GOOD, "log": GOOD}, killed=True).status == "finished"
    assert verdict("", killed=True).status == "cancelled"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["out", "log", "guid", "fsize"]), inner)
    ),
    max_leaves=8,
)


@given(report=st.text() | json_values.map(json.dumps), state=st.sampled_from(["finished", "failed"]))
def test_any_report_gets_a_verdict(report, state):
    found = verdict(report, state=state)
    assert found.status in ("finished", "failed")
    if found.status == "finished":
        assert {"out", "log"} <= set(json.loads(report))
