"""Clauses for what a communicator tells: every field of an update as it is, and every answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.api.communicator import FileReport, JobUpdate, ServerAnswer
from pilot_core.errors import RequestRefused
from pilot_core.testing.kits.communicator_base import CommunicatorBase, check_text
from pilot_core.testing.kits.communicator_samples import JOB, NODE, ODD_TEXT, STATUS, UPDATE, plain_update

if TYPE_CHECKING:
    from pilot_core.api.job import Job
    from pilot_core.testing.kits.communicator_base import Link
    from pilot_core.testing.kits.otherside import OtherSide

__all__ = ["UpdateClauses"]

FIELDS = tuple(field.name for field in fields(JobUpdate) if field.name != "job_id")
MOMENTS = ("start_time", "end_time")
ZEROS = ("payload_exit_code", "payload_error_code", "pilot_error_code", "events", "cpu_seconds", "input_files")
BAD_CHARACTERS: Mapping[str, str] = {
    "NUL": "\0",
    "half-a-pair": "\ud800",
    "no-utf-8": b"\xff".decode("utf-8", "surrogateescape"),
}
LONG = 5000
_LONG_TEXTS: Mapping[str, Any] = {
    "pilot_error": "pilot " + "e" * LONG,
    "payload_error": "payload → " + "é" * LONG,
    "sub_state": "s" * LONG,
    "node": "slot1@" + "n" * LONG,
    "pilot_id": "p" * LONG,
    "batch_id": "b" * LONG,
    "scheduler_id": "c" * LONG,
    "cpu_unit": "s+" + "u" * LONG,
    "timing": tuple(range(1_000_000, 1_000_000 + 100)),
    "metrics": {f"name{number}": "v" * 20 for number in range(200)},
    "log_extract": "l" * LONG,
    "stdout": " ".join(map(str, range(LONG))),
}


class UpdateClauses(CommunicatorBase):
    """Updates, answers, workers."""

    @pytest.mark.parametrize("field", FIELDS)
    def test_a_field_of_an_update_arrives(self, field: str, link: Link, server: OtherSide) -> None:
        """Each field of a job's update arrives at the server with its value and unit."""
        self.carried(f"JobUpdate.{field}")
        server.offer(replace(JOB, debug=False, secrets={}, pilot_secrets={}))
        link.update(UPDATE)
        self._compare(self._told(server, UPDATE), UPDATE, field)

    @pytest.mark.parametrize("state", ["starting", "running", "transferring", "holding", "finished", "failed"])
    def test_every_state_arrives(self, state: str, running: Link, server: OtherSide) -> None:
        """Each state that a job can be in is told as it is."""
        running.update(plain_update(state=state))
        told = self._told(server, plain_update()).state
        assert told == state, f"the server understood {told!r} for {state!r}"

    def test_zero_is_not_nothing(self, running: Link, server: OtherSide) -> None:
        """A value of 0 is told as 0: an exit code of 0 is not the same as none."""
        names = [name for name in ZEROS if not self.reason(f"JobUpdate.{name}")]
        update = plain_update(**dict.fromkeys(names, 0))
        running.update(update)
        for name in names:
            self._compare(self._told(server, update), update, name)

    def test_nothing_is_made_up(self, running: Link, server: OtherSide) -> None:
        """What an update does not say is not told: None is neither 0 nor -1, and "" no text."""
        update = plain_update()
        running.update(update)
        told = self._told(server, update)
        for name in set(FIELDS) - {"attempt", "state"}:
            value = getattr(told, name)
            assert not value and value in (None, "", (), {}), f"{name}: {value!r} was told though nothing is known"

    @pytest.mark.parametrize("code", [-9, -1, 1, 127, 255, 2**31 - 1])
    def test_exit_codes_keep_their_value(self, code: int, running: Link, server: OtherSide) -> None:
        """Exit codes arrive with sign and size."""
        self.carried("JobUpdate.payload_exit_code")
        update = plain_update(state="failed", payload_exit_code=code)
        running.update(update)
        self._compare(self._told(server, update), update, "payload_exit_code")

    def test_an_unknown_attempt_is_no_trouble(self, running: Link, server: OtherSide) -> None:
        """An update of a job whose attempt nobody knows (None) is told without one."""
        running.update(plain_update(attempt=None))
        told = self._told(server, plain_update()).attempt
        assert told in {None, 1}, f"the attempt is not known, and {told!r} was told"

    def test_large_numbers_arrive(self, running: Link, server: OtherSide) -> None:
        """Numbers beyond 32 bits arrive (kB of memory, events, seconds of CPU)."""
        update = plain_update(max_rss_kb=2**40, events=2**41, cpu_seconds=2**35)
        running.update(update)
        for name in ("max_rss_kb", "events", "cpu_seconds"):
            if not self.reason(f"JobUpdate.{name}"):
                self._compare(self._told(server, update), update, name)

    @pytest.fixture
    def far_east(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """The machine's local time is that of Kathmandu, 5:45 h before UTC."""
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "KTM-5:45")
            time.tzset()
            yield
        time.tzset()

    @pytest.mark.usefixtures("far_east")
    @pytest.mark.parametrize("field", MOMENTS)
    def test_moments_do_not_depend_on_the_time_zone(self, field: str, running: Link, server: OtherSide) -> None:
        """Wall times arrive as the same moments wherever the pilot's machine is."""
        self.carried(f"JobUpdate.{field}")
        update = plain_update(state="finished", **{field: UPDATE.end_time})
        running.update(update)
        self._compare(self._told(server, update), update, field)

    @pytest.mark.parametrize("field", _LONG_TEXTS)
    def test_what_is_too_long_is_cut(self, field: str, running: Link, server: OtherSide) -> None:
        """A text that is longer than the server takes is cut, and the update is not lost for it."""
        value = _LONG_TEXTS[field]
        update = plain_update(state="failed", payload_exit_code=1, **{field: value})
        running.seconds = 60.0
        running.update(update)
        told = self._told(server, update)
        if self.reason(f"JobUpdate.{field}"):
            return
        kept = getattr(told, field)
        assert kept, f"nothing of {field} arrived: cut what is too long, do not leave it out"
        if isinstance(value, str):
            assert kept in value, f"{field}: what arrived is no part of what was told: {kept[:80]!r}"
            assert field != "stdout" or value.endswith(kept), "of stdout that is too long the end is kept"
        elif isinstance(value, tuple):
            assert tuple(kept) == value[: len(kept)], (
                f"{field}: what arrived is no beginning of what was told: {kept!r}"
            )
        else:
            assert kept.items() <= value.items(), f"{field}: there is something in it that was not told: {kept!r}"

    @pytest.mark.parametrize("field", ["pilot_error", "payload_error", "log_extract", "stdout"])
    def test_odd_characters_arrive(self, field: str, running: Link, server: OtherSide) -> None:
        """Quotes, blanks, ampersands, tags, emoji, tabs and line breaks of a text arrive as they are."""
        self.carried(f"JobUpdate.{field}")
        update = plain_update(state="failed", **{field: f"{ODD_TEXT}\n\tnext line"})
        running.update(update)
        self._compare(self._told(server, update), update, field)

    @pytest.mark.parametrize("bad", BAD_CHARACTERS)
    @pytest.mark.parametrize("field", ["pilot_error", "payload_error", "stdout", "log_extract", "node"])
    def test_what_no_database_holds_is_no_trouble(self, field: str, bad: str, running: Link, server: OtherSide) -> None:
        """A NUL or a byte that is no UTF-8 in a text (the payload's, a file's name) does not lose the update."""
        update = plain_update(state="failed", payload_exit_code=1, **{field: f"before{BAD_CHARACTERS[bad]}after"})
        running.seconds = 60.0
        running.update(update)
        told = self._told(server, update)
        if not self.reason(f"JobUpdate.{field}"):
            kept = getattr(told, field)
            assert "before" in kept and "after" in kept, f"{field}: of 'before?after' arrived {kept!r}"

    def test_large_metadata_arrives_whole(self, running: Link, server: OtherSide) -> None:
        """Metadata of a megabyte, nested, arrive as they were."""
        self.carried("JobUpdate.metadata")
        entries = [
            {"name": f"file→{number}", "size": number, "nested": {"a": [number, None, 0.5]}} for number in range(12_000)
        ]
        update = plain_update(state="finished", metadata={"files": entries})
        running.update(update)
        self._compare(self._told(server, update), update, "metadata")

    def test_many_files_arrive(self, running: Link, server: OtherSide) -> None:
        """The report of 300 stored files arrives whole."""
        self.carried("JobUpdate.files")
        files = tuple(
            FileReport(lfn=f"out._{n:06}.root", guid=f"guid-{n}", size=n * 10**9, checksum=f"adler32:{n:08x}")
            for n in range(300)
        )
        update = plain_update(state="finished", files=files)
        running.update(update)
        self._compare(self._told(server, update), update, "files")

    def test_an_update_is_left_as_it_is(self, running: Link) -> None:
        """The update that is handed in is not changed: it may have to be sent again by somebody else."""
        update = plain_update(metadata={"a": [1]}, metrics={"b": "2"}, pilot_error="x" * LONG)
        before = deepcopy(update)
        running.update(update)
        assert update == before, "update() changed what it was given"

    # -- answers -------------------------------------------------------------------------------------------------

    def test_no_command_is_no_command(self, running: Link) -> None:
        """An answer without a command has none: not an empty one, not one called NULL or None."""
        answer = running.update()
        assert isinstance(answer, ServerAnswer), f"update() returns a ServerAnswer, not {answer!r}"
        assert answer.commands == (), f"the server gave no command, and the answer has {answer.commands!r}"
        assert not answer.kill
        assert not answer.already_done

    @pytest.mark.parametrize("command", ["tobekilled", "softkill", "make-coffee"])
    def test_commands_arrive(self, command: str, link: Link, server: OtherSide, busy: Job) -> None:
        """The server's command comes back with the update's answer, also one that nobody knows."""
        server.command(busy.id, command)
        answer = link.update()
        assert answer.commands == (command,), f"the server said {command!r}, the answer has {answer.commands!r}"
        assert answer.kill == (command == "tobekilled")

    def test_several_commands_are_several(self, link: Link, server: OtherSide, busy: Job) -> None:
        """Two commands at once come back as two."""
        server.command(busy.id, "debug,tobekilled")
        commands = link.update().commands
        assert commands == ("debug", "tobekilled"), f"the server said debug and tobekilled, the answer has {commands!r}"

    @pytest.mark.parametrize("state", ["finished", "failed"])
    def test_a_final_update_may_come_twice(self, state: str, running: Link, server: OtherSide) -> None:
        """A final update that the server has had before is acknowledged (`alreadydone`), not an error, not repeated."""
        first = running.update(plain_update(state=state, payload_exit_code=3))
        assert not first.already_done, "the first final update cannot have been there before"
        before = server.requests()
        again = running.update(plain_update(state=state, payload_exit_code=3))
        assert again.already_done or again.kill, f"the server knew it already; the answer has {again.commands!r}"
        assert server.requests() - before <= 2, "an update that the server knows already is repeated and repeated"

    def test_already_done_is_an_acknowledgement(self, link: Link, server: OtherSide, busy: Job) -> None:
        """`alreadydone` in answer to a final update ends its repetition: there is nothing left to say."""
        server.command(busy.id, "alreadydone")
        before = server.requests()
        assert link.update(plain_update(state="finished")).already_done, "the command alreadydone got lost"
        assert server.requests() - before == 1, "alreadydone was not taken for an acknowledgement"

    @pytest.mark.parametrize("wrong", ["unknown job", "other attempt"])
    def test_a_job_that_is_not_ours_is_told(self, wrong: str, running: Link, server: OtherSide) -> None:
        """An update for a job or an attempt that the server does not know is no plain success, and is not repeated."""
        update = plain_update(7) if wrong == "unknown job" else replace(plain_update(), attempt=9)
        update = replace(update, metadata={"a": 1}, log_extract="text")
        before = server.requests()
        try:
            answer = running.update(update)
        except RequestRefused as error:
            check_text(error, f"the update of an {wrong}")
        else:
            assert answer.kill, f"{wrong}: the server knows nothing of it, and the answer is {answer!r}"
        assert server.requests() - before <= 2, f"{wrong}: repeating it cannot help, and it was repeated"

    # -- other things that are told and asked --------------------------------------------------------------------

    @pytest.mark.parametrize("field", [field.name for field in fields(STATUS)])
    def test_the_pilot_is_told_of(self, field: str, link: Link, server: OtherSide) -> None:
        """`worker_status` is accepted, and its fields arrive."""
        link.worker_status(STATUS)
        self.carried(f"WorkerStatus.{field}")
        assert server.workers(), "worker_status() returned, and the server has not heard of the pilot"
        self._compare(server.workers()[-1], STATUS, field)

    @pytest.mark.parametrize("field", [field.name for field in fields(NODE)])
    def test_the_machine_is_told_of(self, field: str, link: Link, server: OtherSide) -> None:
        """`worker_node` is accepted, and its fields arrive."""
        link.worker_node(NODE)
        self.carried(f"WorkerNode.{field}")
        assert server.nodes(), "worker_node() returned, and the server has not heard of the machine"
        self._compare(server.nodes()[-1], NODE, field)

    def test_states_of_jobs_are_told(self, link: Link, busy: Job) -> None:
        """`job_status` returns one entry for each job that was asked for, unknown ones included."""
        link.update(plain_update(state="running"))
        found = {status.job_id: status for status in link.job_status(busy.id, busy.id + 5)}
        assert set(found) == {busy.id, busy.id + 5}, f"two jobs were asked for; told of are {sorted(found)}"
        known, unknown = found[busy.id], found[busy.id + 5]
        assert known.status == "running", f"the job is running; told is {known.status!r}"
        assert known.attempt == busy.attempt, f"the job's attempt is {busy.attempt}; told is {known.attempt!r}"
        assert unknown.status == "not found", f"the server does not know the job; told is {unknown.status!r}"
        assert unknown.attempt is None, f"an unknown job has no attempt; told is {unknown.attempt!r}"

    def test_the_states_of_many_jobs_are_told(self, running: Link) -> None:
        """`job_status` of 700 jobs returns 700 entries, however many requests that takes."""
        ids = [plain_update(number).job_id for number in range(1, 701)]
        found = [status.job_id for status in running.job_status(*ids)]
        assert sorted(found) == ids, f"700 jobs were asked for, and {len(found)} entries came"

    def test_a_question_for_no_job_is_answered(self, link: Link) -> None:
        """`job_status` of no job at all is empty."""
        assert list(link.job_status()) == []

    def test_the_server_is_alive(self, link: Link) -> None:
        """`is_alive` says so of a server that answers."""
        assert link.is_alive() is True, "the server answers, and is_alive() does not return True"

    def _told(self, server: OtherSide, update: JobUpdate) -> JobUpdate:
        told = server.understood(update.job_id)
        assert told, "update() returned, and the server has not taken the update: that is no acknowledgement"
        return told[-1]

    @staticmethod
    def _compare(told: object, meant: object, field: str) -> None:
        """Fail the test if a field did not arrive as it was meant."""
        there, here = getattr(told, field), getattr(meant, field)
        if field in MOMENTS and isinstance(there, (int, float)) and not isinstance(there, bool):
            assert abs(there - here) < 1, f"{field}: {here!r} arrived as {there!r}, {there - here:+.0f} s off"
        elif field == "metadata":
            assert there == here, f"metadata arrived changed: {str(there)[:200]}"
        else:
            assert there == here, f"{field}: {here!r} arrived as {there!r}"
