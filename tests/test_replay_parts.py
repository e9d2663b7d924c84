"""The parts of a replay: what is compared and how, what comes next, and the turns that threads take."""

from __future__ import annotations

import copy
import json
import math
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import errors
from pilot_core.api.cancel import CancelToken
from pilot_core.api.clock import Event
from pilot_core.api.staging import Replica
from pilot_core.api.traffic import NOT_CONNECTED
from pilot_core.recording.manifest import Manifest
from pilot_core.recording.reading import RecordedExchange, Recording
from pilot_core.recording.wrappers import error_of
from pilot_core.replay.clock import ReplayClock
from pilot_core.replay.compare import Comparison, Message
from pilot_core.replay.cues import Cues, EndOfRecording
from pilot_core.replay.played import PlayedBackends, recorded_error
from pilot_core.replay.script import Script
from pilot_core.replay.volatile import VOLATILE, VOLATILE_WHEN_REAL, is_volatile
from pilot_core.selection import Candidate

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text("abc {[", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def differences(recorded, now, *, where="POST /x", **options):
    return [found.field for found in Comparison(**options).values(recorded, now, "body", where)]


@given(PLAIN)
def test_a_value_is_the_same_as_itself(value):
    assert differences(value, copy.deepcopy(value)) == []
    assert (
        differences(json.dumps(value), json.dumps(value, indent=2) if isinstance(value, dict) else json.dumps(value))
        == []
    )


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), PLAIN, min_size=1), st.data())
def test_a_field_that_was_changed_is_the_one_that_is_named(value, data):
    name = data.draw(st.sampled_from(sorted(value)))
    changed = {**value, name: "something else altogether"}
    assert differences(value, changed) == [f"body.{name}"]
    del changed[name]
    assert differences(value, changed) == [f"body.{name}"]
    assert differences(changed, value) == [f"body.{name}"]


@pytest.mark.parametrize(
    ("recorded", "now", "fields"),
    [
        ({"a": 1}, {"a": 1.0}, ["body.a"]),
        ({"a": 1}, {"a": True}, ["body.a"]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, ["body.a[1]", "body.a"]),
        ({"a": '{"b": 1}'}, {"a": '{"b":2}'}, ["body.a.b"]),
        ({"a": "text"}, {"a": '{"b": 2}'}, ["body.a"]),
        ({"startTime": "then"}, {"startTime": "now"}, []),
        ({"start_time": "then"}, {"start_time": 7}, ["body.start_time"]),
        ({"start_time": "then"}, {}, ["body.start_time"]),
        ({"phases": {"payload": 1.5}}, {"phases": {"payload": 2}}, []),
        ({"phases": {"payload": 1.5}}, {"phases": {}}, ["body.phases.payload"]),
        ({"payload": 1.5}, {"payload": 2}, ["body.payload"]),
    ],
)
def test_fields_are_compared_by_value_and_volatile_ones_by_kind(recorded, now, fields):
    assert differences(recorded, now) == fields


def test_the_machine_is_volatile_only_where_it_is_described():
    assert differences({"memory_mb": 5}, {"memory_mb": 6}) == ["body.memory_mb"]
    assert differences({"memory_mb": 5}, {"memory_mb": 6}, where="worker_node") == []
    assert differences({"n_sockets": 1}, {}, where="POST /api/v1/pilot/update_worker_node") == []


def test_sizes_of_files_are_volatile_when_files_are_really_made():
    assert differences({"fsize": 5}, {"fsize": 6}) == ["body.fsize"]
    assert differences({"fsize": 5}, {"fsize": 6}, real=True) == []


@pytest.mark.parametrize("item", [*VOLATILE, *VOLATILE_WHEN_REAL], ids=lambda item: item.why)
def test_every_line_of_the_table_is_in_force_and_says_why(item):
    assert item.why
    for field in item.fields.split():
        assert is_volatile(f"body.{field.replace('*', 'any')}", f"POST /update_{item.where}", real=True) is item


def test_names_of_machines_and_directories_are_the_same_on_every_machine():
    texts = {"/old/work": "<work-dir>", "/tmp/new": "<work-dir>"}

    def same(text):
        for name, other in texts.items():
            text = text.replace(name, other)
        return text

    assert differences("/old/work/job-7-abcd_123/x: gone", "/tmp/new/job-7-zzzzzzzz/x: gone", same=same) == []
    assert differences("/old/work/job-7-abcd_123/x: gone", "/tmp/new/job-8-zzzzzzzz/x: gone", same=same) == ["body"]


