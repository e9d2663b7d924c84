"""Clauses for time and company: cancellation, deadlines, several threads, closing, and what is left behind."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import Event, SystemClock
from pilot_core.errors import Cancelled, HandledError
from pilot_core.testing.kits.communicator_base import GIVEN_UP, CommunicatorBase, Link
from pilot_core.testing.kits.communicator_samples import NODE, STATUS, plain_job, plain_update
from pilot_core.testing.kits.otherside import FAULTS
from pilot_core.testing.kits.within import at_once, within

if TYPE_CHECKING:
    from pilot_core.testing.kits.communicator_base import HurriedClock
    from pilot_core.testing.kits.otherside import OtherSide

__all__ = ["LimitClauses"]

CALLS = ("acquire", "update", "job_status", "is_alive")
SOON = 2.0
"""Real seconds within which a cancellation has to take effect: about one, on a machine that is busy."""
WHY = "the kit calls it off"


def called(link: Link, call: str) -> object:
    """Make one of the calls."""
    arguments = {"job_status": (plain_job().id,), "worker_status": (STATUS,), "worker_node": (NODE,)}
    result: object = getattr(link, call)(*arguments.get(call, ()))
    return result


class LimitClauses(CommunicatorBase):
    """Cancellation, deadlines, threads, closing."""

    @pytest.mark.parametrize("call", [*CALLS, "worker_status", "worker_node"])
    def test_what_is_called_off_before_is_not_begun(self, call: str, link: Link, server: OtherSide) -> None:
        """A call whose token is cancelled already raises `Cancelled` with the reason, and sends nothing."""
        server.offer(plain_job())
        link.cancel.cancel(WHY)
        if call.startswith("worker"):
            self._quiet(link, call)
        else:
            error = self.refused(lambda: called(link, call), Cancelled, what=f"{call}, called off before")
            assert WHY in str(error), f"the reason of the cancellation is lost: {error}"
        assert server.requests() == 0, "a request was sent for a call that was called off before"

    @staticmethod
    def _quiet(link: Link, call: str) -> None:
        """Make a call that may do nothing at all, where the protocol has no place for it."""
        try:
            called(link, call)
        except Cancelled:
            return

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("fault", ["hang", "endless"])
    def test_a_call_is_called_off_while_the_server_hangs(
        self, fault: str, call: str, connect: Callable[..., Link], server: OtherSide
    ) -> None:
        """A call that waits for the server ends with `Cancelled` within about a second of its cancellation."""
        self.need(server, fault)
        link = connect(clock=SystemClock())
        server.fault(fault, times=None)
        self._called_off(link, call, server, f"{call}, when {FAULTS[fault]}")

    def test_a_pause_is_called_off(self, connect: Callable[..., Link], server: OtherSide) -> None:
        """A pause between two attempts ends within about a second of its cancellation, however long it is."""
        self.need(server, "busy")
        link = connect(clock=SystemClock())
        server.fault("busy", times=None, seconds=600)
        self._called_off(link, "update", server, "update, while it waits for 600 s as the server wants")
        assert server.requests() == 1, "one more attempt was made after the cancellation"

    def _called_off(self, link: Link, call: str, server: OtherSide, what: str) -> None:
        """Call a call off, by the real clock, as soon as the server has its request."""
        errors: list[BaseException] = []
        ended = Event()

        def run() -> None:
            try:
                called(link, call)
            except BaseException as error:  # noqa: BLE001  (looked at below)
                errors.append(error)
            finally:
                ended.set()

        link.patience = 30.0
        threading.Thread(target=run, name="kit", daemon=True).start()
        server.await_requests(1)
        clock = SystemClock()
        clock.wait(ended, until=clock.monotonic() + 0.05)  # let it come to its wait
        link.cancel.cancel(WHY)
        soon = clock.wait(ended, until=clock.monotonic() + SOON)
        server.heal()
        assert soon, f"{what}: it still waits {SOON:g} s after it was called off"
        assert errors, f"{what}: Cancelled is due, and it returned"
        assert isinstance(errors[0], Cancelled), f"{what}: Cancelled is due, not {errors[0]!r}"
        assert WHY in str(errors[0]), f"the reason of the cancellation is lost: {errors[0]}"

    @pytest.mark.parametrize("call", ["update", "acquire"])
    def test_a_call_is_called_off_between_attempts(
        self, call: str, link: Link, clock: HurriedClock, server: OtherSide
    ) -> None:
        """A cancellation ends the pause between two attempts, and no further attempt is made."""
        self.need(server, "refuse")
        server.fault("refuse")
        jumps: list[int] = []

        def call_off() -> None:
            jumps.append(1)
            if len(jumps) == 2:
                server.heal()
                link.cancel.cancel(WHY)

        clock.on_jump = call_off
        self.refused(lambda: called(link, call), Cancelled, what=f"{call}, called off between two attempts")
        assert server.requests() == 0, "one more attempt was made after the cancellation"

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("fault", ["hang", "endless"])
    def test_a_deadline_ends_the_waiting(
        self, fault: str, call: str, connect: Callable[..., Link], server: OtherSide
    ) -> None:
        """A call on a server that hangs ends with an error at its deadline, by the real clock too."""
        self.need(server, fault)
        clock = SystemClock()
        link = connect(clock=clock)
        server.fault(fault, times=None)
        link.seconds = 0.4
        started = clock.monotonic()
        try:
            alive = called(link, call)
        except GIVEN_UP:
            pass
        else:
            assert call == "is_alive" and alive is False, f"{call}, when {FAULTS[fault]}: it returned {alive!r}"
        took = clock.monotonic() - started
        server.heal()
        assert took < 0.4 + SOON, f"the deadline was 0.4 s away, it took {took:.1f} s"

    @pytest.mark.parametrize("call", ["acquire", "update"])
    def test_a_deadline_that_has_passed_is_the_end(self, call: str, link: Link, server: OtherSide) -> None:
        """A call without any time left is an error at once, or makes one attempt at the most."""
        self.need(server, "error")
        server.fault("error", times=None)
        link.seconds = -1.0
        self.refused(lambda: called(link, call), *GIVEN_UP, what=f"{call}, after its deadline")
        assert server.requests() <= 1

    # -- several threads -----------------------------------------------------------------------------------------

    def _running(self, link: Link, server: OtherSide, count: int) -> list[int]:
        """Have jobs running; return their numbers."""
        numbers = list(range(1, count + 1))
        server.offer(*(plain_job(number) for number in numbers))
        for _ in numbers:
            assert len(link.acquire()) == 1, "a job got lost"
        return numbers

    @pytest.mark.parametrize("faults", [0, 4])
    def test_updates_at_the_same_time_do_not_mix(self, faults: int, link: Link, server: OtherSide) -> None:
        """Eight threads that tell of eight jobs at once: each update arrives, for its own job, answered by its own."""
        if faults:
            self.need(server, "error")
        numbers = self._running(link, server, 8)
        for number in numbers:
            server.command(plain_job(number).id, f"command-{number}")
        if faults:
            server.fault("error", times=faults)
        updates = [plain_update(number, payload_error=f"of job {number} " + "x" * 10 * number) for number in numbers]
        answers = at_once([lambda update=update: link.update(update) for update in updates], "eight updates at once")  # type: ignore[misc]
        for number, update, answer in zip(numbers, updates, answers, strict=True):
            told = server.understood(update.job_id)
            assert len(told) == 1, f"job {number} was told of {len(told)} times"
            assert told[0].payload_error == update.payload_error or self.reason("JobUpdate.payload_error"), (
                "updates mixed"
            )
            assert answer.commands == (f"command-{number}",), f"job {number} got the answer {answer.commands!r}"

    def test_one_that_hangs_does_not_hold_up_the_others(self, connect: Callable[..., Link], server: OtherSide) -> None:
        """While one thread's call waits for the server, another thread's goes through."""
        self.need(server, "hang")
        link = connect(clock=SystemClock())
        self._running(link, server, 2)
        before = server.requests()
        server.fault("hang")
        hanging = threading.Thread(target=lambda: self._in_vain(link), name="kit", daemon=True)
        hanging.start()
        server.await_requests(before + 1)
        other = Link(link.communicator, link.clock)
        other.patience = 5.0
        other.update(plain_update(2))
        link.cancel.cancel(WHY)
        server.heal()
        within(hanging.join, "a call that was called off")

    @staticmethod
    def _in_vain(link: Link) -> None:
        try:
            link.update(plain_update(1))
        except HandledError:
            return

    def test_after_a_cancellation_the_next_call_gets_its_own_answer(
        self, connect: Callable[..., Link], server: OtherSide
    ) -> None:
        """What was called off in the middle leaves nothing behind that the next call could take for its answer."""
        self.need(server, "drip")
        link = connect(clock=SystemClock())
        self._running(link, server, 1)
        before = server.requests()
        server.fault("drip")
        cancel = CancelToken()
        deadline = Deadline.after(link.clock, 30.0)
        thread = threading.Thread(target=lambda: self._dripping(link, cancel, deadline), name="kit", daemon=True)
        thread.start()
        server.await_requests(before + 1)
        cancel.cancel(WHY)
        within(thread.join, "a call that was called off")
        found = [status.job_id for status in link.job_status(plain_job(1).id)]
        assert found == [plain_job(1).id], f"the next call got the answer {found}"
        assert link.is_alive() is True

    @staticmethod
    def _dripping(link: Link, cancel: CancelToken, deadline: Deadline) -> None:
        try:
            link.communicator.update(plain_update(1), cancel=cancel, deadline=deadline)
        except HandledError:
            return

    # -- closing -------------------------------------------------------------------------------------------------

    def test_it_can_be_closed_twice(self, link: Link, server: OtherSide) -> None:
        """`close` returns at once, used or not, and may be called again."""
        link.close()
        link.close()
        assert server.requests() == 0

    def test_after_closing_calls_end(self, link: Link, server: OtherSide) -> None:
        """A call after `close` works, or is an error in one line; it does not hang and does not crash."""
        link.is_alive()
        link.close()
        server.offer(plain_job())
        try:
            link.acquire()
        except HandledError as error:
            assert "\n" not in str(error)

    def test_nothing_is_left_open(
        self, connect: Callable[..., Link], server: OtherSide, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Descriptors and threads that calls needed are gone after `close`, after failures too."""
        # a record that is kept keeps the errors in it, and whatever those hold
        caplog.set_level(logging.CRITICAL)
        numbers = self._running(connect(), server, 1)
        clock, calm = SystemClock(), CancelToken()
        before = self._settled(clock, 10**6, 10**6)
        for fault in ("", "lost-reply", "garbage", "truncated", "bad-request"):
            for _ in range(4):
                link = connect()
                link.seconds, link.cancel = 1000.0, calm
                if fault in server.faults:
                    server.fault(fault)
                try:
                    link.update(plain_update(numbers[0]))
                except HandledError:
                    assert fault == "bad-request"
                link.close()
        descriptors, threads = self._settled(clock, *before)
        assert descriptors <= before[0] + 3, (
            f"{descriptors - before[0]} descriptors were left open after 20 communicators"
        )
        assert threads <= before[1] + 1, f"{threads - before[1]} threads were left after 20 communicators"

    @staticmethod
    def _settled(clock: SystemClock, descriptors: int, threads: int) -> tuple[int, int]:
        """Return how many descriptors and threads there are: once they are no more than so many, or in two seconds."""
        until = clock.monotonic() + 2.0
        while True:
            gc.collect()
            found = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
            if (found[0] <= descriptors and found[1] <= threads) or clock.monotonic() > until:
                return found
            clock.wait(until=clock.monotonic() + 0.02)
