"""Requests have known fields only, of the type and size that the server takes."""

import json
import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_communicator_panda import encode

from pilot_core import FileReport, JobRequest, JobUpdate, WorkerNode, WorkerStatus

LOG = logging.getLogger("test.fields")

# What panda-server 1.0.4 accepts, written down here from the recorded refusals and its signatures, not from our table.
TYPES = {
    "acquire_jobs": {
        **dict.fromkeys(
            ["site_name", "prod_source_label", "node", "computing_element", "prod_user_id", "resource_type"], str
        ),
        **dict.fromkeys(["harvester_id", "scheduler_id", "job_type"], str),
        **dict.fromkeys(["memory", "disk_space", "task_id", "n_jobs", "worker_id", "remaining_time"], int),
    },
    "update_job": {
        **dict.fromkeys(
            ["job_status", "job_sub_status", "job_output_report", "meta_data", "pilot_log", "stdout", "node"], str
        ),
        **dict.fromkeys(
            ["site_name", "scheduler_id", "pilot_id", "batch_id", "start_time", "end_time", "pilot_timing"], str
        ),
        **dict.fromkeys(["cpu_consumption_unit", "pilot_error_diag", "exe_error_diag", "job_metrics"], str),
        **dict.fromkeys(["job_id", "attempt_nr", "core_count", "cpu_consumption_time", "max_rss", "n_events"], int),
        **dict.fromkeys(["n_input_files", "trans_exit_code", "pilot_error_code", "exe_error_code"], int),
    },
    "update_worker_status": {"worker_id": int, "harvester_id": str, "status": str, "node_id": str},
    "update_worker_node": {
        **dict.fromkeys(
            ["site", "panda_queue", "host_name", "cpu_model", "cpu_architecture", "cpu_architecture_level"], str
        ),
        **dict.fromkeys(["n_logical_cpus", "n_sockets", "cores_per_socket", "threads_per_core", "total_memory"], int),
        "total_local_disk": int,
        "clock_speed": float,
    },
}
LIMITS = {
    "pilot_timing": 100,
    "cpu_consumption_unit": 128,
    "scheduler_id": 128,
    "node": 128,
    "node_id": 128,
    "pilot_id": 200,
    "batch_id": 80,
    "pilot_error_diag": 500,
    "exe_error_diag": 500,
    "job_metrics": 500,
    "stdout": 2048,
    "cpu_architecture_level": 20,
}
INT4 = ("n_input_files", "pilot_error_code", "exe_error_code", "trans_exit_code", "core_count", "attempt_nr")


def check(method, body):
    types = TYPES[method]
    assert set(body) <= set(types)
    for name, value in json.loads(json.dumps(body)).items():
        assert type(value) is types[name], name
        if isinstance(value, str):
            assert "\0" not in value
            value.encode("utf-8")
            assert len(value) <= LIMITS.get(name, math.inf), name
            assert value
        if name in INT4:
            assert abs(value) < 2**31


NUMBER = st.none() | st.integers(-(10**20), 10**20)
TEXT = st.text(max_size=10) | st.integers(0, 5000).map(lambda n: "\u00e9x" * n) | st.just("a\0b\ud800")
WALL = st.none() | st.floats(-1e18, 1e18) | st.floats(0, 4e9)

REPORT = st.builds(
    FileReport,
    lfn=st.text(min_size=1, max_size=5),
    guid=st.text(min_size=1, max_size=5),
    size=st.integers(0, 10**15),
    checksum=st.sampled_from(["adler32:0a0b0c0d", "md5:" + "a" * 32]),
    surl=TEXT,
    rse=TEXT,
    events=NUMBER,
)
UPDATE = st.builds(
    JobUpdate,
    job_id=st.integers(1, 2**63 - 1),
    attempt=NUMBER,
    state=st.sampled_from(["starting", "running", "transferring", "holding", "finished", "failed"]),
    sub_state=TEXT,
    queue=TEXT,
    node=TEXT,
    pilot_id=TEXT,
    batch_id=TEXT,
    scheduler_id=TEXT,
    start_time=WALL,
    end_time=WALL,
    timing=st.lists(st.integers(0, 10**12), max_size=30).map(tuple),
    core_count=NUMBER,
    cpu_seconds=NUMBER,
    cpu_unit=TEXT,
    max_rss_kb=NUMBER,
    input_files=NUMBER,
    events=NUMBER,
    payload_exit_code=NUMBER,
    payload_error_code=NUMBER,
    payload_error=TEXT,
    pilot_error_code=NUMBER,
    pilot_error=TEXT,
    files=st.lists(REPORT, max_size=3).map(tuple),
    metadata=st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.integers(), max_size=2),
    metrics=st.dictionaries(st.text(max_size=9), TEXT, max_size=9),
    log_extract=TEXT,
    stdout=TEXT,
)


