"""The payload of one job: started, waited for, judged."""

from __future__ import annotations

import errno
import shlex
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.events import FinishedPayload, PayloadCommand
from pilot_core.api.executor import OnThisMachine, PayloadSpec
from pilot_core.errors import Cancelled, ExecutorError, NoSpace, PilotErrorCode
from pilot_core.past import NEW
from pilot_core.payload import argument_vector, environment
from pilot_core.reattach import find_again
from pilot_core.remote_io import RemoteInputs
from pilot_core.reporting import Failure, Verdict, payload_failure

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pilot_core.api.executor import Payload, PayloadHandle, PayloadResult
    from pilot_core.api.job import Job
    from pilot_core.api.watchdog import Watched
    from pilot_core.journal import SteadyJournal
    from pilot_core.past import Past
    from pilot_core.services import Services
    from pilot_core.watching import Watch

__all__ = ["PREPARATION_LIMIT", "STDERR", "STDOUT", "PayloadRun"]

STDOUT = "payload.stdout"
STDERR = "payload.stderr"
PREPARATION_LIMIT = 3600.0
"""Seconds for fetching the program and starting the payload."""
FULL = 64 * 1024
"""Bytes of free space below which a disk is full for all purposes."""
END_PATIENCE = 60.0
"""Seconds beyond the kill grace in which an executor has to have ended a payload."""


