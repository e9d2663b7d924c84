"""The cancel token and the deadline."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest

from pilot_core import Cancelled, CancelToken, Deadline, Event, SystemClock, TransferTimeout
from pilot_core.testing.clock import FakeClock


def test_a_fresh_token_says_nothing():
    token = CancelToken()
    token.raise_if_cancelled()
    assert not token.cancelled
    assert token.reason == ""
    assert not select.select([token], [], [], 0)[0]


def test_a_cancelled_token_is_readable_and_raises_with_its_reason():
    token = CancelToken()
    token.cancel("the batch system wants the slot")
    assert token.cancelled
    assert select.select([token], [], [], 0)[0] == [token]
    with pytest.raises(Cancelled, match="the batch system wants the slot"):
        token.raise_if_cancelled()


def test_the_first_reason_is_kept():
    token = CancelToken()
    token.cancel("first")
    token.cancel("second")
    assert token.reason == "first"


def test_a_reason_never_changes_once_it_was_seen():
    """Many threads at once: whoever sees the token cancelled sees the reason that stays."""
    for _ in range(50):
        token, seen, go = CancelToken(), [], threading.Barrier(4)

        def call(number, token=token, seen=seen, go=go):
            go.wait()
            token.cancel(str(number))
            seen.append(token.reason)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [token.reason] * 4


def test_a_cancellation_wakes_a_wait():
    token, clock = CancelToken(), SystemClock()
    threading.Thread(target=token.cancel, args=("now",)).start()
    assert clock.wait(Event(), token)
    assert token.reason == "now"


def test_a_signal_handler_may_cancel_even_within_a_cancellation():
    token = CancelToken()
    old = signal.signal(signal.SIGUSR2, lambda *_: token.cancel("signal"))
    try:
        for number in range(50):
            os.kill(os.getpid(), signal.SIGUSR2)
            token.cancel(str(number))
    finally:
        signal.signal(signal.SIGUSR2, old)
    assert token.reason == "signal"


def test_a_deadline_that_has_passed_names_what_took_too_long():
    clock = FakeClock()
    deadline = Deadline.after(clock, 5)
    deadline.raise_if_passed("fetching a.root")
    clock.advance(4.9)
    assert deadline.remaining() == pytest.approx(0.1)
    assert not deadline.passed
    clock.advance(0.1)
    with pytest.raises(TransferTimeout, match=r"fetching a\.root: the time allowed for it is used up"):
        deadline.raise_if_passed("fetching a.root")


def test_a_deadline_bounds_a_wait():
    clock, event = FakeClock(), Event()
    deadline = Deadline.after(clock, 7)
    assert not deadline.wait(event)
    assert clock.waits == [7]
    assert deadline.passed
    event.set()
    assert deadline.wait(event)
