"""Traces: what Rucio is told of transfers, and that no job ever waits for it."""

import logging

import pytest
from pilot_catalog_rucio.traces import TOGETHER, WAITING, trace_of

from pilot_core import Deadline, HearsTransfers, InputFile, Job, OutputFile, Queue, TransferAttempt
from pilot_core.testing.loopback import Reaction
from pilot_core.testing.servers.rucio import NEEDS

JOB = Job(
    id=4711,
    attempt=2,
    task_id=815,
    label="managed",
    user="/DC=org/CN=A User",
    inputs=(InputFile(lfn="in.root", scope="data26", dataset="data26:data26.set", guid="ABC"),),
    outputs=(OutputFile(lfn="out.root", scope="user.pilot", dataset="user.pilot.out"),),
    log=OutputFile(lfn="log.tgz", scope="user.pilot"),
)


def attempt_at(lfn, activity="read", outcome="ok", error="", url="davs://a.example.org:443/x/in.root?sig=canary"):
    return TransferAttempt(
        activity=activity,
        lfn=lfn,
        url=url,
        rse="FAR_DISK",
        backend="stager.http",
        backend_version="0.1",
        number=1,
        started=1_700_000_000.0,
        seconds=2.5,
        bytes=7,
        outcome=outcome,
        error=error,
    )


def test_a_trace_says_what_happened():
    trace = trace_of(JOB, attempt_at("in.root"), site="HERE", queue="Q", version="pilot-core/1")
    wanted = {
        "eventType": "get_sm",
        "eventVersion": "pilot-core/1",
        "clientState": "DONE",
        "stateReason": "OK",
        "localSite": "HERE",
        "remoteSite": "FAR_DISK",
        "protocol": "davs",
        "url": "davs://a.example.org:443/x/in.root",
        "scope": "data26",
        "filename": "in.root",
        "dataset": "data26.set",
        "datasetScope": "data26",
        "filesize": 7,
        "transferStart": 1_700_000_000.0,
        "transferEnd": 1_700_000_002.5,
        "pq": "Q",
        "taskid": "815",
    }
    assert wanted.items() <= trace.items()


@pytest.mark.parametrize(
    ("lfn", "activity", "label", "event"),
    [
        ("in.root", "read", "user", "get_sm_a"),
        ("out.root", "write", "managed", "put_sm"),
        ("out.root", "write", "panda", "put_sm_a"),
        ("log.tgz", "log", "managed", "put_sm"),
    ],
)
def test_the_event_is_by_direction_and_kind_of_job(lfn, activity, label, event):
    from dataclasses import replace

    job = replace(JOB, label=label)
    assert trace_of(job, attempt_at(lfn, activity), site="", queue="", version="")["eventType"] == event


def test_a_failure_says_why():
    failed = attempt_at("in.root", outcome="SourceNotFound", error="x" * 9999)
    trace = trace_of(JOB, failed, site="HERE", queue="Q", version="")
    assert trace["clientState"] == "FAILED_SourceNotFound"
    assert trace["stateReason"].startswith("SourceNotFound:xx")
    assert len(trace["stateReason"]) == 500


def test_an_input_that_the_payload_reads_where_it_lies_is_found_and_not_moved():
    trace = trace_of(JOB, attempt_at("in.root", outcome="remote-io"), site="HERE", queue="Q", version="pilot-core/1")
    assert (trace["clientState"], trace["stateReason"]) == ("FOUND_ROOT", "direct_access")


def test_a_file_of_nobodys_has_a_trace_all_the_same():
    assert trace_of(JOB, attempt_at("stranger"), site="", queue="", version="")["scope"] == ""


def test_without_the_setting_nothing_is_told(said, scripted, limits):
    catalog, server = scripted(said(201))
    assert isinstance(catalog, HearsTransfers)
    catalog.attempted(JOB, attempt_at("in.root"))
    catalog.settle(**limits)
    assert server.requests == 0


def test_traces_go_out_in_few_requests_without_a_credential(said, scripted, limits):
    catalog, server = scripted(Reaction(data=said(201)), traces=True)
    for number in range(2 * TOGETHER):
        catalog.attempted(JOB, attempt_at(f"{number}.root"))
    catalog.settle(**limits)
    assert 1 <= server.requests <= 4
    seen = server.seen()
    assert seen.count("POST /traces/") == server.requests
    assert "rucio-auth" not in seen.lower()


@pytest.mark.parametrize("how", ["hangs", "refuses", "breaks"])
def test_no_job_waits_for_a_server_of_traces(said, scripted, how, cancel, clock, caplog):
    caplog.set_level(logging.WARNING)
    reaction = {"hangs": Reaction(then="hang"), "refuses": said(500), "breaks": Reaction(then="reset")}[how]
    catalog, server = scripted(reaction, traces=True)
    started = clock.monotonic()
    for number in range(100):
        catalog.attempted(JOB, attempt_at(f"{number}.root"))
    catalog.settle(cancel=cancel, deadline=Deadline.after(clock, 0.5 if how == "hangs" else 20))
    assert clock.monotonic() - started < 10
    server.refuse()
    catalog.settle(cancel=cancel, deadline=Deadline.after(clock, 20))
    assert "traces for Rucio are dropped" in caplog.text


def test_traces_do_not_pile_up_without_end(said, scripted, limits):
    catalog, server = scripted(Reaction(then="hang"), said(201), traces=True)
    catalog.attempted(JOB, attempt_at("first.root"))
    server.await_requests(1)
    for number in range(WAITING + 50):
        catalog.attempted(JOB, attempt_at(f"{number}.root"))
    assert len(catalog._traces._waiting) == WAITING
    catalog._traces._waiting.clear()
    server.refuse()
    catalog.settle(**limits)


@pytest.mark.needs(NEEDS)
def test_rucio_understands_the_traces(server, login, make, limits):
    """Rucio checks each against its schema, and says in its log what is wrong."""
    catalog = make(**login, traces=True).seen_from(Queue(name="Q", site="HERE"))
    attempts = [
        attempt_at("in.root"),
        attempt_at("out.root", "write", url="root://near.example.org:1094//x"),
        attempt_at("log.tgz", "log", "TransferTimeout", "no bytes for 300 s"),
    ]
    for attempt in attempts:
        catalog.attempted(JOB, attempt)
    catalog.settle(**limits)
    traces = server.traces()
    assert [trace["filename"] for trace in traces] == ["in.root", "out.root", "log.tgz"]
    assert all("traceTimeentryUnix" in trace for trace in traces), "Rucio has not completed them"
    assert not any("problem" in trace for trace in traces), traces
    catalog._traces.add(lambda: {"eventType": "get_sm"})
    catalog.settle(**limits)
    assert "problem" in server.traces()[0], "Rucio checks nothing"
