"""A job's description out of a file, as servers were seen to send it."""

from __future__ import annotations

import contextlib
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_communicator_panda import pilot_communicators
from pilot_communicator_panda.description import read_description

from pilot_core import BadJob, CancelToken, ConfigError, Context, Deadline, Job, JobDescriptionError, JobReader
from pilot_core.testing.clock import FakeClock

LOG = logging.getLogger("test")
ENTRY = {"PandaID": 7, "transformation": "/bin/echo", "jobPars": "hello", "attemptNr": 2}


@pytest.mark.parametrize(
    "value",
    [
        ENTRY,
        [ENTRY],
        {"success": True, "message": "", "data": {"StatusCode": 0, "jobs": [{"StatusCode": 0, **ENTRY}]}},
        {"StatusCode": 0, **ENTRY},
        {"StatusCode": 0, "jobs": [ENTRY]},
        {"StatusCode": 0, "jobs": json.dumps([ENTRY])},
    ],
    ids=["alone", "list", "v1", "form", "form-list", "form-text"],
)
def test_a_job_is_read_alone_and_in_every_answer(value):
    job = read_description(value, LOG)
    assert job == Job(id=7, attempt=2, transformation="/bin/echo", parameters="hello")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "not int"),
        ([], "has no jobs"),
        ([ENTRY, ENTRY], "has 2 jobs"),
        ([3], "not int"),
        ({"success": False, "message": "No jobs in PanDA", "data": None}, "No jobs in PanDA"),
        ({"transformation": "x"}, "PandaID: is missing"),
        ({"PandaID": "seven"}, "PandaID: 'seven' is not an integer"),
        ({"jobs": "no"}, "jobs: is not a list"),
    ],
)
def test_what_is_no_job_is_told_in_one_line(value, text):
    with pytest.raises(JobDescriptionError) as caught:
        read_description(value, LOG)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_field_that_makes_no_sense_makes_a_bad_job():
    job = read_description({**ENTRY, "coreCount": "many"}, LOG)
    assert isinstance(job, BadJob)
    assert job.reason.startswith("coreCount: ")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "jobs", "PandaID", "success", "jobPars", "x"]), inner)
    ),
    max_leaves=10,
)


@given(json_values)
def test_any_json_is_a_job_or_one_line(value):
    found = None
    with contextlib.suppress(JobDescriptionError):
        found = read_description(value, LOG)
    assert found is None or found.id >= 1


def test_the_communicator_reads_jobs_without_a_server(tmp_path):
    (provider,) = pilot_communicators()
    context = Context(clock=FakeClock(), log=LOG, work_dir=tmp_path)
    communicator = provider.factory(provider.settings(), context)
    assert isinstance(communicator, JobReader)
    assert communicator.read_job(ENTRY).id == 7
    with pytest.raises(ConfigError, match="no server to talk to"):
        communicator.is_alive(cancel=CancelToken(), deadline=Deadline.after(FakeClock(), 1))
    communicator.close()
