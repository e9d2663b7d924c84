"""Going on with the jobs of pilots that died in the same work directory."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pilot_core.api.job import Job
from pilot_core.cleanup import remove_tree
from pilot_core.delivery import Delivery
from pilot_core.errors import HandledError, PilotErrorCode
from pilot_core.jobrun import JobRun
from pilot_core.logs import job_logger
from pilot_core.past import Past
from pilot_core.reporting import Failure
from pilot_core.spool import Spool, takes_no_more

if TYPE_CHECKING:
    from pilot_core.ending import Ending
    from pilot_core.journal.records import JobRecord
    from pilot_core.journal.store import PilotJournal
    from pilot_core.reporting import FinalReport
    from pilot_core.services import Services

__all__ = ["Recovery"]

_log = logging.getLogger("pilot_core.recovery")


class Recovery:
    """Brings to its end what pilots before this one left: each job from where its journal has it."""

    def __init__(self, journal: PilotJournal, services: Services, server: str, ending: Ending) -> None:
        self._journal = journal
        self._services = services
        self._server = server
        self._ending = ending
        self._spool = Spool(services.work_dir, journal, server)

    def run(self, *, kept: bool = False) -> tuple[int, int]:
        """Take the jobs over and bring them to their end; returns how many were reported, and how many not.

        `kept`: only those of which outputs are kept that no storage took. Raises `OSError` where the journal cannot be
        written.
        """
        reported = unreported = 0
        for record in self._journal.take_over(self._server, self._services.queue.name, kept=kept):
            if self._ending.stop.cancelled:
                break  # they are anybody's again at this pilot's end
            done = self._go_on(record)
            reported += done
            unreported += not done
        return reported, unreported

    def _go_on(self, record: JobRecord) -> bool:
        """Go on with one job; says whether its report was delivered, or is no concern any more."""
        past = Past.of(record.steps, secret=record.secret)
        log = job_logger(record.job_id, "recovery")
        services = replace(self._services, **asdict(record.identity))
        if past.acknowledged:
            log.info("job %d was reported by a pilot that died before it was done with it", record.job_id)
            self._clean(record)
            return True
        if past.report is not None:
            log.info("job %d has a final report that a pilot before this one did not deliver", record.job_id)
            return self._report(record, past.report, services)
        failure = None
        try:
            job = record.job()
        except ValueError as error:
            job = Job(id=record.job_id, attempt=record.attempt)
            message = f"what the journal has of the job cannot be read by this pilot ({error})"
            failure = Failure(task="pilot", code=PilotErrorCode.GENERALERROR, message=message)
        if record.secret and not (past.payload_begun or past.failures or failure):
            message = "the pilot died before the payload was started, and nobody has the user's secrets any more"
            message += "; let the server send the job again"
            failure = Failure(task="pilot", code=PilotErrorCode.GENERALERROR, message=message)
        run = JobRun(
            job,
            services,
            failure=failure,
            journal=self._journal.journal_of(record),
            job_dir=record.job_dir,
            past=past,
        )
        with self._ending.reaching(run):
            return run.run().reported

    def _report(self, record: JobRecord, report: FinalReport, services: Services) -> bool:
        """Deliver a report that was ready, or keep it."""
        log = job_logger(record.job_id, "recovery")
        journal = self._journal.journal_of(record)
        ending = self._ending
        answer = Delivery(services, log).deliver(report, stopping=ending.stop, now=ending.now)
        services.hooks.heartbeat(report.update, answer)
        try:
            if answer is None or not takes_no_more(
                answer, report.update, services.communicator, services.clock, ending.now
            ):
                journal.record("spooled")
                self._remove(record)
                return False
        except HandledError as error:
            log.warning("whether the server has the final report is not known (%s); it is sent again later", error)
            return False
        services.redactor.add(answer.pilot_secrets.values())
        journal.record("report-acknowledged", commands=[services.redactor.clean(text) for text in answer.commands])
        self._spool.remove(record.job_id, report.update.attempt)
        self._clean(record)
        return True

    def _clean(self, record: JobRecord) -> None:
        """Remove what is left of a job, and close its record."""
        self._remove(record)
        self._journal.journal_of(record).record("closed")

    def _remove(self, record: JobRecord) -> None:
        if not self._services.keep:
            left = remove_tree(record.job_dir)
            if left:
                _log.warning(
                    "the directory %s of job %d cannot be removed whole (%s)", record.job_dir, record.job_id, left
                )
