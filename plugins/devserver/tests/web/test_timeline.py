"""A job's timeline: the right events, in order, within the drawing."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies
from pilot_devserver.web.exchanges import ExchangeLog
from pilot_devserver.web.timeline import Event, draw, events_of, listed, transfers_of

from pilot_core.api.server import JobRecord, ServerRequest, ServerResponse
from pilot_core.testing.clock import FakeClock

STATES = ["activated", "sent", "running", "holding", "finished"]


def job(history, heartbeats=()):
    return JobRecord(
        id=1,
        queue="Q",
        status=history[-1][1],
        attempt=1,
        label="managed",
        description={},
        history=history,
        heartbeats=heartbeats,
    )


@pytest.fixture
def log():
    return ExchangeLog(FakeClock(wall=1000.0))


def update(log, state, command="NULL", **values):
    request = ServerRequest(
        method="POST",
        path="/api/v1/pilot/update_job",
        headers={"content-type": "application/json"},
        body=json.dumps({"job_id": 1, "job_status": state}).encode(),
    )
    answer = {"success": True, "data": {"StatusCode": 0, "command": command}}
    return log.add(log.begin(), request, ServerResponse(body=json.dumps(answer).encode()), **values)


def test_states_updates_commands_exchanges_and_faults_are_events(log):
    update(log, "running", "tobekilled", faults=["delay seconds=1.0"])
    found = events_of(job([(990.0, "activated"), (999.0, "sent")], [1000.0]), log.all())
    assert [(event.lane, event.text) for event in found] == [
        ("state", "the job is activated"),
        ("state", "the job is sent"),
        ("update", "the pilot reports running"),
        ("command", "the pilot is told tobekilled"),
        ("exchange", "pilot/update_job: HTTP 200 in 0.0 ms"),
        ("fault", "fault: delay seconds=1.0"),
    ]
    assert {event.link for event in found[2:]} == {"/exchanges/1"}


def test_an_update_whose_exchange_is_not_kept_any_more_is_still_one(log):
    update(log, "running")
    found = [event for event in events_of(job([(990.0, "sent")], [995.0, 1000.0]), log.all()) if event.lane == "update"]
    assert [(event.time, event.link) for event in found] == [(995.0, ""), (1000.0, "/exchanges/1")]


ATTEMPT = {
    "activity": "read",
    "lfn": "in.root",
    "rse": "DISK",
    "backend": "http",
    "started": 1001.0,
    "seconds": 0.25,
    "bytes": 4097,
    "outcome": "ok",
    "error": "",
}


def test_the_pilots_transfers_are_events_and_are_drawn():
    failed = {**ATTEMPT, "rse": "", "started": 1000.5, "outcome": "AuthError", "error": "secret expired"}
    metadata = json.dumps({"pilot": {"attempts": [failed, ATTEMPT]}})
    record = replace(job([(1000.0, "sent"), (1002.0, "finished")]), metadata=metadata)
    events = events_of(record, [], lambda text: text.replace("secret", "***"))
    found = [(event.time, event.text, event.bad) for event in events if event.lane == "transfer"]
    assert found == [
        (1000.5, "read in.root from no RSE by http: AuthError: *** expired", True),
        (1001.0, "read in.root from DISK by http: 4097 bytes in 0.25 s", False),
    ]
    drawing = draw(events, 1003.0)
    assert drawing.count("mark transfer") == 2
    assert drawing.count("mark transfer bad") == 1


@pytest.mark.parametrize(
    "metadata",
    [
        *("", "x", "[]", "{}", "null", '{"pilot": 3}', '{"pilot": {"attempts": {"a": 1}}}', "[" * 100_000),
        *(
            json.dumps({"pilot": {"attempts": [{**ATTEMPT, **wrong}]}})
            for wrong in ({"started": None}, {"started": "x"}, {"seconds": -1}, {"seconds": float("inf")})
        ),
        json.dumps({"pilot": {"attempts": [3, None, "x"]}}),
    ],
)
def test_metadata_of_whatever_kind_breaks_no_timeline(metadata):
    assert transfers_of(metadata) == []


def test_it_begins_when_the_job_was_handed_out_unless_the_whole_is_wanted():
    events = events_of(job([(0.0, "activated"), (1000.0, "sent"), (1001.0, "running")]), [])
    assert "activated" not in re.findall(r'class="in-bar">(\w+)', draw(events, 1002.0))
    assert "activated for 16 min 40 s" in draw(events, 1002.0, whole=True)
    assert "activated" in re.findall(r'class="in-bar">(\w+)', draw(events, 1002.0, whole=True))


def test_the_exchange_that_handed_it_out_is_drawn_whole(log):
    begun = log.begin()
    log.add(
        begun, ServerRequest(method="POST", path="/api/v1/pilot/acquire_jobs"), ServerResponse(body=b'{"PandaID": 1}')
    )
    [exchange] = log.all()
    assert exchange.jobs == (1,)
    events = events_of(job([(1.0, "activated"), (1000.0, "sent"), (1001.0, "running")]), [exchange])
    assert draw(events, 1002.0).count("mark exchange") == 1


def test_a_job_without_history_says_so():
    assert "Nothing has happened yet" in draw([], 0.0)
    assert "Nothing has happened yet" in listed([], 0.0)


@given(
    steps=strategies.lists(strategies.floats(0, 1e6), min_size=1, max_size=5),
    marks=strategies.lists(
        strategies.tuples(
            strategies.floats(0, 2e6),
            strategies.sampled_from(["update", "command", "exchange", "fault"]),
            strategies.floats(0, 1e4),
        ),
        max_size=8,
    ),
    whole=strategies.booleans(),
)
def test_everything_is_drawn_within_the_frame(steps, marks, whole):
    time, history = 1e9, []
    for seconds, state in zip(steps, STATES, strict=False):
        time += seconds
        history.append((time, state))
    events = events_of(job(history), [])
    events += [Event(1e9 + at, lane, "<text>", seconds=seconds, link="/x") for at, lane, seconds in marks]
    drawn = draw(sorted(events, key=lambda event: event.time), time + 10, whole=whole)
    assert "<text>" not in drawn
    for name, value in re.findall(r' (x|x1|x2|cx|width)="([^"]+)"', drawn):
        assert 0 <= float(value) <= 1000, (name, value)
    assert drawn.count("<line") < 40


def test_many_events_make_a_drawing_of_a_readable_size():
    events = events_of(job([(0.0, "sent")], [float(beat) for beat in range(5000)]), [])
    assert draw(events, 6000.0).count("<circle") == 400
    assert listed(events, 0.0).count("<tr") == 401
