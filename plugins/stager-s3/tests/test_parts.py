"""Parts sent at the same time: few buffers, the first error told, no thread left."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_stager_s3.parts import PartSenders, Shares
from pilot_stager_s3.session import Limits

from pilot_core import Cancelled, CancelToken, Deadline, Event, SystemClock, TransferTimeout, TransientError

CLOCK = SystemClock()


def limits(seconds=30.0, cancel=None):
    return Limits(cancel or CancelToken(), Deadline.after(CLOCK, seconds))


def blocks(data, length):
    for start in range(0, len(data), length):
        yield memoryview(data)[start : start + length]


@given(st.binary(max_size=200), st.integers(1, 50), st.integers(1, 50), st.integers(1, 4))
def test_parts_are_the_file_in_order_of_their_numbers(data, block, size, at_once):
    sent = {}

    def send(number, part, stop):
        sent[number] = bytes(part)

    with PartSenders(send, size=size, at_once=at_once) as senders:
        senders.send_all(blocks(data, block), limits(), "f")
    assert b"".join(sent[number] for number in sorted(sent)) == data
    assert sorted(sent) == list(range(1, -(-len(data) // size) + 1))
    assert {len(part) for number, part in sent.items() if number < len(sent)} <= {size}


def test_no_more_buffers_are_made_than_parts_are_sent_at_once_and_one():
    lock, most, now, buffers = threading.Lock(), [0], [0], set()
    gate = Event()

    def send(number, part, stop):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            buffers.add(id(part.obj))
            if now[0] == 3:
                gate.set()
        CLOCK.wait(gate, until=CLOCK.monotonic() + 10)
        with lock:
            now[0] -= 1

    with PartSenders(send, size=10, at_once=2) as senders:
        senders.send_all(blocks(bytes(1000), 10), limits(), "f")
    assert most[0] <= 3
    assert len(buffers) == 3


def test_what_went_wrong_with_a_part_is_raised_and_the_others_are_told_to_stop():
    stopped = Event()

    def send(number, part, stop):
        if number == 2:
            raise TransientError("the second part")
        CLOCK.wait(stop, until=CLOCK.monotonic() + 10)
        assert stop.cancelled
        stopped.set()

    with pytest.raises(TransientError, match="the second part"), PartSenders(send, size=10, at_once=2) as senders:
        senders.send_all(blocks(bytes(1000), 10), limits(), "f")
    assert stopped.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "s3-part"]


@pytest.mark.parametrize("size", [10, 1000, 1001], ids=["midst", "last", "only"])
def test_a_cancellation_ends_the_wait_for_parts(size):
    cancel = CancelToken()

    def send(number, part, stop):
        cancel.cancel("enough")
        CLOCK.wait(stop, until=CLOCK.monotonic() + 10)
        assert stop.cancelled

    with pytest.raises(Cancelled, match="enough"), PartSenders(send, size=size, at_once=1) as senders:
        senders.send_all(blocks(bytes(1000), 10), limits(cancel=cancel), "f")


def test_a_deadline_ends_the_wait_for_parts():
    def send(number, part, stop):
        CLOCK.wait(stop, until=CLOCK.monotonic() + 10)

    with pytest.raises(TransferTimeout), PartSenders(send, size=10, at_once=1) as senders:
        senders.send_all(blocks(bytes(1000), 10), limits(0.05), "f")


def test_files_that_are_sent_at_once_share_the_parts_that_are():
    shares = Shares(4, 48)
    with shares.share(8) as first, shares.share(8) as second, shares.share(8) as third:
        assert (first, second, third) == (4, 2, 1)
    with shares.share(8) as again, shares.share(100) as large:
        assert (again, large) == (4, 1)


def test_a_thread_that_cannot_be_had_is_a_passing_trouble(monkeypatch):
    class Scarce(threading.Thread):
        left = 2

        def start(self):
            if not Scarce.left:
                raise RuntimeError("can't start new thread")
            Scarce.left -= 1
            super().start()

    monkeypatch.setattr("pilot_stager_s3.parts.threading.Thread", Scarce)
    with (
        pytest.raises(TransientError, match="f: a part cannot be sent: can't start new thread; raise the limit"),
        PartSenders(lambda *_: None, size=10, at_once=2) as senders,
    ):
        senders.send_all(blocks(bytes(100), 10), limits(), "f")