def test_of_long_texts_the_place_is_shown_where_they_part():
    one, other = "a" * 1000 + "b" + "c" * 1000, "a" * 1000 + "d" + "c" * 1000
    (found,) = Comparison().values(one, other, "body", "POST /x")
    assert "ab" in found.recorded
    assert "ad" in found.now
    assert len(found.recorded) < 200


def request(target="/x", body=b"", headers=(), method="POST"):
    return Message(method, target, headers, body)


@pytest.mark.parametrize(
    ("recorded", "now", "fields"),
    [
        (request("/x?a=1&b=2"), request("/x?b=2&a=1"), []),
        (request("/x?a=1"), request("/x?a=2"), ["query.a[0]"]),
        (request(body=b"a=1&b=2"), request(body=b"a=1&b=3"), ["body.b[0]"]),
        (request(body=b"\xff\xfe"), request(body=b"\xff\xff"), ["body"]),
        (request(headers=(("Accept", "a"),)), request(headers=(("accept", "b"),)), ["header accept"]),
        (request(headers=(("Date", "a"), ("Host", "b"))), request(), []),
        (request(headers=(("Accept", "a"),)), request(), ["header accept"]),
    ],
)
def test_requests_are_compared_whole(recorded, now, fields):
    assert [found.field for found in Comparison().requests(recorded, now)] == fields


# -- the script --------------------------------------------------------------------------------------------------------


def exchange(number, target="/x", *, body=b"", call=0, status=200, failure=""):
    return RecordedExchange(
        number=number, call=call, began=float(number), ended=number + 0.5, method="POST", target=target, body=body,
        status=0 if failure else status, failure=failure,
    )  # fmt: skip


@pytest.fixture
def recording(tmp_path):
    """Make a recording of exchanges and events."""

    def make(*exchanges, events=(), exit_code=0):
        manifest = Manifest(plugin_api=1, pilot_core="0", started=0.0, exit_code=exit_code)
        numbered = [{"n": number, "at": float(number), **event} for number, event in enumerate(events, start=1)]
        return Recording(folder=tmp_path, manifest=manifest, exchanges=exchanges, events=numbered)

    return make


@pytest.fixture
def script(recording):
    def make(*exchanges, strict=True, **values):
        return Script(recording(*exchanges, **values), Comparison(), strict=strict)

    return make


def told(script):
    return [(found.place, found.field, found.recorded, found.now) for found in script.divergences]


def test_requests_in_their_order_are_answered_in_it(script):
    made = script(exchange(1, body=b"1"), exchange(2, "/y"), exchange(3, body=b"3"))
    for target, body, number in (("/x", b"1", 1), ("/y", b"", 2), ("/x", b"3", 3)):
        assert made.answer(request(target, body)).number == number
    made.end()
    assert told(made) == []
    assert made.played == 3


def test_another_order_is_told_at_the_exchange_that_should_have_come(script):
    made = script(exchange(1), exchange(2, "/y"))
    assert made.answer(request("/y")).number == 2
    assert made.answer(request("/x")).number == 1
    assert told(made) == [("exchange 1", "request", "POST /x", "POST /y")]


def test_without_order_the_request_that_fits_is_found(script):
    made = script(exchange(1, body=b"1"), exchange(2, body=b"2"), exchange(3, "/y"), strict=False)
    assert made.answer(request("/y")).number == 3
    assert made.answer(request(body=b"2")).number == 2
    assert made.answer(request(body=b"7")).number == 1
    assert told(made) == [("exchange 1", "body", "1", "7")]


@pytest.mark.parametrize("strict", [True, False])
def test_too_many_and_too_few_are_told(script, strict):
    made = script(exchange(1), exchange(2, "/y"), strict=strict)
    made.answer(request())
    assert made.answer(request("/z")) is None
    made.end()
    place = "exchange 2" if strict else "exchange 3"
    assert told(made)[0][0] == place
    assert told(made)[-1] == ("exchange 2", "request", "POST /y", "(nothing)")


