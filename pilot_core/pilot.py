"""The pilot: knows its queue, asks its server for jobs and runs them one after the other."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from pilot_core.api.cancel import Deadline
from pilot_core.api.communicator import JobRequest, WorkerStatus
from pilot_core.api.job import BadJob, Job
from pilot_core.assembly import Assembly, usable_work_dir
from pilot_core.ending import Ending
from pilot_core.errors import Cancelled, CommunicationError, HandledError
from pilot_core.jobrun import JobRun
from pilot_core.journal.records import Identity, Taken
from pilot_core.keeping import open_journal
from pilot_core.node import describe_node
from pilot_core.past import Past
from pilot_core.recovery import Recovery
from pilot_core.reporting import Failure
from pilot_core.spool import SPOOL, Spool

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Acquired, Communicator
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import StagingProgress
    from pilot_core.journal import Hook
    from pilot_core.journal.store import PilotJournal
    from pilot_core.logs import Redactor
    from pilot_core.pilot_settings import PilotSettings
    from pilot_core.services import Services
    from pilot_core.settings import Config
    from pilot_core.supervision import Spawner

__all__ = ["Pilot"]

LIFETIME = 324_000.0
"""Seconds for which a pilot takes jobs where its queue does not say (Pilot 3: `--lifetime`)."""
STATUS_LIMIT = 30.0
"""Seconds for telling Harvester about this pilot; it can do without."""
FLUSH_LIMIT = 30.0
"""Seconds for which a pilot tries each report of the spool before it asks for a job."""
REDEFINE = "the job cannot be understood and has to be defined anew"
UNREPORTED = CommunicationError.exit_code


class Pilot:
    """One pilot process's work. `run` returns the process's exit code.

    `assemble` makes its parts, from the other arguments; it is another class than `Assembly` where somebody looks on
    (a recording) or plays parts (a replay).
    """

    def __init__(
        self,
        settings: PilotSettings,
        config: Config,
        *,
        clock: Clock,
        spawner: Spawner | None,
        environment: Mapping[str, str],
        redactor: Redactor,
        assemble: Callable[..., Assembly] = Assembly,
        progress: Callable[[StagingProgress], None] | None = None,
        hook: Hook | None = None,
    ) -> None:
        self._settings = settings
        self._assembly = assemble(
            settings, config, clock=clock, spawner=spawner, environment=environment, redactor=redactor
        )
        self._assembly.progress = progress
        self._clock = clock
        self._redactor = redactor
        self._hook = hook
        self._log = logging.getLogger("pilot_core.pilot")
        self._ending = Ending()

    # -- from outside --------------------------------------------------------------------------------------------

    def handle_signals(self) -> None:
        """End in order on the first of the batch system's signals, and at once on the second."""
        self._ending.listen(self._assembly.signalled)

    def signalled(self, number: int) -> None:
        """Do what a signal of that number does."""
        self._ending.heard(number)

    # -- the way of a pilot --------------------------------------------------------------------------------------

    def run(self) -> int:
        """Take jobs and run them; returns the exit code. Raises `HandledError` when the pilot itself cannot work."""
        try:
            code = self._work()
        except Cancelled as error:
            if not self._ending.signal:
                raise
            self._log.warning("ended before there was a job: %s", error)
            code = 0
        return self._ending.exit_code(code)

    def _work(self) -> int:
        """Do what a pilot does; returns the exit code but for signals."""
        assembly = self._assembly
        context = assembly.context(usable_work_dir(self._settings))
        credential = assembly.credential(context, cancel=self._ending.stop)
        queue = assembly.queue(context, cancel=self._ending.stop)
        communicator = assembly.communicator(context, credential)
        try:
            services = assembly.services(queue, communicator, context)
            self._greet(queue, communicator, services.node, "started")
            try:
                clean = self._redactor.clean
                with open_journal(services.work_dir, self._clock, clean=clean, hook=self._hook) as journal:
                    unreported = self._recover(journal, services)
                    return self._take_jobs(services, journal, unreported)
            finally:
                services.close()
                self._greet(queue, communicator, services.node, "finished")
        finally:
            communicator.close()

    def _recover(self, journal: PilotJournal, services: Services) -> int:
        """Bring to its end what pilots before this one left; returns how many jobs could not be reported."""
        if not self._assembly.recovers:
            return 0
        _, unreported = Recovery(journal, services, self._server, self._ending).run()
        if unreported:
            return unreported
        spool = Spool(services.work_dir, journal, self._server, keep=services.keep)
        flushed = spool.flush(services.communicator, self._clock, budget=FLUSH_LIMIT, cancel=self._ending.stop)
        if flushed.left:
            self._log.warning(
                "%d final reports stay in %s; 'pilot-core flush' sends them", flushed.left, services.work_dir / SPOOL
            )
        return 0

    @property
    def _server(self) -> str:
        return self._settings.server.rstrip("/")

    def _take_jobs(self, services: Services, journal: PilotJournal, unreported: int) -> int:
        """Ask for jobs and run them until there are enough; returns the exit code.

        No more are taken once one could not be reported, or the work directory is not what it was: that would come to
        all of a queue's jobs.
        """
        taken = 0
        while not (self._ending.stop.cancelled or unreported) and (
            self._settings.jobs == 0 or taken < self._settings.jobs
        ):
            why = self._no_more(services.queue)
            if taken and why:
                self._log.info("no more jobs are taken: %s", why)
                break
            usable_work_dir(self._settings)
            begun = self._clock.monotonic()
            ask = journal.asking(self._server, services.queue.name)
            try:
                found = self._acquire(services)
            except HandledError as error:
                journal.asked(ask, f"no answer: {self._redactor.clean(str(error))}")
                raise
            if not found:
                journal.asked(ask, "no job")
                self._log.info("the server has no job for queue %s", services.queue.name)
                break
            jobs = [self._taken(job, services, self._clock.monotonic() - begun) for job in found]
            taken += len(jobs)
            unreported += self._run_all(ask, jobs, services, journal)
        self._log.info("%d job%s run, %d not reported", taken, "" if taken == 1 else "s", unreported)
        return UNREPORTED if unreported else 0

    def _no_more(self, queue: Queue) -> str:
        """Return why the pilot's time is over; empty while it is not. One job is taken in any case."""
        used = self._clock.monotonic() - self._assembly.started
        whole, floor = queue.number("maxtime") or LIFETIME, queue.number("timefloor") * 60.0
        if used >= whole:
            return f"the pilot has had its {whole:.0f} s here (the queue's maxtime, or {LIFETIME:.0f} s)"
        if self._settings.jobs == 0 and floor and used >= floor:
            return f"the queue has pilots take jobs for {floor:.0f} s only (its timefloor)"
        return ""

    def _acquire(self, services: Services) -> Sequence[Acquired]:
        """Ask the server for one job."""
        settings, queue = self._settings, services.queue
        request = JobRequest(
            queue=queue.name,
            label=settings.label,
            node=services.node,
            memory_mb=settings.memory_mb if settings.memory_mb is not None else queue.max_memory_mb or None,
            disk_mb=queue.max_disk_mb or None,
            remaining_seconds=settings.remaining_seconds,
            resource_type=settings.resource_type,
            computing_element=settings.computing_element,
            harvester_id=settings.harvester_id,
            worker_id=settings.worker_id,
            scheduler_id=settings.scheduler_id,
        )
        deadline = Deadline.after(self._clock, settings.acquire_budget)
        return services.communicator.acquire(request, cancel=self._ending.stop, deadline=deadline)

    def _taken(self, acquired: Acquired, services: Services, seconds: float) -> Taken:
        """Return a job as it is recorded; one that cannot be understood is only reported."""
        failures: tuple[Failure, ...] = ()
        if isinstance(acquired, BadJob):
            failures = (Failure(task="pilot", code=acquired.error_code, message=f"{acquired.reason}; {REDEFINE}"),)
            job = Job(id=acquired.id, attempt=acquired.attempt, log=acquired.log, extra=acquired.extra)
        else:
            job = acquired
        self._redactor.add((*job.secrets.values(), *job.pilot_secrets.values()))
        return Taken(
            job=job,
            job_dir=services.work_dir / f"job-{job.id}-{uuid.uuid4().hex[:8]}",
            failures=tuple(map(asdict, failures)),
            seconds=seconds,
        )

    def _run_all(self, ask: int, jobs: Sequence[Taken], services: Services, journal: PilotJournal) -> int:
        """Run the jobs that the server gave; returns how many could not be reported.

        One that this node has had before is not run again: whoever has it reports it.
        """
        refused = [taken for taken in jobs if self._had(taken.job, journal)]
        wanted = [taken for taken in jobs if taken not in refused]
        identity = Identity(
            node=services.node,
            pilot_id=services.pilot_id,
            batch_id=services.batch_id,
            scheduler_id=services.scheduler_id,
        )
        journals = journal.acquired(ask, wanted, server=self._server, queue=services.queue.name, identity=identity)
        unreported = len(refused)
        for taken, own in zip(wanted, journals, strict=True):
            past = Past(begun=False, failures=tuple(Failure(**each) for each in taken.failures))
            run = JobRun(
                taken.job, services, get_job_seconds=taken.seconds, journal=own, job_dir=taken.job_dir, past=past
            )
            with self._ending.reaching(run):
                unreported += not run.run().reported
        return unreported

    def _had(self, job: Job, journal: PilotJournal) -> bool:
        """Say whether exactly this job was given to this node before."""
        record = journal.known(job, self._server)
        if record is None:
            return False
        what = record.result if record.state == "closed" else f"in the state {record.phase} of another pilot here"
        self._log.error("job %d was sent again, and is not run again: it is %s", job.id, what or record.state)
        return True

    def _greet(self, queue: Queue, communicator: Communicator, node: str, status: str) -> None:
        """Tell Harvester, if it sent this pilot, that the pilot starts or ends, and describe the machine."""
        settings = self._settings
        deadline = Deadline.after(self._clock, STATUS_LIMIT)
        try:
            if settings.harvester_id and settings.worker_id is not None:
                communicator.worker_status(
                    WorkerStatus(
                        worker_id=settings.worker_id,
                        harvester_id=settings.harvester_id,
                        status=status,
                        site=queue.name,
                        node=node,
                    ),
                    cancel=self._ending.now,
                    deadline=deadline,
                )
            if settings.report_node and status == "started":
                communicator.worker_node(describe_node(queue, node), cancel=self._ending.stop, deadline=deadline)
        except HandledError as error:
            self._log.warning("the server did not take this pilot's %r: %s", status, error)
