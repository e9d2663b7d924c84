"""Watching a payload: who looks when, what a finding does, and what a broken watchdog does not do."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from pilot_core import CancelToken, Violation
from pilot_core.logs import job_logger
from pilot_core.testing import SteppedClock
from pilot_core.watching import REST, SETTLED, NamedWatchdog, Watch

PATIENCE = 20.0


class Dog:
    """A watchdog that notes when it looks, and finds what it is told to."""

    def __init__(self, interval=60.0, found=None, error=None, clock=None, takes=0.0):
        self.interval = interval
        self.found, self.error = found, error
        self.clock, self.takes = clock, takes
        self.looks = []

    def check(self, watched):
        self.looks.append(watched.now)
        if self.takes:
            self.clock.advance(self.takes)
        if self.error:
            raise self.error
        return self.found


@pytest.fixture
def bench():
    """A watch over some watchdogs; `pass_time` moves the clock once the watch waits."""
    made = []

    class Bench:
        def __init__(self, *dogs, lazy=()):
            self.clock = SteppedClock()
            self.moments = []
            named = [NamedWatchdog(f"d{n}", f"watchdog.d{n} (pilot 1)", dog=dog) for n, dog in enumerate(dogs)]
            named += [NamedWatchdog(f"l{n}", f"watchdog.l{n} (pilot 1)", make=make) for n, make in enumerate(lazy)]
            self.watch = Watch(named, clock=self.clock, look=self.look, log=job_logger(7, "job"))
            self.begun = self.clock.monotonic()
            self.watch.start()
            made.append(self)

        def look(self):
            self.moments.append(SimpleNamespace(now=self.clock.monotonic() - self.begun))
            return self.moments[-1]

        def pass_time(self, seconds):
            self.clock.until_waiting()
            self.clock.advance(seconds)

        def rest(self):
            """Wait until the watch waits again."""
            self.clock.until_waiting()

        def over(self):
            """Wait until the watch's thread has ended."""
            for thread in [t for t in threading.enumerate() if t.name == "watchdogs"]:
                thread.join(PATIENCE)
                assert not thread.is_alive()

    yield Bench
    for one in made:
        one.watch.stop()
        one.over()


def test_each_looks_at_its_own_interval_the_first_time_after_one(bench):
    often, seldom = Dog(60), Dog(150)
    one = bench(often, seldom)
    for _ in range(5):
        one.pass_time(60)
    one.rest()
    assert often.looks == [60, 120, 180, 240, 300]
    # late by as much as the test's steps are coarse
    assert seldom.looks == [180, 300]


def test_who_is_due_together_sees_the_same_moment(bench):
    first, second = Dog(60), Dog(60)
    one = bench(first, second)
    one.pass_time(60)
    one.rest()
    assert len(one.moments) == 1
    assert first.looks == second.looks == [60]


def test_the_first_limit_that_is_passed_ends_the_watch(bench):
    violation = Violation(error_code=1106, message="11 kB of 10 kB")
    finds, other = Dog(60, violation), Dog(60)
    one = bench(finds, other)
    one.pass_time(60)
    one.over()
    assert one.watch.violation is violation
    assert one.watch.violated.cancelled
    assert one.watch.violated.reason == "11 kB of 10 kB"
    assert other.looks == []


def test_nobody_looks_at_a_payload_that_has_ended(bench):
    dog = Dog(60)
    one = bench(dog)
    one.rest()
    one.watch.stop()
    one.over()
    one.clock.advance(600)
    assert dog.looks == []


def test_what_is_found_when_the_payload_has_ended_comes_to_nothing(bench):
    one = None

    class Late(Dog):
        def check(self, watched):
            one.watch.stop()
            return Violation(error_code=1106, message="too late")

    one = bench(Late(60))
    one.pass_time(60)
    one.over()
    assert one.watch.violation is None
    assert not one.watch.violated.cancelled


def test_a_watchdog_with_a_bug_is_told_once_and_the_others_go_on(bench, caplog):
    broken, sound = Dog(60, error=RuntimeError("a bug")), Dog(60)
    one = bench(broken, sound)
    for _ in range(3):
        one.pass_time(60)
    one.rest()
    assert len(broken.looks) == 1
    assert len(sound.looks) == 3
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "watchdog.d0 (pilot 1) failed" in record.getMessage()


@pytest.mark.parametrize("interval", [0, -5, float("nan"), float("inf"), "soon", None])
def test_an_interval_that_makes_no_sense_is_told_and_the_others_go_on(bench, caplog, interval):
    sound = Dog(60)
    one = bench(Dog(interval), sound)
    one.pass_time(60)
    one.rest()
    assert sound.looks == [60]
    assert "watchdog.d0" in caplog.text


def test_a_slow_look_is_not_taken_more_often_than_a_hundredth_of_the_time(bench):
    dog = Dog(60)
    one = bench(dog)
    dog.clock, dog.takes = one.clock, 3.0
    one.pass_time(60)
    for _ in range(9):
        one.pass_time(60)
    one.rest()
    begun, again = dog.looks
    assert again - begun >= REST * 3.0


def test_after_a_pause_of_the_pilot_nothing_is_made_up_for(bench):
    """A pilot that was stopped for an hour looks once, not sixty times."""
    dog = Dog(60)
    one = bench(dog)
    one.pass_time(3600)
    one.rest()
    one.clock.advance(59)
    one.rest()
    assert dog.looks == [3600]


def test_what_nobody_set_is_made_once_the_payload_has_run_for_a_while(bench):
    made = []

    def make():
        made.append(Dog(60))
        return made[-1]

    one = bench(lazy=[make])
    one.pass_time(SETTLED - 1)
    assert not made
    one.pass_time(1)
    one.rest()
    assert len(made) == 1
    one.pass_time(60 - SETTLED)
    one.rest()
    assert made[0].looks == [60]


def test_one_that_cannot_be_made_is_told_and_the_others_go_on(bench, caplog):
    def broken():
        raise ImportError("no such module")

    sound = Dog(60)
    one = bench(sound, lazy=[broken])
    one.pass_time(SETTLED)
    one.pass_time(60 - SETTLED)
    one.rest()
    assert sound.looks == [60]
    assert "watchdog.l0 (pilot 1) failed" in caplog.text


def test_without_watchdogs_there_is_no_thread():
    watch = Watch([], clock=SteppedClock(), look=lambda: None, log=job_logger(7, "job"))
    watch.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "watchdogs"]
    assert isinstance(watch.violated, CancelToken)