class PayloadRun:
    """Runs the payload of one job in its directory."""

    def __init__(
        self,
        job: Job,
        services: Services,
        directory: Path,
        journal: SteadyJournal,
        log: logging.LoggerAdapter[logging.Logger],
        *,
        remote: RemoteInputs | None = None,
    ) -> None:
        """`remote` are the inputs that the payload reads where they lie."""
        self._job = job
        self._services = services
        self._directory = directory
        self._journal = journal
        self._log = log
        self._remote = remote or RemoteInputs()
        self.soft = CancelToken()
        """Cancelled when the payload is to be asked to end, and judged by what it makes of that."""
        self.process: tuple[int, int] | None = None
        """Pid and start time of the process below which the payload's live, once it runs on this machine."""
        self.limit: Failure | None = None
        """The limit that the payload passed, if it was ended for that."""

    def run(self, *, cancel: CancelToken, running: Callable[[], None], past: Past = NEW) -> PayloadResult:
        """Start the payload, call `running`, and wait for the end of all its processes.

        When the job is called off meanwhile, or a watchdog finds a limit passed, the payload is ended. One that a pilot
        before this one started is found again instead, and waited for. Raises `HandledError` if it cannot be started,
        or not be found.
        """
        services = self._services
        handle = find_again(self._directory.parent, past, services, self._log) if past.payload_begun else None
        if handle is None:
            handle, begun = self._start(cancel), services.clock.monotonic()
        else:
            self.limit = past.limit
            age = services.clock.wall() - (past.started or services.clock.wall())
            begun = services.clock.monotonic() - max(0.0, age)
        # a job that was called off just now has to end its payload, and so to find it
        found_by = Deadline.after(services.clock, END_PATIENCE)
        payload = services.executor.attach(handle, cancel=CancelToken(), deadline=found_by)
        if isinstance(payload, OnThisMachine):
            self.process = payload.process
        watch = self._watch(handle, begun)
        try:
            running()
            watch.start()
            result = self._await(payload, cancel, services.queue.kill_grace_seconds, watch)
        except BaseException:
            payload.end("the pilot cannot wait for it")
            raise
        finally:
            watch.stop()
            payload.close()
        self._journal.record("payload-ended", result=asdict(result))
        self._tell(result)
        return result

    def _start(self, cancel: CancelToken) -> PayloadHandle:
        """Start the payload."""
        deadline = Deadline.after(self._services.clock, PREPARATION_LIMIT)
        spec = self._spec(cancel, deadline)
        argv = [self._services.redactor.clean(word) for word in spec.argv]
        if not self._journal.record("payload-starting", argv=argv, shell=self._services.queue.shell):
            raise NoSpace("the payload is not started, since the journal cannot have that; make room for it")
        cancel.raise_if_cancelled()
        if self.soft.cancelled:
            raise Cancelled(self.soft.reason, error_code=PilotErrorCode.PANDAKILL)
        handle = self._services.executor.start(spec, cancel=cancel, deadline=deadline)
        self._journal.record("payload-started", handle=handle.to_json())
        self._log.info("the payload runs: %.1000s", shlex.join(spec.argv))
        return handle

    def judge(self, result: PayloadResult, verdict: Verdict) -> None:
        """Say how the payload failed, if it did; the experiment's plugins may know better."""
        if self.limit is not None:
            verdict.failures.append(self.limit)
            return
        failure = payload_failure(result)
        if failure is None:
            return
        if self.soft.cancelled and result.signal is not None:
            message = f"{failure.message}; {self.soft.reason}"
            verdict.fail("payload", PilotErrorCode.PANDAKILL, message)
            return
        failure = self._with_advice(failure, result)
        diagnosis = self._services.hooks.diagnose_failure(self._finished(result))
        if diagnosis:
            failure = Failure(task="payload", code=diagnosis.error_code, message=diagnosis.message)
            verdict.payload_error_code = diagnosis.payload_error_code
            verdict.payload_error = diagnosis.payload_error
        verdict.failures.append(failure)

    def metadata(self, result: PayloadResult) -> Mapping[str, Any]:
        """Return what plugins have to say about the payload for the job's metadata."""
        return self._services.hooks.collect_metadata(self._finished(result))

    def _tell(self, result: PayloadResult) -> None:
        """Log how the payload ended and what it used."""
        failure = payload_failure(result)
        self._log.info(
            "%s (%.3f s, CPU %.3f s, at most %d kB in memory)",
            failure.message if failure else "the payload exited with 0",
            result.ended - result.started,
            result.user_seconds + result.system_seconds,
            result.max_rss_kb,
        )
        if result.leftovers:
            self._log.warning("the payload left %d processes behind; they were ended", result.leftovers)

    def _spec(self, cancel: CancelToken, deadline: Deadline) -> PayloadSpec:
        """Return what to execute, as the experiment's plugins want it."""
        services, job, queue = self._services, self._job, self._services.queue
        program = services.fetch(job, queue, self._directory, services.ca_file, cancel=cancel, deadline=deadline)
        variables = services.hooks.prepare_environment(
            job, queue, environment(job, queue, self._directory, services.own_environment)
        )
        command = services.hooks.wrap_command(
            job,
            queue,
            PayloadCommand(
                argv=self._remote.argv(job, argument_vector(job, queue, program), shell=queue.shell),
                environment=variables,
            ),
        )
        return PayloadSpec(
            job_id=job.id,
            argv=command.argv,
            cwd=self._directory,
            environment=command.environment,
            stdout=self._directory / STDOUT,
            stderr=self._directory / STDERR,
            control_dir=self._directory.parent / "control",
            kill_grace=queue.kill_grace_seconds,
        )

    def _watch(self, handle: PayloadHandle, started: float) -> Watch:
        """Return what holds the payload, which was started then, to its limits."""
        services = self._services

        def look() -> Watched:
            from pilot_core.api.watchdog import Watched  # noqa: PLC0415  (most payloads of a test end before a look)

            return Watched(
                job=self._job,
                handle=handle,
                job_dir=self._directory,
                started=started,
                now=services.clock.monotonic(),
                queue=services.queue,
                wall=services.clock.wall(),
                pilot_started=services.started,
                process=self.process,
            )

        return services.watch(services.watchdogs, clock=services.clock, look=look, log=self._log)

    def _await(self, payload: Payload, cancel: CancelToken, grace: float, watch: Watch) -> PayloadResult:
        """Wait for the payload's end, or end it when the job is called off or a limit was passed."""
        clock = self._services.clock
        if self.limit is None:
            clock.wait(payload, cancel, self.soft, watch.violated)
        reason = self._reason_to_end(cancel, watch)
        if reason:
            violation = watch.violation
            if violation is not None and not cancel.cancelled:
                message = self._services.redactor.clean(violation.message)
                self.limit = Failure(task="payload", code=int(violation.error_code), message=message)
            self._log.warning("ending the payload: %s", reason)
            self._journal.record("payload-ending", reason=reason, limit=asdict(self.limit) if self.limit else None)
            payload.end(reason)
            watch.stop()
            if not clock.wait(payload, until=clock.monotonic() + grace + END_PATIENCE):
                raise ExecutorError(f"the payload has not ended {grace + END_PATIENCE:.0f} s after it was asked to")
        return payload.result()

    def _reason_to_end(self, cancel: CancelToken, watch: Watch) -> str:
        """Return why the payload has to end; empty if it has ended by itself."""
        for token, words in ((cancel, ""), (watch.violated, "it passed a limit: "), (self.soft, "")):
            if token.cancelled:
                return self._services.redactor.clean(f"{words}{token.reason}")
        return self.limit.message if self.limit else ""

    def _with_advice(self, failure: Failure, result: PayloadResult) -> Failure:
        """Return a failure that says what to do about it, where that can be known."""
        code, advice = failure.code, f"its log has {STDERR}"
        if "errno" in result.extra:
            advice = "correct the job's transformation, or install it here"
            if result.extra["errno"] in {errno.ENOENT, errno.ENOTDIR}:
                code = PilotErrorCode.TRANSFORMNOTFOUND
        elif shutil.disk_usage(self._directory).free < FULL:
            code = PilotErrorCode.NOLOCALSPACE
            advice = "the work directory is full: make room, or let the job ask for more (maxDiskCount)"
        return replace(failure, code=code, message=f"{failure.message}; {advice}")

    def _finished(self, result: PayloadResult) -> FinishedPayload:
        return FinishedPayload(
            job=self._job,
            queue=self._services.queue,
            job_dir=self._directory,
            result=result,
            stdout=self._directory / STDOUT,
            stderr=self._directory / STDERR,
        )
