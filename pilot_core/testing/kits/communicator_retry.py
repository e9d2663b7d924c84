"""Clauses for bad days: what is repeated and what is not, how long, and which error comes in the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.api.credential import BearerToken
from pilot_core.errors import AuthError, Cancelled, CommunicationError, HandledError, RequestRefused
from pilot_core.testing.kits.communicator_base import GIVEN_UP, CommunicatorBase, check_text
from pilot_core.testing.kits.communicator_samples import NODE, STATUS, plain_job, plain_update
from pilot_core.testing.kits.otherside import FAULTS

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.communicator import JobUpdate
    from pilot_core.api.credential import Credential
    from pilot_core.testing.kits.communicator_base import HurriedClock, Link
    from pilot_core.testing.kits.otherside import OtherSide

__all__ = ["RetryClauses"]

AFTER_SENDING = ("lost-reply", "reset", "truncated", "wrong-length")
"""Faults after which a client cannot know whether its request was carried out."""
INSTEAD = ("garbage", "no-protocol", "html", "error")
CREDENTIALS = ("denied", "anonymous", "no-role", "unauthorized")
METADATA = {"files": {"output": [1, 2, 3]}}
MOST_REQUESTS = 1000
"""In an hour of failures; more is hammering at a server that has trouble already."""


class Failing:
    """A credential source that has nothing to give."""

    def credential(self, *, cancel: CancelToken, deadline: Deadline) -> Credential:  # noqa: ARG002
        """Raise what a source raises whose file has expired."""
        raise AuthError("token file /kit/token has expired: renew it")

    def secrets(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()


class Renewed:
    """A credential source whose token may be renewed."""

    def __init__(self) -> None:
        self.value = "kit-token-one"

    def credential(self, *, cancel: CancelToken, deadline: Deadline) -> Credential:  # noqa: ARG002
        """Return the token of now."""
        return BearerToken(value=self.value, origin="kit.pilot", source="the kit")

    def secrets(self) -> tuple[str, ...]:
        """Return all values there are."""
        return ("kit-token-one", "kit-token-two")


class RetryClauses(CommunicatorBase):
    """Repetition and its end."""

    # -- requests for jobs: nothing may be asked twice that may have been carried out ---------------------------------

    @pytest.mark.parametrize("fault", AFTER_SENDING)
    def test_a_lost_job_is_not_asked_for_again(self, fault: str, link: Link, server: OtherSide) -> None:
        """A request for jobs whose answer was lost is not repeated: a second one would take a second job."""
        self.need(server, fault)
        server.offer(plain_job(1), plain_job(2))
        server.fault(fault)
        self.refused(link.acquire, *GIVEN_UP, what=f"acquire, when {FAULTS[fault]}")
        assert len(server.dispatched()) <= 1, f"{FAULTS[fault]}: the request was repeated, and took a second job"
        assert server.requests() == 1, f"{FAULTS[fault]}: the request was repeated"

    @pytest.mark.parametrize("fault", INSTEAD)
    def test_what_is_no_answer_is_not_no_job(self, fault: str, link: Link, server: OtherSide) -> None:
        """Whatever comes instead of an answer to a request for jobs is an error: it does not mean "no job"."""
        self.need(server, fault)
        server.fault(fault, times=None)
        link.seconds = 600.0
        self.refused(link.acquire, *GIVEN_UP, what=f"acquire, when {FAULTS[fault]}")
        assert server.requests() == 1, f"{FAULTS[fault]}: it may have been carried out, and was repeated"

    @pytest.mark.parametrize("call", ["acquire", "update"])
    def test_a_refused_connection_is_tried_again(
        self, call: str, connect: Callable[..., Link], clock: HurriedClock, server: OtherSide
    ) -> None:
        """What surely did not reach the server is repeated once it is back: jobs are asked for, updates told."""
        self.need(server, "refuse")
        server.offer(plain_job())
        if call == "update":
            connect().acquire()
        link = connect()
        server.fault("refuse")
        clock.on_jump = server.heal
        if call == "acquire":
            assert [job.id for job in link.acquire()] == [plain_job().id], "the server came back, and gave no job"
        else:
            link.update()
            assert len(server.understood(plain_job().id)) == 1, "the server came back, and was not told, or twice"
        assert len(server.dispatched()) == 1
        assert clock.waits, "there was no pause (by context.clock) between the attempts"

    @pytest.mark.parametrize("call", ["acquire", "update"])
    def test_an_unreachable_server_is_given_up(
        self, call: str, link: Link, clock: HurriedClock, server: OtherSide
    ) -> None:
        """While nobody listens, attempts go on until the deadline and not beyond it, and then it is an error."""
        self.need(server, "refuse")
        server.fault("refuse")
        link.seconds = 300.0
        started = clock.monotonic()
        self.refused(getattr(link, call), *GIVEN_UP, what=f"{call}, when nobody listens")
        assert clock.monotonic() - started <= 301, "it went on beyond the deadline"
        assert not server.dispatched()

    @pytest.mark.parametrize("fault", ["drip", "chunked"])
    def test_an_answer_may_come_in_pieces(self, fault: str, link: Link, server: OtherSide) -> None:
        """An answer that comes in small pieces, or in chunks without a length, is read to its end."""
        self.need(server, fault)
        server.offer(plain_job(parameters="--x " * 500))
        server.fault(fault)
        assert [getattr(job, "parameters", "") for job in link.acquire()] == ["--x " * 500]

    # -- updates: again and again until they are acknowledged ------------------------------------------------------

    @pytest.mark.parametrize("state", ["running", "finished"])
    @pytest.mark.parametrize("fault", [*AFTER_SENDING, *INSTEAD, "empty", "busy", "database"])
    def test_an_update_is_repeated(self, fault: str, state: str, running: Link, server: OtherSide) -> None:
        """An update is told again, unchanged, until the server acknowledges it, whatever came instead."""
        self.need(server, fault)
        before = server.requests()
        server.fault(fault, times=2)
        update = plain_update(state=state, payload_exit_code=0, metadata=METADATA, log_extract="log")
        running.update(update)
        self._told_once_or_same(server, update)
        asked = server.requests() - before
        assert asked >= 3, f"{FAULTS[fault]}: that is no acknowledgement, and was taken for one"
        assert asked <= 4, f"{FAULTS[fault]}, twice: two repetitions are enough, there were {asked - 1}"

    def test_a_kept_connection_may_have_ended(self, running: Link, server: OtherSide) -> None:
        """After a pause in which the server closed all connections updates arrive, and no job is taken twice."""
        self.need(server, "refuse")
        running.update()
        server.fault("refuse")
        server.heal()
        running.update(plain_update(events=2))
        assert len(server.understood(plain_job().id)) == 2, "the server closed the connection meanwhile, that was all"
        server.offer(plain_job(2), plain_job(3))
        server.fault("refuse")
        server.heal()
        with contextlib.suppress(CommunicationError):
            running.acquire()
        assert len(server.dispatched()) <= 2, "one request took two jobs"

    def test_an_odd_wish_of_a_busy_server_is_no_trouble(self, running: Link, server: OtherSide) -> None:
        """A Retry-After that is a date, a word or below 0 does not end the repetition."""
        self.need(server, "busy-odd")
        server.fault("busy-odd", times=3)
        running.update()
        assert server.understood(plain_job().id), "update() returned, and the server has not taken the update"

    @pytest.mark.usefixtures("busy")
    def test_the_command_survives_a_repetition(self, link: Link, server: OtherSide) -> None:
        """A command whose answer was lost comes with the next one."""
        self.need(server, "lost-reply")
        server.command(plain_job().id, "tobekilled")
        server.fault("lost-reply")
        assert link.update().kill, "the server's tobekilled got lost with the first answer"

    def test_patience_lasts(self, running: Link, clock: HurriedClock, server: OtherSide) -> None:
        """Eight failures in a row are no reason to give an update up while there is time."""
        self.need(server, "error")
        running.seconds = 86_400.0
        server.fault("error", times=8)
        clock.waits.clear()
        running.update(plain_update(state="finished"))
        assert len(clock.waits) >= 8, "there has to be a pause (by context.clock) before each repetition"
        assert server.understood(plain_job().id), "the update was given up without a word"

    @pytest.mark.parametrize("fault", ["error", "busy", "database", "html", "lost-reply"])
    def test_patience_ends_with_the_deadline(
        self, fault: str, running: Link, clock: HurriedClock, server: OtherSide
    ) -> None:
        """An update that nobody acknowledges is repeated with pauses, given up at the deadline, and is an error."""
        self.need(server, fault)
        server.fault(fault, times=None)
        running.seconds, running.patience = 900.0, 20.0
        started, before = clock.monotonic(), server.requests()
        self.refused(running.update, *GIVEN_UP, what=f"update, when {FAULTS[fault]}, for ever")
        took, asked = clock.monotonic() - started, server.requests() - before
        assert took <= 901, f"the deadline was 900 s away, it took {took:.0f} s"
        assert asked >= 3, "it was hardly repeated although there was time"
        assert asked <= MOST_REQUESTS, f"{asked} requests in {took:.0f} s: pause longer, and longer each time"

    @pytest.mark.parametrize("call", ["update", "acquire"])
    def test_the_server_says_when_to_come_again(
        self, call: str, running: Link, clock: HurriedClock, server: OtherSide
    ) -> None:
        """A busy server's wish (Retry-After) is honoured: no attempt comes before."""
        self.need(server, "busy")
        server.fault("busy", seconds=97)
        started, before = clock.monotonic(), server.requests()
        try:
            getattr(running, call)()
        except CommunicationError:
            assert call == "acquire", "one busy answer is no reason to give an update up"
        waited = clock.monotonic() - started
        if server.requests() - before > 1:
            assert waited >= 97, f"come again in 97 s, the server said; it was asked again after {waited:.0f} s"

    def test_the_server_may_ask_for_more_than_there_is(
        self, running: Link, clock: HurriedClock, server: OtherSide
    ) -> None:
        """If the server wants to be left alone for longer than the deadline allows, the update is given up in time."""
        self.need(server, "busy")
        server.fault("busy", times=None, seconds=100_000)
        running.seconds = 600.0
        started = clock.monotonic()
        self.refused(running.update, *GIVEN_UP, what="update, when the server wants to be left alone for a day")
        assert clock.monotonic() - started <= 601, "it waited beyond the deadline"

    def test_a_refusal_is_not_repeated(self, running: Link, server: OtherSide) -> None:
        """An update that the server understood and refused is `RequestRefused` at once: repeating it cannot help."""
        self.need(server, "bad-request")
        before = server.requests()
        server.fault("bad-request", times=None)
        self.refused(running.update, RequestRefused, what=f"update, when {FAULTS['bad-request']}")
        assert server.requests() - before == 1, "a refused update was repeated"

    @pytest.mark.parametrize("call", ["acquire", "update", "job_status"])
    def test_it_is_not_sent_elsewhere(self, call: str, link: Link, server: OtherSide) -> None:
        """A redirection is not followed: who knows where it leads, with the credential."""
        self.need(server, "redirect")
        server.offer(plain_job())
        server.fault("redirect", times=None)
        link.seconds = 120.0
        arguments = (1,) if call == "job_status" else ()
        self.refused(lambda: getattr(link, call)(*arguments), *GIVEN_UP, what=f"{call}, when {FAULTS['redirect']}")
        assert "/elsewhere" not in server.seen(), "the redirection was followed"

    # -- credentials -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("call", ["acquire", "update"])
    @pytest.mark.parametrize("fault", CREDENTIALS)
    def test_a_refused_credential_is_an_auth_error(
        self, fault: str, call: str, running: Link, server: OtherSide
    ) -> None:
        """A credential that is missing, refused or without the role is an `AuthError`, soon, and nothing is done."""
        self.need(server, fault)
        server.offer(plain_job(2))
        before, dispatched = server.requests(), len(server.dispatched())
        server.fault(fault, times=None)
        self.refused(getattr(running, call), AuthError, what=f"{call}, when {FAULTS[fault]}")
        assert server.requests() - before <= 3, f"{FAULTS[fault]}: it was repeated and repeated"
        assert len(server.dispatched()) == dispatched
        assert not server.understood(plain_job().id)

    @pytest.mark.parametrize("call", ["acquire", "update"])
    def test_without_a_credential_nothing_is_sent(
        self, call: str, connect: Callable[..., Link], server: OtherSide
    ) -> None:
        """Where the credential source has nothing to give (its file has expired), that is the error, unsent."""
        if server.ca_file is None:
            self.does_not_apply("the other side takes no credentials")
        link = connect(credential=Failing())
        link.seconds = 300.0
        error = self.refused(getattr(link, call), AuthError, what=f"{call}, without a usable credential")
        assert "/kit/token" in str(error), f"the error hides what the source says is wrong: {error}"
        assert server.requests() == 0, "a request was sent without the credential"

    def test_a_renewed_credential_is_used(self, connect: Callable[..., Link], server: OtherSide) -> None:
        """The source is asked again: a token that was renewed is used from the next connection on."""
        if server.ca_file is None:
            self.does_not_apply("the other side takes no credentials")
        self.need(server, "refuse")
        source = Renewed()
        link = connect(credential=source)
        link.is_alive()
        if "kit-token-one" not in server.seen():
            self.does_not_apply("the credential does not go over the wire as it is")
        source.value = "kit-token-two"
        server.fault("refuse")
        server.heal()
        try:
            link.is_alive()
        except CommunicationError:  # the connection was gone
            link.is_alive()
        assert "kit-token-two" in server.seen(), "the token was renewed, and the old one is still used"

    def test_a_credential_that_is_renewed_in_a_pause_is_used(
        self, connect: Callable[..., Link], clock: HurriedClock, server: OtherSide
    ) -> None:
        """Each attempt at an update has the credential of its moment: it may be renewed while the server is away."""
        if server.ca_file is None:
            self.does_not_apply("the other side takes no credentials")
        self.need(server, "error", "refuse")
        source = Renewed()
        link = connect(credential=source)
        server.offer(plain_job())

        def renew() -> None:
            source.value = "kit-token-two"
            server.heal()

        clock.on_jump = renew
        server.fault("refuse")
        link.update()
        if "kit-token-one" not in server.seen() and "kit-token-two" not in server.seen():
            self.does_not_apply("the credential does not go over the wire as it is")
        assert "kit-token-two" in server.seen(), (
            "the token was renewed in the pause; the attempt after it had the old one"
        )

    # -- other calls -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", ["refuse", "html", "error", "garbage", "database"])
    def test_a_server_in_trouble_is_not_alive(self, fault: str, link: Link, server: OtherSide) -> None:
        """`is_alive` says no, or why, of a server that does not answer as one of its kind."""
        self.need(server, fault)
        server.fault(fault, times=None)
        link.seconds = 30.0
        try:
            alive = link.is_alive()
        except CommunicationError as error:
            assert "\n" not in str(error), f"the error is not one line: {error}"
        else:
            # whether a server without its database is alive is the protocol's to say
            assert alive is False or fault == "database", f"it is_alive() although {FAULTS[fault]}"

    @pytest.mark.parametrize("fault", ["html", "error", "garbage", "truncated", "refuse"])
    def test_an_unanswered_question_is_an_error(self, fault: str, running: Link, server: OtherSide) -> None:
        """`job_status` without an answer is an error, not an empty list."""
        self.need(server, fault)
        server.fault(fault, times=None)
        running.seconds = 120.0
        self.refused(lambda: running.job_status(plain_job().id), *GIVEN_UP, what=f"job_status, when {FAULTS[fault]}")

    @pytest.mark.parametrize("call", ["worker_status", "worker_node"])
    def test_what_is_not_taken_is_an_error(self, call: str, link: Link, server: OtherSide) -> None:
        """`worker_status` and `worker_node` say so if the server did not take what was told."""
        self.need(server, "error")
        server.fault("error", times=None)
        link.seconds = 120.0
        told: Any = STATUS if call == "worker_status" else NODE
        try:
            getattr(link, call)(told)
        except CommunicationError as error:
            check_text(error, call)
        else:
            assert server.requests() == 0, f"the server failed, and {call}() returned as if all were well"

    def test_the_database_may_be_down(self, running: Link, server: OtherSide) -> None:
        """Without its database the server knows no state: that is `unknown` or an error, not "not found"."""
        self.need(server, "database")
        server.fault("database", times=None)
        running.seconds = 120.0
        try:
            found = [status.status for status in running.job_status(plain_job().id)]
        except CommunicationError:
            return
        assert found == ["unknown"], f"the server's database is down, and job_status() says {found}"

    def test_no_job_comes_of_a_dead_database(self, link: Link, server: OtherSide) -> None:
        """Without its database the server has no job to give: nothing, or an error, and nothing is lost."""
        self.need(server, "database")
        server.offer(plain_job())
        server.fault("database")
        link.seconds = 120.0
        try:
            found: Sequence[Any] = link.acquire()
        except CommunicationError:
            found = ()
        again = [job.id for job in link.acquire()] if not found else [job.id for job in found]
        assert again == [plain_job().id], "the job is gone, and nobody has it"

    def test_it_goes_on_after_an_error(self, running: Link, server: OtherSide) -> None:
        """After errors of every sort the next call works, and gets the answer that is its own."""
        for fault in ("bad-request", "wrong-length", "truncated", "garbage", "lost-reply"):
            if fault in server.faults:
                server.fault(fault, times=None)
                running.seconds = 30.0
                with pytest.raises((HandledError, Cancelled)):
                    running.job_status(plain_job().id)
                server.heal()
                found = {status.job_id for status in running.job_status(plain_job().id, plain_job(5).id)}
                assert found == {plain_job().id, plain_job(5).id}, (
                    f"after an error ({FAULTS[fault]}) came another's answer"
                )

    @staticmethod
    def _told_once_or_same(server: OtherSide, update: JobUpdate) -> None:
        told = server.understood(update.job_id)
        assert told, "update() returned, and the server has not taken the update"
        kept = [replace(one, log_extract="", metadata={}) for one in told]
        assert all(one == kept[0] for one in kept), "a repetition was not the same as the first"
        assert told[-1].payload_exit_code in (0, None)
