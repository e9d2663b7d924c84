"""Heartbeats: a thread that tells the newest state, at its times, whatever happens to one update."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass, field

import pytest

from pilot_core import (
    AuthError,
    Cancelled,
    CommunicationError,
    Event,
    JobUpdate,
    RequestRefused,
    ServerAnswer,
)
from pilot_core.heartbeat import AFTER_FAILURE, LONGEST_TRY, SHORTEST_INTERVAL, Heartbeat
from pilot_core.logs import job_logger
from pilot_core.testing.clock import SteppedClock

PATIENCE = 30.0
"""Real seconds after which a test that waits for the heartbeat's thread fails."""


@dataclass
class Line:
    """The way to a server: what comes in is put into `sent`; `script` has the answers, then there is only success."""

    clock: SteppedClock
    script: list = field(default_factory=list)
    sent: queue.Queue = field(default_factory=queue.Queue)

    def update(self, update, *, cancel, deadline):
        self.sent.put((update.sub_state, deadline.remaining()))
        answer = self.script.pop(0) if self.script else ServerAnswer()
        if callable(answer):
            answer = answer(cancel)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bench:
    """A heartbeat of 60 s with a job whose state the test sets."""

    def __init__(self, *script, interval=60.0):
        self.clock = SteppedClock()
        self.line = Line(self.clock, list(script))
        self.state = "start"
        self.heard = queue.Queue()
        self.beat = Heartbeat(
            communicator=self.line, clock=self.clock, interval=interval, log=job_logger(7, "heartbeat")
        )
        before = set(threading.enumerate())
        self.beat.start(self.make, lambda update, answer: self.heard.put((update.sub_state, answer)))
        [self.thread] = set(threading.enumerate()) - before
        self.clock.until_waiting()

    def make(self):
        return JobUpdate(job_id=7, attempt=1, state="running", sub_state=self.state)

    def announce(self, state):
        self.state = state
        self.beat.announce()

    def sent(self):
        """Return the next state that reached the server."""
        return self.line.sent.get(timeout=PATIENCE)[0]

    def settled(self):
        """Wait until the heartbeat waits again; nothing may have been sent that the test did not take."""
        self.clock.until_waiting()
        assert self.line.sent.empty()

    def stop(self):
        self.beat.stop(2.0)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def bench():
    """Make benches; each is stopped at the end."""
    made = []

    def make(*script, **more):
        made.append(Bench(*script, **more))
        return made[-1]

    yield make
    for one in made:
        one.stop()


# -- when --------------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_first_announcement_or_interval(bench):
    one = bench()
    one.clock.advance(59.9)
    one.settled()


def test_an_update_is_sent_at_every_interval(bench):
    one = bench()
    for number in range(5):
        one.state = f"state {number}"
        one.clock.advance(60.0)
        assert one.sent() == f"state {number}"
        one.settled()


def test_an_announcement_is_sent_at_once_and_starts_the_interval_anew(bench):
    one = bench()
    one.clock.advance(50.0)
    one.announce("running")
    assert one.sent() == "running"
    one.settled()
    one.clock.advance(59.0)
    one.settled()
    one.clock.advance(1.0)
    assert one.sent() == "running"


def test_of_many_announcements_only_the_newest_is_sent(bench):
    """While one update is under way, three more are announced."""
    go, reached = Event(), threading.Event()

    def slow(cancel):
        reached.set()
        one.clock.wait(go)
        return ServerAnswer()

    one = bench(slow)
    one.announce("first")
    assert reached.wait(PATIENCE)
    for state in ("second", "third", "fourth"):
        one.announce(state)
    go.set()
    assert one.sent() == "first"
    assert one.sent() == "fourth"
    one.settled()