def test_a_recording_that_breaks_off_says_nothing_of_what_follows(script):
    made = script(exchange(1), exit_code=None)
    made.answer(request())
    assert made.over
    assert made.answer(request("/z")) is None
    made.end()
    assert told(made) == []


def test_a_token_that_was_refused_and_renewed_is_passed_over(script):
    made = script(exchange(1, call=1, status=401), exchange(2, call=1), exchange(3, call=2, status=401))
    assert made.answer(request()).number == 2
    assert made.answer(request()).number == 3
    assert told(made) == []


def test_a_request_without_a_connection_is_played_from_this_side(script):
    made = script(exchange(1, failure=NOT_CONNECTED), exchange(2))
    assert made.not_connected(request("/y")).number == 1
    assert told(made) == [("exchange 1", "request", "POST /x", "POST /y")]
    assert made.not_connected(request()) is None
    assert made.answer(request()).number == 2


def test_events_are_compared_one_after_the_other(script):
    events = [
        {"what": "state", "job": 1, "old": "a", "new": "b"},
        {"what": "transfer", "attempt": {}},
        {"what": "payload-start", "job": 1, "argv": ["x", "y"]},
        {"what": "state", "job": 1, "old": "b", "new": "c"},
    ]
    made = script(events=events)
    made.event("state", job=1, old="a", new="b")
    made.event("payload-start", job=1, argv=["x", "z"], cwd="anywhere")
    made.event("task-started", job=1)
    made.end()
    assert told(made) == [("event 3", "argv[1]", "y", "z"), ("event 4", "event", "state", "(nothing)")]


