"""One job's life, from the server's description to the acknowledged final report.

A `JobRun` owns everything about its job. Its states follow each other by one table; every change goes into the
journal before it takes effect and is then told to the event hooks and, by the heartbeat, to the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import CancelToken
from pilot_core.api.communicator import JobUpdate
from pilot_core.api.events import JobState, Outcome, TaskInfo
from pilot_core.cleanup import remove_tree
from pilot_core.commands import DEBUG_INTERVAL, Commands, Whereabouts
from pilot_core.delivery import Delivery
from pilot_core.errors import BackendUnavailable, PilotErrorCode, TransferTimeout, TransientError
from pilot_core.heartbeat import Heartbeat
from pilot_core.jobdir import JOURNAL, LOG, begin_anew, new_job_dir, set_aside
from pilot_core.jobstates import NEXT_STATES, SERVER_STATES, JobOutcome
from pilot_core.journal import FileJournal, SteadyJournal
from pilot_core.judging import judged, os_code, unwritten_journal
from pilot_core.logs import JobLog, job_logger
from pilot_core.outputs import Outputs
from pilot_core.past import NEW, Past
from pilot_core.payload import argument_vector, check_needs, plain_name, secrets_in
from pilot_core.payloadrun import PayloadRun
from pilot_core.phases import WHOLE, Phase, Plan
from pilot_core.places import is_there
from pilot_core.remote_io import RemoteInputs
from pilot_core.reporting import Facts, Failure, FinalReport
from pilot_core.transfers import JobTransfers

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.communicator import ServerAnswer
    from pilot_core.api.job import Job
    from pilot_core.journal import Journal
    from pilot_core.services import Services

__all__ = ["NEXT_STATES", "JobOutcome", "JobRun"]

HEARTBEAT_PATIENCE = 2.0
"""Seconds that the final report waits for an update that is under way."""


class JobRun:
    """Runs one job, or the phases of it that a plan names.

    `run` may be called once; `cancel` from any thread or signal handler.
    """

    def __init__(
        self,
        job: Job,
        services: Services,
        *,
        failure: Failure | None = None,
        get_job_seconds: float = 0.0,
        plan: Plan = WHOLE,
        journal: Journal | None = None,
        job_dir: Path | None = None,
        past: Past = NEW,
    ) -> None:
        """`journal` and `job_dir` are a pilot's: where the job is entered already, and where it is to work.

        `past` is what a pilot before this one did of it.
        """
        self.job = job
        self._plan = plan
        self._services = services
        self._clock = services.clock
        self._log = job_logger(job.id, "job")
        self._cancel = CancelToken()
        self._cancel_code = PilotErrorCode.KILLSIGNAL
        self._stopping = CancelToken()
        self._now = CancelToken()
        self._past = past
        self._state = past.resumes_at
        self._verdict = past.verdict()
        if failure:
            self._verdict.failures.append(failure)
        self._phases: dict[str, float] = {"get-job": get_job_seconds, **past.phases}
        self._place = job_dir
        self._dir: Path | None = None
        self._journal = SteadyJournal(unwritten_journal(self._verdict, self._log))
        self._given = journal
        self._kept = ""
        """Why the outputs are kept for a later pilot, if they are."""
        if journal is not None:
            self._journal.begin(journal)
        self._metadata: dict[str, Any] = {}
        self._soft = CancelToken()
        """Cancelled when the server wants the payload asked to end."""
        self._where = Whereabouts()
        self._commands = Commands(
            clock=services.clock,
            log=job_logger(job.id, "job"),
            clean=services.redactor.clean,
            where=self._where,
            soft=self._soft,
            debug=job.debug,
        )
        self._transfers = JobTransfers(job, services)
        self._remote = RemoteInputs()
        catalogue = self._transfers.catalogue if services.queue.register_outputs else None
        self._outputs = Outputs(job, services.queue.name, self._transfers.mover, self._journal, catalogue, past=past)
        self._heartbeat = Heartbeat(
            communicator=services.communicator,
            clock=services.clock,
            interval=services.queue.heartbeat_seconds,
            log=job_logger(job.id, "heartbeat"),
        )

    # -- from outside --------------------------------------------------------------------------------------------

    def cancel(self, reason: str, code: PilotErrorCode) -> None:
        """End the job: payload first, then log and final report. The first reason counts."""
        if not self._cancel.cancelled:
            self._cancel_code = code
            self._journal.record("called-off", reason=self._services.redactor.clean(reason), code=int(code))
            self._cancel.cancel(reason)

    def stop(self, reason: str, code: PilotErrorCode) -> None:
        """End the job because the pilot has to end: its report cannot be tried for long either."""
        self.cancel(reason, code)
        self._stopping.cancel(reason)

    def hurry(self, reason: str) -> None:
        """Give up whatever still waits (a second signal): the final report is kept for later."""
        self._now.cancel(reason)

    def run(self) -> JobOutcome:
        """Run the job to its end; what goes wrong is in the outcome and in the report."""
        self._heartbeat.pace(DEBUG_INTERVAL if self._commands.watched else None)
        self._heartbeat.start(self._beat, self._heard)
        job_log: JobLog | None = None
        try:
            with self._judged("pilot"):
                job_log = self._open()
                # after that, so that the job's own log has it
                self._say_what_job_it_is()
                self._work()
            return self._keep() if self._kept else self._finish(job_log)
        finally:
            # whatever ends it, nothing of it goes on
            self._heartbeat.stop(0.0)
            if job_log:
                job_log.close()
            self._transfers.close()
            self._journal.close()

    # -- the way of a job ----------------------------------------------------------------------------------------

    def _say_what_job_it_is(self) -> None:
        what = f"{self.job.transformation} {self.job.parameters}".strip()
        if self._past.begun:
            text = "job %d of a pilot before this one is taken over in the state %s: %.300s"
            self._log.warning(text, self.job.id, self._past.state, what)
        else:
            self._log.info("job %d taken: %.300s", self.job.id, what)

    def _open(self) -> JobLog | None:
        """Make the job's directory, or go on in an older one; if that fails the job fails and is still reported."""
        services = self._services
        try:
            again = self._plan.job_dir is not None
            self._dir = self._plan.job_dir or new_job_dir(services.work_dir, self.job.id, self._place)
            self._where.folder = self._dir / "payload"
            if again and self._plan.has(Phase.PAYLOAD):
                set_aside(self._dir)
            job_log = JobLog(
                self._dir / LOG, self.job.id, self._clock, services.redactor, append=again or self._past.begun
            )
            if self._given is None:
                self._journal.begin(FileJournal(self._dir / JOURNAL, self._clock))
            self._transfers.begin(self._dir, again=self._past.begun)
        except OSError as error:
            self._verdict.fail(
                "pilot",
                os_code(error, PilotErrorCode.MKDIR),
                f"no job directory in {self._plan.job_dir or services.work_dir}: {error.strerror}",
            )
            return None
        if self._given is None:
            self._journal.record("acquired", panda_id=self.job.id, attempt=self.job.attempt, queue=services.queue.name)
        return job_log

    def _work(self) -> None:
        """Stage in, run, stage out: what of it the plan has, as far as it goes."""
        past = self._past
        if self._dir is None or self._verdict.failures:
            return
        payload_dir = self._dir / "payload"
        with self._judged("pilot"):
            # what cannot be run needs no input
            check_needs(self.job)
            argument_vector(self.job, self._services.queue, self.job.transformation)
        if self._goes_on_to(Phase.STAGE_IN) and not past.payload_begun:
            if past.begun:
                begin_anew(self._dir)
            with self._task("stage-in", JobState.STAGE_IN):
                if self.job.inputs:
                    self._heartbeat.announce()
                self._stage_in(payload_dir)
        if self._goes_on_to(Phase.PAYLOAD):
            if past.payload_begun and past.result is None:
                self._call_off_again()
            with self._task("payload", None if past.payload_begun else JobState.START):
                self._run_payload(payload_dir)
        if self._goes_on_to(Phase.STAGE_OUT):
            with self._task("stage-out", JobState.STAGE_OUT):
                self._store_outputs(payload_dir)

    def _store_outputs(self, payload_dir: Path) -> None:
        """Store the outputs; where no storage takes them, they may be kept for a later pilot."""
        try:
            self._outputs.store_all(payload_dir, cancel=self._cancel, cleanup=self._now)
        except (BackendUnavailable, TransientError, TransferTimeout) as error:
            age = self._clock.wall() - self._past.kept if self._past.kept else 0.0
            if self._given is None or age >= self._services.keep_outputs or self._cancel.cancelled:
                raise
            self._kept = self._services.redactor.clean(str(error))

    def _keep(self) -> JobOutcome:
        """Leave the job as it is, with its outputs, for a later pilot."""
        self._log.error(
            "job %d: its outputs are kept in %s, and the job goes on later: %s", self.job.id, self._dir, self._kept
        )
        self._journal.record("outputs-kept", reason=self._kept)
        self._heartbeat.announce()
        self._heartbeat.stop(HEARTBEAT_PATIENCE)
        return JobOutcome(
            job_id=self.job.id, state="kept", reported=False, error=self._kept, phases=self._phases, job_dir=self._dir
        )

    def _goes_on_to(self, phase: Phase) -> bool:
        """Say whether a phase is to be run: the plan has it, and nothing has failed so far."""
        return self._plan.has(phase) and not self._verdict.failures

    def _finish(self, job_log: JobLog | None) -> JobOutcome:
        """Make and store the log, report, clean up."""
        self._change(JobState.STAGE_OUT)
        failed = bool(self._verdict.failures)
        if failed:
            # before the log is made, so that it has the reason
            self._log.error("job %d failed: %s", self.job.id, self._verdict.text())
        if self.job.log and self._dir and self._plan.has(Phase.STAGE_OUT):
            with self._task("log", None):
                self._journal.export(self._dir / JOURNAL)
                self._outputs.store_log(self.job.log, self._dir, cancel=self._now)
        if not self._verdict.failures:
            with self._judged("stage-out"):
                self._outputs.register(cancel=self._now)
        if self._verdict.failures and not failed:
            self._log.error("job %d failed: %s", self.job.id, self._verdict.text())
            # the server takes no outputs of a failed job, so none of them may stay behind
            self._outputs.withdraw(cancel=self._now)
        return self._end(job_log)

    def _end(self, job_log: JobLog | None) -> JobOutcome:
        """Report and clean up."""
        self._change(JobState.REPORT)
        reported = self._report()
        self._change(JobState.DONE)
        if job_log:
            job_log.close()
        kept = self._services.keep or self._plan.job_dir is not None
        if self._dir and not kept:
            left = remove_tree(self._dir)
            if left:
                self._log.warning("the job's directory %s cannot be removed whole (%s)", self._dir, left)
        elif self._dir:
            self._journal.export(self._dir / JOURNAL)
        if reported:
            self._journal.record("closed")
        self._log.info("job %d is done: %s", self.job.id, self._verdict.state)
        return JobOutcome(
            job_id=self.job.id,
            state=self._verdict.state,
            reported=reported,
            error=self._verdict.text(),
            phases=self._phases,
            job_dir=self._dir if kept else None,
        )

    @contextmanager
    def _task(self, name: str, state: JobState | None) -> Iterator[None]:
        """Enter a state, tell the hooks, time the task, and turn its error into a failure of the job."""
        services = self._services
        if state:
            self._change(state)
        info = TaskInfo(name=name, job=self.job, queue=services.queue, job_dir=self._dir or services.work_dir)
        services.hooks.task_started(info)
        begun = self._clock.monotonic()
        before = len(self._verdict.failures)
        with self._judged(name):
            yield
        seconds = self._clock.monotonic() - begun
        self._phases[name] = seconds
        failures = self._verdict.failures[before:]
        services.hooks.task_finished(
            info,
            Outcome(
                ok=not failures,
                seconds=seconds,
                error_code=failures[0].code if failures else 0,
                error=failures[0].message if failures else "",
            ),
        )

    def _judged(self, task: str) -> AbstractContextManager[None]:
        """Turn an error that comes out of a task into a failure of the job."""
        return judged(self._verdict, task, lambda: self._cancel_code if self._cancel.cancelled else None, self._log)

    def _change(self, new: JobState) -> None:
        """Go to the next state: journal first, then the hooks."""
        if new is self._state:
            return  # where an earlier pilot left it
        if new not in NEXT_STATES[self._state]:
            raise AssertionError(f"job state {self._state} cannot be followed by {new}")
        self._journal.record(
            "state",
            old=self._state,
            new=new,
            phases=self._phases,
            **self._verdict.to_json(self._services.redactor.clean),
        )
        old, self._state = self._state, new
        self._services.hooks.job_state_changed(self.job, old, new)

    # -- input, payload, output ----------------------------------------------------------------------------------

    def _stage_in(self, payload_dir: Path) -> None:
        """Bring every input into the payload's directory, but those that the payload reads where they lie."""
        remote = self._remote = self._transfers.remote_inputs(self.job.inputs, cancel=self._cancel)
        files = [
            (file, payload_dir / plain_name(file.lfn)) for file in self.job.inputs if file.lfn not in remote.replicas
        ]
        self._transfers.mover.bring_all_in(files, cancel=self._cancel)
        remote.write_files(self.job, payload_dir)

    def _run_payload(self, payload_dir: Path) -> None:
        """Run the payload and judge it."""
        if not self._plan.has(Phase.STAGE_IN) or self._past.payload_begun:
            missing = [file for file in self.job.inputs if not is_there(payload_dir / plain_name(file.lfn))]
            self._remote = self._transfers.remote_inputs(missing, cancel=self._cancel)
        run = PayloadRun(self.job, self._services, payload_dir, self._journal, self._log, remote=self._remote)
        run.soft, self._where.run = self._soft, run
        self._services.redactor.add(self.job.secrets.values())
        with secrets_in(payload_dir, self.job.secrets, there=self._past.payload_begun):
            result = self._past.result or run.run(cancel=self._cancel, running=self._running, past=self._past)
        self._verdict.payload = result
        if self._cancel.cancelled and run.limit is None:
            self._verdict.fail("payload", self._cancel_code, self._cancel.reason)
        else:
            run.judge(result, self._verdict)
        self._metadata.update(run.metadata(result))

    def _call_off_again(self) -> None:
        """Go on with ending a job that a pilot before this one was ending."""
        failure = self._past.called_off
        if failure and not self._cancel.cancelled:
            self._cancel_code = PilotErrorCode(failure.code)
            self._cancel.cancel(failure.message)

    def _running(self) -> None:
        """Note that the payload runs."""
        self._change(JobState.RUNNING)
        self._heartbeat.announce()

    # -- telling the server --------------------------------------------------------------------------------------

    def _beat(self) -> JobUpdate:
        """Return what a heartbeat tells, with what the server asked to see."""
        return replace(self._update(), stdout=self._services.show(self._commands))

    def _update(self) -> JobUpdate:
        """Return what the server is told now."""
        services, result = self._services, self._verdict.payload
        return JobUpdate(
            job_id=self.job.id,
            attempt=self.job.attempt,
            state=SERVER_STATES.get(self._state, "starting"),
            sub_state=str(self._state),
            queue=services.queue.name,
            node=services.node,
            pilot_id=services.pilot_id,
            batch_id=services.batch_id,
            scheduler_id=services.scheduler_id,
            core_count=self.job.core_count,
            start_time=result.started if result else None,
        )

    def _heard(self, update: JobUpdate, answer: ServerAnswer | None) -> None:
        """Act on what the server said to an update."""
        if answer is not None:
            self._services.redactor.add(answer.pilot_secrets.values())
        self._services.hooks.heartbeat(update, answer)
        if answer is None:
            return
        if answer.commands:
            self._journal.record(
                "commanded", commands=[self._services.redactor.clean(text) for text in answer.commands]
            )
        if answer.kill:
            self.cancel("the server wants the job ended (tobekilled)", PilotErrorCode.PANDAKILL)
        news = self._commands.heard(answer.commands)
        self._heartbeat.pace(DEBUG_INTERVAL if self._commands.watched else None)
        if news:
            self._heartbeat.announce()

    def _report(self) -> bool:
        """Send the final report until it is acknowledged; keep it as a file if that cannot be had."""
        services = self._services
        facts = Facts(
            job=self.job,
            verdict=self._verdict,
            phases=self._phases,
            files=self._outputs.stored,
            attempts=self._transfers.mover.ledger,
            metadata=self._metadata,
            elsewhere=self._outputs.elsewhere,
            remote=self._remote.replicas,
            shell=services.queue.shell,
        )
        now = self._clock.wall()
        report = FinalReport(update=facts.final_update(self._update(), now, services.redactor.clean), made=now)
        self._journal.record("report-ready", report=report.to_json())
        self._heartbeat.stop(HEARTBEAT_PATIENCE)
        answer = Delivery(services, self._log).deliver(report, stopping=self._stopping, now=self._now)
        if answer is None:
            services.hooks.heartbeat(report.update, None)
            self._journal.record("spooled")
            return False
        services.redactor.add(answer.pilot_secrets.values())
        services.hooks.heartbeat(report.update, answer)
        self._journal.record(
            "report-acknowledged", commands=[services.redactor.clean(text) for text in answer.commands]
        )
        return True