def test_a_slow_update_is_followed_by_the_next_when_its_time_has_come_not_by_all_it_missed(bench):
    go, reached = Event(), threading.Event()

    def slow(cancel):
        reached.set()
        one.clock.wait(go)
        return ServerAnswer()

    one = bench(slow)
    one.clock.advance(60.0)
    assert reached.wait(PATIENCE)
    one.clock.advance(600.0)
    go.set()
    assert [one.sent(), one.sent()] == ["start", "start"]
    one.settled()


@pytest.mark.parametrize(
    ("interval", "limit"), [(1800.0, LONGEST_TRY), (600.0, 600.0), (60.0, 60.0), (5.0, 30.0), (1.0, 30.0)]
)
def test_one_update_may_take_an_interval_but_neither_very_long_nor_a_blink(bench, interval, limit):
    one = bench(interval=interval)
    one.announce("x")
    assert one.line.sent.get(timeout=PATIENCE)[1] == limit


# -- what the server says ----------------------------------------------------------------------------------------------


def test_the_answer_is_heard(bench):
    one = bench(ServerAnswer(commands=("tobekilled",)))
    one.announce("running")
    state, answer = one.heard.get(timeout=PATIENCE)
    assert (state, answer.kill) == ("running", True)


@pytest.mark.parametrize(("asked", "seconds"), [(600.0, 600.0), (SHORTEST_INTERVAL / 10, SHORTEST_INTERVAL)])
def test_the_server_may_ask_for_another_interval(bench, asked, seconds):
    one = bench(ServerAnswer(heartbeat_seconds=asked))
    one.announce("x")
    one.sent()
    one.settled()
    one.clock.advance(seconds * 0.99)
    one.settled()
    one.clock.advance(seconds * 0.02)
    one.sent()


def test_who_is_looked_at_tells_more_often_and_never_less_often(bench):
    one = bench()
    for pace, seconds in ((10.0, 10.0), (600.0, 60.0), (None, 60.0)):
        one.beat.pace(pace)
        one.announce("x")
        one.sent()
        one.settled()
        one.clock.advance(seconds * 0.99)
        one.settled()
        one.clock.advance(seconds * 0.02)
        one.sent()
        one.settled()


@pytest.mark.parametrize("asked", [0.0, -5.0, float("nan"), None])
def test_an_interval_that_makes_no_sense_is_not_taken(bench, asked):
    one = bench(ServerAnswer(heartbeat_seconds=asked))
    one.announce("x")
    one.sent()
    one.settled()
    one.clock.advance(59.0)
    one.settled()
    one.clock.advance(1.0)
    one.sent()


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [CommunicationError("down"), RequestRefused("no such job"), AuthError("expired"), Cancelled("x")]
)
def test_an_update_that_the_server_did_not_take_does_not_end_the_heartbeats(bench, error):
    one = bench(error)
    one.announce("first")
    assert one.sent() == "first"
    assert one.heard.get(timeout=PATIENCE) == ("first", None)
    one.settled()
    one.clock.advance(60.0)
    assert one.sent() == "first"
    assert one.heard.get(timeout=PATIENCE) == ("first", ServerAnswer())


def test_an_update_that_was_not_taken_is_followed_by_the_next_before_a_long_interval_is_over(bench):
    one = bench(AuthError("expired"), interval=1800.0)
    one.announce("first")
    one.sent()
    one.settled()
    one.clock.advance(AFTER_FAILURE)
    assert one.sent() == "first"
    one.settled()
    one.clock.advance(1799.0)
    one.settled()
    one.clock.advance(1.0)
    assert one.sent() == "first"


def test_it_is_logged_what_the_server_did_not_take(bench, caplog):
    one = bench(CommunicationError("the server is down"))
    with caplog.at_level(logging.WARNING, "pilot_core"):
        one.announce("first")
        one.heard.get(timeout=PATIENCE)
    assert "the server did not take the update 'running': the server is down" in caplog.messages


def test_a_bug_in_the_communicator_does_not_end_the_heartbeats(bench, caplog):
    one = bench(KeyError("status"))
    with caplog.at_level(logging.ERROR, "pilot_core"):
        one.announce("first")
        one.sent()
        one.settled()
    [record] = [record for record in caplog.records if record.name == "pilot_core.heartbeat"]
    assert record.exc_info[0] is KeyError
    assert record.panda_id == 7
    one.announce("second")
    assert one.sent() == "second"