@given(UPDATE)
def test_any_update_is_one_that_the_server_takes(update):
    body = encode.encode_update(update, LOG)
    check("update_job", body)
    assert ("job_output_report" in body) == (bool(update.files) and update.final)


@given(
    st.builds(
        JobRequest,
        queue=TEXT,
        label=TEXT,
        node=TEXT,
        memory_mb=NUMBER,
        disk_mb=NUMBER,
        remaining_seconds=NUMBER,
        resource_type=TEXT,
        computing_element=TEXT,
        task_id=NUMBER,
        job_type=TEXT,
        harvester_id=TEXT,
        worker_id=NUMBER,
        scheduler_id=TEXT,
        user=TEXT,
    )
)
def test_any_request_for_jobs_is_one_that_the_server_takes(request):
    check("acquire_jobs", encode.encode_request(request, LOG))


@given(
    st.builds(
        WorkerNode,
        site=TEXT,
        queue=TEXT,
        host_name=TEXT,
        cpu_model=TEXT,
        logical_cpus=NUMBER,
        cpu_architecture_level=TEXT,
        clock_mhz=st.none() | st.integers(0, 10000) | st.floats(0, 1e4),
        memory_mb=NUMBER,
        disk_gb=NUMBER,
    )
)
def test_any_machine_is_one_that_the_server_takes(node):
    check("update_worker_node", encode.encode_node(node, LOG))


@given(st.builds(WorkerStatus, worker_id=st.integers(), harvester_id=TEXT, status=TEXT, site=TEXT, node=TEXT))
def test_any_worker_status_is_one_that_the_server_takes(status):
    check("update_worker_status", encode.encode_status(status, LOG))


def update(**fields):
    return encode.encode_update(JobUpdate(job_id=1, attempt=1, state="running", **fields), LOG)


def test_a_text_is_cut_where_the_server_would_lose_the_update_and_not_before():
    assert update(pilot_error="\u00e9" * 500)["pilot_error_diag"] == "\u00e9" * 500
    assert update(pilot_error="\u00e9" * 501)["pilot_error_diag"] == "\u00e9" * 500
    assert update(batch_id="b" * 100)["batch_id"] == "b" * 80


def test_of_an_output_the_end_is_kept():
    assert update(stdout="a" * 5000 + "end")["stdout"] == "a" * 2045 + "end"


def test_metrics_are_cut_between_pairs():
    body = update(metrics={f"key{n:03}": "v" * 20 for n in range(50)})
    pairs = body["job_metrics"].split(" ")
    assert len(body["job_metrics"]) <= 500
    assert pairs == [f"key{n:03}={'v' * 20}" for n in range(len(pairs))]
    assert len(pairs) == 17


def test_metrics_have_blanks_only_between_pairs():
    assert update(metrics={"leak": "1.5", "GPU name": "Tesla T4\n"})["job_metrics"] == "leak=1.5 GPU_name=Tesla_T4"


def test_timings_are_cut_between_values():
    text = update(timing=tuple([1234567] * 20))["pilot_timing"]
    assert text == "|".join(["1234567"] * 12)


def test_times_are_utc_as_the_server_reads_them():
    assert update(start_time=0.9, end_time=1795355700.0)["start_time"] == "1970-01-01 00:00:00"
    assert update(end_time=1795355700.0)["end_time"] == "2026-11-22 13:55:00"


def test_zero_is_said_and_nothing_is_not():
    body = update(payload_exit_code=0, events=None, pilot_error="")
    assert body == {"job_id": 1, "job_status": "running", "attempt_nr": 1, "trans_exit_code": 0}


def test_an_integer_beyond_its_column_is_clamped_with_a_warning(caplog):
    assert update(input_files=10**12)["n_input_files"] == 2**31 - 1
    assert update(events=10**12)["n_events"] == 10**12
    assert "n_input_files: 1000000000000 is beyond what the server can store" in caplog.text


def test_the_report_names_files_as_the_server_reads_it():
    files = (
        FileReport(lfn="a", guid="g", size=1, checksum="adler32:00000001", surl="file:///a", rse="R", events=3),
        FileReport(lfn="b", guid="h", size=2, checksum=f"md5:{'f' * 32}"),
    )
    assert json.loads(encode.output_report(files)) == {
        "a": {"guid": "g", "fsize": 1, "adler32": "00000001", "surl": "file:///a", "endpoint": "R", "nevents": 3},
        "b": {"guid": "h", "fsize": 2, "md5sum": "f" * 32},
    }


@pytest.mark.parametrize("moment", [1e300, -1e300, math.inf, math.nan])
def test_a_time_that_no_calendar_holds_is_left_out(moment):
    assert "start_time" not in update(start_time=moment)


def test_metadata_of_plugins_that_is_not_json_does_not_lose_the_report(tmp_path):
    assert json.loads(update(metadata={"file": tmp_path})["meta_data"]) == {"file": str(tmp_path)}