def test_what_was_tried_with_a_file_is_known_and_when(recording):
    stager = {
        "what": "stager", "hook": "pilot_stagein", "name": "x", "schemes": ["x"], "priority": 50, "capabilities": [],
        "distribution": "d", "version": "1",
    }  # fmt: skip
    fetch = {"what": "stager-call", "stager": "x", "method": "fetch", "answer": None}
    broken = {"what": "stager-error", "hook": "pilot_stagein", "name": "broken", "error": {}}
    read = recording(events=[stager, {**fetch, "url": "x://b"}, {**fetch, "url": "x://a"}, broken])
    cues = Cues(read, Script(read, Comparison(), strict=True))
    backends = PlayedBackends(read, cues, ReplayClock(0.0, cues))
    [loaded] = backends.stagers("pilot_stagein", ["x://a"])

    def place(url, name="x"):
        return backends.recorded("pilot_stagein", Candidate(SimpleNamespace(name=name), Replica(url=url)))

    assert loaded.name == "x"
    assert [place("x://a"), place("x://b"), place("x://c")] == [3, 2, math.inf]
    backends.play("x", "fetch", "x://a")
    assert place("x://a") == math.inf
    assert place("x://c", name="broken") < 0


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        errors.SourceNotFound("gone"),
        errors.TransientError("later", retry_after=7.0),
        errors.HandledError("odd", error_code=errors.PilotErrorCode.MKDIR),
        errors.Cancelled("enough"),
    ],
)
def test_recorded_errors_are_raised_as_they_were(error):
    again = recorded_error(json.loads(json.dumps(error_of(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.error_code == error.error_code
    assert getattr(again, "retry_after", None) == getattr(error, "retry_after", None)


def test_errors_of_others_keep_their_name_and_words():
    assert type(recorded_error({"type": "a\0b", "text": "no"})).__name__ == "Exception"
    again = recorded_error(error_of(ZeroDivisionError("no")))
    assert (type(again).__name__, str(again)) == ("ZeroDivisionError", "no")


# -- cues and the clock ------------------------------------------------------------------------------------------------


def call(number, sub_state, state="running", *, started=None, job=1):
    request = {"job_id": job, "state": state, "sub_state": sub_state, "start_time": started}
    return {"what": "call", "call": number, "method": "update", "request": request}


@pytest.fixture
def stage(recording):
    """Make cues and a clock for a recording."""

    def make(*exchanges, **values):
        read = recording(*exchanges, **values)
        script = Script(read, Comparison(), strict=True)
        cues = Cues(read, script)
        return cues, ReplayClock(0.0, cues), script

    return make


def test_updates_are_counted_by_the_state_that_they_tell(stage):
    cues, _, _ = stage(events=[call(1, "running"), call(2, "running", started=5.0), call(3, "report", "finished")])
    cues.enter(1, "running")
    assert [cues.take_heartbeat(running=True) for _ in range(2)] == [True, False]
    assert [cues.take_heartbeat(running=False) for _ in range(2)] == [True, False]
    cues.enter(1, "report")
    assert not cues.take_heartbeat(running=False)


def test_calls_are_found_by_job_and_finality(stage):
    cues, _, _ = stage(events=[call(1, "running"), call(2, "report", "failed"), call(3, "running", job=2)])
    assert cues.begin("update", call(0, "x", "failed")["request"])["call"] == 2
    assert cues.begin("update", call(0, "x", job=2)["request"])["call"] == 3
    assert cues.begin("update", call(0, "x")["request"])["call"] == 1
    assert cues.begin("update", call(0, "x")["request"]) is None


def test_the_pilots_thread_ends_where_the_recording_does(stage):
    cues, _, _ = stage(exit_code=None)
    with pytest.raises(EndOfRecording):
        cues.begin("acquire", {})


def test_signals_come_in_the_state_in_which_they_came(stage):
    state = {"what": "state", "job": 1, "old": "a", "new": "running"}
    cues, clock, _ = stage(events=[state, {"what": "signal", "number": 15}])
    got = []
    cues.signal = got.append
    cues.enter(1, "stage-in")
    clock.gate()
    assert got == []
    cues.enter(1, "running")
    clock.gate()
    clock.gate()
    assert got == [15]


def test_a_pause_takes_no_time_and_ends_where_the_recording_goes_on(stage):
    cues, clock, _ = stage(exchange(5, call=1), events=[call(1, "running")])
    token = CancelToken()
    cues.begin("update", call(1, "running")["request"])
    begun = clock.monotonic()
    assert not clock.wait(token, until=begun + 3600)
    assert clock.wall() == 5.0
    assert not clock.wait(token, until=clock.monotonic() + 0.25)
    assert clock.wall() == 5.25
    token.cancel("enough")
    assert clock.wait(token, until=clock.monotonic() + 3600)
    assert clock.wall() == 5.25


def test_time_never_goes_back(stage):
    _, clock, _ = stage()
    clock.reach(100.0)
    clock.reach(50.0)
    assert clock.wall() == 100.0
    assert clock.monotonic() == 1100.0


def test_a_heartbeats_thread_has_its_turn_at_the_gate_of_the_recorded_state(stage):
    cues, clock, _ = stage(events=[call(1, "stage-in"), call(2, "running"), call(3, "running")])
    sent, news, idle = [], Event(), Event()
    state = "stage-in"

    def beat():
        while not clock.wait(news, until=clock.monotonic() + 1800):
            sent.append(state)
        idle.set()

    thread = threading.Thread(target=beat)
    thread.start()
    cues.enter(1, state)
    assert sent == []
    clock.gate()
    assert sent == ["stage-in"]
    state = "start"
    cues.enter(1, state)
    clock.gate()
    assert sent == ["stage-in"]
    state = "running"
    cues.enter(1, state)
    done = Event()
    done.set()
    assert clock.wait(done)
    news.set()
    assert clock.wait(idle, until=clock.monotonic() + 2)
    thread.join()
    assert sent == ["stage-in", "running", "running"]


def test_at_the_jobs_end_the_other_thread_goes_on_by_itself(stage):
    _, clock, _ = stage()
    news, idle = Event(), Event()

    def beat():
        clock.wait(news, until=clock.monotonic() + 1800)
        idle.set()

    thread = threading.Thread(target=beat)
    thread.start()
    news.set()
    assert clock.wait(idle, until=clock.monotonic() + 2)
    thread.join()
    assert clock.monotonic() == 1000.0


def test_an_answer_that_never_came_lets_the_time_run_out(stage):
    _, clock, _ = stage()
    import socket

    one, other = socket.socketpair()
    with one, other:
        clock.let_time_run_out()
        assert not clock.wait(CancelToken(), one, until=clock.monotonic() + 120)
        assert clock.monotonic() == 1120.0
        other.send(b"x")
        assert clock.wait(CancelToken(), one, until=clock.monotonic() + 120)
