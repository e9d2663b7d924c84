"""Clauses for what a communicator gets: requests for jobs, and jobs with every field as the server has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest

from pilot_core.api.communicator import JobReader, JobRequest
from pilot_core.api.job import BadJob, InputFile, Job, OutputFile
from pilot_core.errors import HandledError
from pilot_core.testing.kits.communicator_base import CommunicatorBase
from pilot_core.testing.kits.communicator_samples import JOB, REQUEST, plain_job
from pilot_core.testing.kits.otherside import BROKEN
from pilot_core.testing.kits.within import at_once

if TYPE_CHECKING:
    from pilot_core.testing.kits.communicator_base import Link
    from pilot_core.testing.kits.otherside import OtherSide

__all__ = ["AcquireClauses"]

JOB_FIELDS = tuple(field.name for field in fields(Job) if field.name != "queue_overrides")
LOG = JOB.log.lfn if JOB.log else ""
SECRET_FIELDS = frozenset({"secrets", "pilot_secrets"})


class AcquireClauses(CommunicatorBase):
    """Requests for jobs, and jobs."""

    def test_no_job_is_an_empty_answer(self, link: Link, server: OtherSide) -> None:
        """A server without jobs gives an empty answer at once: not None, not an error, and no second question."""
        found = link.acquire()
        assert isinstance(found, Sequence), f"acquire() returns a sequence of jobs, not {found!r}"
        assert not found, f"there is no job, and acquire() returned {found!r}"
        assert server.requests() == 1, "a server that has no job was asked again"

    @pytest.mark.parametrize("field", [field.name for field in fields(JobRequest)])
    def test_a_field_of_a_request_arrives(self, field: str, link: Link, server: OtherSide) -> None:
        """Each field of a request for jobs arrives at the server with its value and unit."""
        self.carried(f"JobRequest.{field}")
        link.acquire(REQUEST)
        assert server.asked(), "acquire() returned, and the server was not asked for jobs"
        asked = server.asked()[-1]
        assert field in asked, f"the server cannot tell {field}: name it in `dropped`, with the reason"
        assert asked[field] == getattr(REQUEST, field), (
            f"{field}: {getattr(REQUEST, field)!r} arrived as {asked[field]!r}"
        )

    def test_no_wish_is_made_up(self, link: Link, server: OtherSide) -> None:
        """What a request does not say does not narrow the choice of jobs."""
        link.acquire(JobRequest(queue=REQUEST.queue))
        asked = server.asked()[-1]
        for name in set(asked) - {"queue", "jobs", "label"}:
            assert asked[name] in (None, ""), f"{name}: {asked[name]!r} was asked for though nothing was said"
        assert asked.get("jobs", 1) == 1, f"one job is asked for by default, not {asked['jobs']!r}"

    @pytest.mark.parametrize("field", JOB_FIELDS)
    def test_a_field_of_a_job_arrives(self, field: str, link: Link, server: OtherSide) -> None:
        """Each field of a job arrives as the server has it: files with sizes and checksums, parameters, log."""
        self.carried(f"Job.{field}")
        job = self._one(link, server, JOB)
        there, here = getattr(job, field), getattr(JOB, field)
        if field == "extra":
            assert there.get("kitWord") == here["kitWord"], (
                "a field without a place in Job is kept in `extra`, as received"
            )
        elif field in SECRET_FIELDS:
            assert dict(there) == here, f"{field}: what arrived is not what the server has"
        else:
            assert there == here, f"{field}: the server has {here!r}, the job has {there!r}"

    def test_what_a_job_does_not_say_is_not_made_up(self, link: Link, server: OtherSide) -> None:
        """A job that says little has the defaults of `Job`, and no text NULL anywhere."""
        offered = plain_job(attempt=None)
        job = self._one(link, server, offered)
        for name in set(JOB_FIELDS) - {"extra", "core_count"}:
            there, here = getattr(job, name), getattr(offered, name)
            assert there == here, f"{name}: the server says nothing of it; the job has {there!r}, not {here!r}"
        assert "NULL" not in repr(replace(job, extra={})), f"PanDA's word for nothing came through: {job!r}"

    def test_secrets_do_not_show(self, link: Link, server: OtherSide, caplog: pytest.LogCaptureFixture) -> None:
        """The secrets of a job are in no log."""
        self._one(link, server, JOB)
        for secret in (*JOB.secrets.values(), *JOB.pilot_secrets.values()):
            assert secret not in caplog.text, "a job's secret was logged"

    @pytest.mark.parametrize(
        "parameters",
        [
            "",
            " ",
            "-x",
            "a  b",
            "'",
            '"',
            "a\\",
            "%s%d%",
            "--a=b&c=d",
            "<x>",
            "\t",
            "NULL",
            "x\r\ny",
            "e\u0301",
            "a%20b%41+c",
            "[1,2]",
            "{}",
            "0",
        ],
    )
    def test_parameters_are_left_as_they_are(self, parameters: str, link: Link, server: OtherSide) -> None:
        """The payload's arguments are not touched: not trimmed, not quoted, not taken for anything else."""
        job = self._one(link, server, plain_job(parameters=parameters))
        if parameters == "NULL":
            assert job.parameters in {"", "NULL"}
        else:
            assert job.parameters == parameters, f"the arguments {parameters!r} became {job.parameters!r}"

    def test_a_large_job_arrives_whole(self, link: Link, server: OtherSide) -> None:
        """A job with a thousand inputs and long parameters arrives as it is."""
        inputs = tuple(
            InputFile(lfn=f"in._{n:06}.root", scope="kit", guid=f"g{n}", size=n, checksum=f"adler32:{n:08x}")
            for n in range(1000)
        )
        outputs = tuple(OutputFile(lfn=f"out._{n:06}.root", scope="kit") for n in range(200))
        big = plain_job(inputs=inputs, outputs=outputs, parameters="--long " + "x" * 100_000)
        job = self._one(link, server, big)
        assert (job.inputs, job.outputs, job.parameters) == (inputs, outputs, big.parameters), (
            "something of it is missing"
        )

    def test_each_job_is_handed_out_once(self, link: Link, server: OtherSide) -> None:
        """One after the other, two requests bring two jobs, and a third none."""
        server.offer(plain_job(1), plain_job(2))
        found = [job.id for _ in range(3) for job in link.acquire()]
        assert found == [plain_job(1).id, plain_job(2).id], f"two jobs were offered, and three requests brought {found}"

    def test_several_jobs_come_at_once(self, link: Link, server: OtherSide) -> None:
        """A request for several jobs brings them all."""
        self.carried("JobRequest.jobs")
        jobs = [plain_job(n, name=f"job-{n}") for n in (1, 2, 3)]
        server.offer(*jobs)
        found = link.acquire(JobRequest(queue=REQUEST.queue, label="managed", jobs=2))
        got = [(job.id, getattr(job, "name", "")) for job in found]
        assert got == [(job.id, job.name) for job in jobs[:2]], f"two of three jobs were asked for, and {got} came"

    def test_requests_at_the_same_time_get_different_jobs(self, link: Link, server: OtherSide) -> None:
        """Eight threads that ask at once get eight jobs, each with its own content."""
        jobs = [plain_job(n, parameters=f"--number {n}") for n in range(1, 9)]
        server.offer(*jobs)
        found = [job for answer in at_once([link.acquire] * 8, "acquire from eight threads") for job in answer]
        got = sorted((job.id, getattr(job, "parameters", "")) for job in found)
        assert got == [(job.id, job.parameters) for job in jobs], f"eight jobs, one for each thread, became {got}"

    @pytest.mark.parametrize("how", BROKEN)
    def test_a_broken_description_is_a_bad_job(self, how: str, link: Link, server: OtherSide) -> None:
        """A description that makes no sense is a `BadJob` with id, attempt, log, reason and error code."""
        self._offer_broken(server, JOB, how)
        found = link.acquire()
        assert len(found) == 1, f"{BROKEN[how]}: one job was handed out, and acquire() returned {len(found)}"
        bad = found[0]
        assert isinstance(bad, BadJob), f"{BROKEN[how]}, and yet it is a {type(bad).__name__}: {bad!r}"
        assert (bad.id, bad.attempt) == (JOB.id, JOB.attempt), f"it is job {JOB.id}, attempt {JOB.attempt}, not {bad!r}"
        assert bad.reason.strip() and "\n" not in bad.reason, f"one line has to say what is wrong, not {bad.reason!r}"
        assert bad.error_code > 0, "a bad job needs the error code that it is reported with"
        assert bad.log is not None and bad.log.lfn == LOG, "the server expects the log even of a job that failed"

    def test_a_broken_description_spoils_no_other(self, link: Link, server: OtherSide) -> None:
        """A job with a broken description does not take the good one with it that comes in the same answer."""
        self.carried("JobRequest.jobs")
        self._offer_broken(server, JOB, "bad-size")
        server.offer(plain_job())
        found = link.acquire(JobRequest(queue=REQUEST.queue, label="managed", jobs=2))
        kinds = {job.id: type(job).__name__ for job in found}
        assert kinds == {JOB.id: "BadJob", plain_job().id: "Job"}, f"a bad and a good job became {kinds}"

    @pytest.mark.parametrize("nonsense", [None, [], {}, "text", 3, {"a": {"b": 1}}, [{}, {}]], ids=repr)
    def test_nonsense_in_a_file_is_no_job(self, nonsense: object, connect: Callable[..., Link]) -> None:
        """A communicator that reads descriptions out of files (`read_job`) refuses what is none, without a server."""
        link = connect(server_url="", credential=None) if self._reads_files(connect) else None
        if link is None:
            self.does_not_apply("it reads no descriptions out of files")
        reader = link.communicator
        assert isinstance(reader, JobReader)
        self.refused(lambda: reader.read_job(nonsense), HandledError, what=f"read_job({nonsense!r})")

    @staticmethod
    def _reads_files(connect: Callable[..., Link]) -> bool:
        return isinstance(connect().communicator, JobReader)

    def _offer_broken(self, server: OtherSide, job: Job, how: str) -> None:
        if how not in server.broken:
            self.does_not_apply(f"the other side cannot offer a job of which {BROKEN[how]}")
        server.offer_broken(job, how)

    def _one(self, link: Link, server: OtherSide, offered: Job) -> Job:
        """Return the job that was offered, as it arrived."""
        server.offer(offered)
        found = link.acquire()
        assert len(found) == 1, f"one job was offered, and acquire() returned {len(found)}"
        job = found[0]
        assert isinstance(job, Job), f"a good description became {job!r}"
        assert job.id == offered.id, f"job {offered.id} was offered, job {job.id} arrived"
        return job
