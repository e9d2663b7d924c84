"""Clocks: the real one waits for descriptors and for time, those of the tests pass time as told."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import CancelToken, Clock, Deadline, Event, SystemClock, Waitable
from pilot_core.testing.clock import FakeClock, SteppedClock

CLOCKS = [SystemClock, FakeClock, SteppedClock]


@pytest.fixture(params=CLOCKS, ids=lambda kind: kind.__name__)
def clock(request):
    return request.param()


def test_an_event_is_readable_once_it_is_set_and_ever_after():
    event = Event()
    assert not event.is_set()
    assert not select.select([event], [], [], 0)[0]
    for _ in range(3):
        event.set()
        assert event.is_set()
        assert select.select([event], [], [], 0)[0] == [event]


def test_an_event_wakes_any_number_of_waiters():
    event, clock, woken = Event(), SystemClock(), []
    threads = [threading.Thread(target=lambda: woken.append(clock.wait(event))) for _ in range(8)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join()
    assert woken == [True] * 8


def test_an_event_frees_its_descriptors_and_gives_no_child_any():
    before = set(os.listdir("/proc/self/fd"))
    events = [Event() for _ in range(10)]
    mine = {event.fileno() for event in events}
    assert not any(os.get_inheritable(descriptor) for descriptor in mine)
    del events
    gc.collect()
    assert {str(descriptor) for descriptor in mine} & set(os.listdir("/proc/self/fd")) <= before


def test_an_event_that_could_not_be_made_leaves_no_complaint():
    """Out of descriptors: one OSError, and nothing from the half-made object."""
    code = (
        "import resource, gc\n"
        "from pilot_core.api.clock import Event\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\n"
        "kept = []\n"
        "try:\n"
        "    while True: kept.append(Event())\n"
        "except OSError as error: print(error.strerror)\n"
        "kept.clear(); gc.collect()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("Too many open files\n", "")


def test_events_and_tokens_are_waitable():
    assert isinstance(Event(), Waitable)
    assert isinstance(CancelToken(), Waitable)


def test_a_wait_returns_at_once_when_a_thing_is_ready(clock):
    event, other = Event(), Event()
    event.set()
    begun = clock.monotonic()
    assert clock.wait(other, event, until=begun + 3600)
    assert clock.monotonic() < begun + 3600


def test_a_ready_thing_counts_even_when_the_time_is_up(clock):
    event = Event()
    event.set()
    assert clock.wait(event, until=clock.monotonic() - 1)


def test_a_wait_whose_time_is_up_does_not_wait(clock):
    assert not clock.wait(Event(), until=clock.monotonic() - 1)
    assert not clock.wait(until=clock.monotonic() - 1)


def test_a_wait_ends_when_another_thread_sets_the_event(clock):
    event = Event()
    threading.Thread(target=event.set).start()
    assert clock.wait(event)


def test_a_closed_connection_is_ready(clock):
    here, there = socket.socketpair()
    with here:
        there.close()
        assert clock.wait(here)


def test_the_real_clock_returns_false_not_before_the_time():
    clock = SystemClock()
    end = clock.monotonic() + 0.01
    assert not clock.wait(Event(), until=end)
    assert clock.monotonic() >= end


def test_a_timed_wait_sleeps_once_and_does_not_spin():
    """Python rounds the time of a poll up, so that one poll is enough."""
    calls = []

    class Counting(SystemClock):
        def monotonic(self):
            calls.append(None)
            return super().monotonic()

    clock = Counting()
    clock.wait(Event(), until=time.monotonic() + 0.0234)
    assert len(calls) <= 3


def test_a_wait_goes_on_after_a_signal_that_changes_nothing():
    """And ends with one whose handler sets the event."""
    clock, event, heard = SystemClock(), Event(), []
    old = signal.signal(signal.SIGUSR2, lambda *_: heard.append(1))
    try:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert not clock.wait(event, until=clock.monotonic() + 0.01)
        assert heard == [1]
        signal.signal(signal.SIGUSR2, lambda *_: event.set())
        threading.Thread(target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)).start()
        assert clock.wait(event)
    finally:
        signal.signal(signal.SIGUSR2, old)


def test_a_faster_clock_waits_less_and_shifts_the_wall_time():
    real, fast = SystemClock(), SystemClock(scale=3600.0, wall_step=86_400.0)
    assert fast.wall() - real.wall() > 86_000
    begun = fast.monotonic()
    assert not fast.wait(Event(), until=begun + 36)
    assert fast.monotonic() >= begun + 36
    assert fast.wall() - real.wall() > 86_400


@pytest.mark.parametrize("kind", [SystemClock, SteppedClock])
def test_a_wait_may_be_as_long_as_it_likes(kind):
    event = Event()
    threading.Thread(target=event.set).start()
    assert kind().wait(event, until=float("inf"))


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_that_makes_no_sense_is_refused(scale):
    with pytest.raises(ValueError, match="above 0"):
        SystemClock(scale=scale)


def test_every_clock_is_a_clock(clock):
    def reads(given: Clock) -> bool:
        return given.monotonic() <= given.monotonic() and given.wall() > 1e9

    assert reads(clock)


# -- the clocks of the tests -------------------------------------------------------------------------------------------


@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=20))
def test_a_fake_clock_jumps_by_what_was_waited_for(pauses):
    clock = FakeClock()
    for pause in pauses:
        assert not clock.wait(Event(), until=clock.monotonic() + pause)
    assert sum(clock.waits) == pytest.approx(sum(pauses), abs=1e-6)
    assert clock.monotonic() == pytest.approx(1000 + sum(pauses), abs=1e-6)
    assert clock.wall() == pytest.approx(1_700_000_000 + sum(pauses), abs=1e-3)


def test_a_stepped_clock_stands_still_until_it_is_told():
    clock, event, results = SteppedClock(), Event(), []
    thread = threading.Thread(target=lambda: results.append(clock.wait(event, until=1060.0)))
    thread.start()
    clock.until_waiting()
    clock.advance(59.9)
    assert clock.monotonic() == 1059.9
    clock.until_waiting()
    assert results == []
    clock.advance(0.1)
    thread.join()
    assert results == [False]
    assert clock.wall() == 1_700_000_060.0


def test_a_stepped_clock_wakes_those_only_whose_time_has_come():
    clock, ends = SteppedClock(), []
    late = Event()
    threads = [
        threading.Thread(target=lambda end=end: ends.append((end, clock.wait(late, until=end))))
        for end in (1010.0, 1020.0, None)
    ]
    for thread in threads:
        thread.start()
    clock.until_waiting(3)
    clock.advance(15)
    threads[0].join()
    clock.until_waiting(2)
    assert ends == [(1010.0, False)]
    late.set()
    for thread in threads:
        thread.join()
    assert sorted(ends[1:], key=str) == [(1020.0, True), (None, True)]


def test_a_thing_and_the_time_together_count_as_the_thing():
    clock, event, results = SteppedClock(), Event(), []
    thread = threading.Thread(target=lambda: results.append(clock.wait(event, until=1010.0)))
    event.set()
    thread.start()
    thread.join()
    assert results == [True]


def test_waiting_for_a_thread_that_never_comes_is_an_error():
    with pytest.raises(TimeoutError, match="0 threads wait for this clock, not 1"):
        SteppedClock(patience=0.0).until_waiting()


def test_a_deadline_counts_down_on_its_clock():
    clock = FakeClock()
    deadline = Deadline.after(clock, 10)
    assert deadline.remaining() == 10
    clock.advance(10)
    assert deadline.passed
    assert deadline.remaining() == 0.0