def test_a_bug_in_what_makes_or_hears_updates_does_not_end_the_heartbeats(caplog):
    clock = SteppedClock()
    line, calls = Line(clock), []

    def make():
        calls.append("make")
        if len(calls) == 1:
            raise ValueError("make")
        return JobUpdate(job_id=7, attempt=1, state="running")

    def heard(update, answer):
        calls.append("heard")
        raise ValueError("heard")

    beat = Heartbeat(communicator=line, clock=clock, interval=60.0, log=job_logger(7, "heartbeat"))
    beat.start(make, heard)
    for _ in range(3):
        clock.until_waiting()
        clock.advance(60.0)
    clock.until_waiting()
    beat.stop(2.0)
    assert calls == ["make", "make", "heard", "make", "heard"]
    assert len([record for record in caplog.records if record.exc_info]) == 3


# -- the end -----------------------------------------------------------------------------------------------------------


def test_stopping_ends_the_thread_and_sends_nothing_by_itself(bench):
    one = bench()
    one.stop()
    assert one.line.sent.empty()
    one.stop()


def test_what_was_announced_is_sent_before_the_end(bench):
    """The server hears of every state in its order: the final report comes after it."""
    go, reached = Event(), threading.Event()

    def slow(cancel):
        reached.set()
        one.clock.wait(go)
        return ServerAnswer()

    one = bench(slow)
    one.announce("running")
    assert reached.wait(PATIENCE)
    one.announce("stage-out")
    stopping = threading.Thread(target=one.beat.stop, args=(2.0,))
    stopping.start()
    one.clock.until_waiting(2)
    go.set()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    assert [one.sent(), one.sent()] == ["running", "stage-out"]
    assert one.line.sent.empty()


def test_stopping_does_not_wait_for_a_call_that_hangs(bench):
    """In the network, deaf to the cancel token: after the patience `stop` returns, and its answer is not heard."""
    go, reached = Event(), threading.Event()

    def deaf(cancel):
        reached.set()
        one.clock.wait(go)
        return ServerAnswer(commands=("tobekilled",))

    one = bench(deaf)
    one.announce("running")
    assert reached.wait(PATIENCE)
    stopping = threading.Thread(target=one.beat.stop, args=(2.0,))
    stopping.start()
    one.clock.until_waiting(2)
    one.clock.advance(1.9)
    one.clock.until_waiting(2)
    assert stopping.is_alive()
    one.clock.advance(0.1)
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    go.set()
    one.thread.join(PATIENCE)
    assert not one.thread.is_alive()
    assert one.heard.empty()


def test_stopping_calls_off_what_waits_to_try_again(bench):
    """A communicator in its back-off waits for the token, too, and gives up."""
    reached, given_up = threading.Event(), threading.Event()

    def backs_off(cancel):
        reached.set()
        one.clock.wait(cancel)
        given_up.set()
        return Cancelled(cancel.reason)

    one = bench(backs_off)
    one.announce("running")
    assert reached.wait(PATIENCE)
    one.announce("never sent")
    stopping = threading.Thread(target=one.beat.stop, args=(2.0,))
    stopping.start()
    one.clock.until_waiting(2)
    one.clock.advance(2.0)
    stopping.join(PATIENCE)
    assert given_up.wait(PATIENCE)
    one.thread.join(PATIENCE)
    assert not one.thread.is_alive()
    assert one.sent() == "running"
    assert one.line.sent.empty()
    assert one.heard.empty()


def test_announcing_after_the_end_does_nothing(bench):
    one = bench()
    one.stop()
    one.announce("late")
    assert one.line.sent.empty()


def test_the_thread_does_not_keep_a_pilot_alive(bench):
    assert bench().thread.daemon
