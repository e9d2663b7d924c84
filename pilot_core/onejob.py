"""One job out of a file, with no server: run as any other job is, or explained."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import Deadline
from pilot_core.api.communicator import JobReader
from pilot_core.api.job import BadJob
from pilot_core.api.queue import Queue, Storage
from pilot_core.api.url import without_password
from pilot_core.assembly import usable_work_dir
from pilot_core.cleanup import remove_tree
from pilot_core.ending import Ending
from pilot_core.errors import BadInput, ExecutorError, HandledError, PluginError
from pilot_core.explain import Explainer
from pilot_core.explanation import Plugin
from pilot_core.jobdir import going_on_in
from pilot_core.jobfile import is_servers, job_of, read_data
from pilot_core.jobrun import JobRun
from pilot_core.logs import job_logger
from pilot_core.offline import OfflineCommunicator
from pilot_core.payloadrun import STDERR, STDOUT
from pilot_core.phases import Phase, Plan
from pilot_core.places import is_directory, is_there
from pilot_core.plugins import Hooks
from pilot_core.routes import Routes
from pilot_core.staging import Mover
from pilot_core.transfers import catalogue_of

if TYPE_CHECKING:
    from pilot_core.api.communicator import JobUpdate
    from pilot_core.api.executor import Executor, PayloadHandle
    from pilot_core.api.job import Job
    from pilot_core.api.provider import Context
    from pilot_core.api.staging import TransferAttempt
    from pilot_core.assembly import Assembly
    from pilot_core.explanation import Explanation
    from pilot_core.jobrun import JobOutcome

__all__ = ["JobResult", "OneJob", "Order", "local_queue"]

LOCAL = "local"
"""The name of the queue that there is without any configuration."""
ATTACH_LIMIT = 60.0
"""Seconds for finding an earlier run's payload."""
TAIL = 4096
"""Bytes of the payload's output that are shown, from its end."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be done with which job."""

    file: Path
    plan: Plan
    keep: bool = False
    """Keep the job's directory."""
    storage: Path | None = None
    """Directory of the inputs, for the built-in queue; None = the current one."""
    output: Path | None = None
    """Directory for outputs and log, likewise; None = `run-job-output` in the current one."""
    servers: bool = False
    """Whether the file surely is a server's description: its communicator was named on the command line."""


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of the job, as its server would be told."""

    report: JobUpdate
    """The final report; URLs in it are without passwords."""
    phases: tuple[str, ...]
    """Those that were to be run."""
    job_dir: Path | None
    """The job's directory, if it was kept."""
    output: Mapping[str, str] = field(default_factory=dict)
    """The end of the payload's `stdout` and `stderr`, if it ran."""

    @property
    def finished(self) -> bool:
        """Whether nothing went wrong."""
        return self.report.state == "finished"

    @property
    def details(self) -> Mapping[str, Any]:
        """The pilot's own part of the report's metadata: phases, attempts, failures, payload."""
        found: Mapping[str, Any] = self.report.metadata["pilot"]
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        report, details = self.report, self.details
        return {
            "schema": 1,
            "job_id": report.job_id,
            "state": report.state,
            "phases": list(self.phases),
            "errors": details["failures"],
            "payload": details["payload"],
            "files": [asdict(file) for file in report.files],
            "seconds": details["phases"],
            "attempts": details["attempts"],
            "job_dir": str(self.job_dir) if self.job_dir else None,
            "output": dict(self.output),
            "report": report.to_json(),
        }


class OneJob:
    """Runs or explains the job of one file. Raises `HandledError` for what is not the job's own fault."""

    def __init__(self, assembly: Assembly, order: Order) -> None:
        self.ending = Ending()
        self._assembly = assembly
        self._order = order
        self._plan = order.plan
        self._log = logging.getLogger("pilot_core.pilot")

    def run(self) -> JobResult:
        """Run what the plan has of the job, and say what became of it."""
        assembly, order = self._assembly, self._order
        context = assembly.context(usable_work_dir(assembly.settings))
        job, queue = self._prepared(context)
        server = OfflineCommunicator()
        with ExitStack() as stack:
            handle = None
            if self._plan.job_dir:
                handle = stack.enter_context(going_on_in(self._plan.job_dir, job.id))
            # kept at first: the end of the payload's output is read after it
            services = replace(assembly.services(queue, server, context), keep=True)
            stack.callback(services.close)
            if handle:
                self._check_ended(handle, services.executor)
            run = JobRun(job, services, plan=self._plan)
            with self.ending.reaching(run):
                outcome = run.run()
            output = self._output(outcome)
            kept = order.keep or self._plan.job_dir is not None
            if outcome.job_dir and not kept:
                left = remove_tree(outcome.job_dir)
                if left:
                    job_logger(job.id, "job").warning("%s cannot be removed whole (%s)", outcome.job_dir, left)
        return JobResult(
            report=_presentable(server.final),
            phases=tuple(map(str, self._plan.phases)),
            job_dir=outcome.job_dir if kept else None,
            output=output,
        )

    def explain(self) -> Explanation:
        """Say what would be run; nothing is run or made."""
        assembly = self._assembly
        folder = assembly.settings.work_dir.absolute()
        context = assembly.context(folder)
        job, queue = self._prepared(context)
        if self._plan.job_dir:
            with going_on_in(self._plan.job_dir, job.id):
                pass
        assembly.extensions()
        catalog = assembly.catalog(queue, context)
        return Explainer(
            cancel=self.ending.stop,
            queue=queue,
            watchdogs=tuple(dog.name for dog in assembly.watchdogs(queue, context)),
            mover=Mover(
                routes=Routes(queue, job, catalogue_of(job, queue, catalog, assembly.clock)),
                queue=queue,
                backends=assembly.backends(queue, context),
                clock=assembly.clock,
                log=job_logger(job.id, "staging"),
                listener=_nobody,
            ),
            hooks=Hooks(assembly.registry),
            own_environment=assembly.environment,
            clean=assembly.redactor.clean,
            work_dir=folder,
            executor=assembly.registry.provider("executor", queue.executor),
            extensions=[
                Plugin(name=record.entry_point, distribution=record.distribution, version=record.version)
                for record in [
                    *assembly.registry.extensions(),
                    *([assembly.registry.provider("catalog", queue.catalog).record] if queue.catalog else ()),
                ]
            ],
        ).explain(job, self._plan)

    # -- what is run, and where ----------------------------------------------------------------------------------

    def _prepared(self, context: Context) -> tuple[Job, Queue]:
        """Return the job and its queue, once everything about them was looked at."""
        job = self._job(context)
        self._assembly.redactor.add((*job.secrets.values(), *job.pilot_secrets.values()))
        _check_plan(job, self._plan)
        # a bad credential is told first, and what it holds is hidden
        self._assembly.credential(context, cancel=self.ending.stop)
        return job, self._queue(job, context)

    def _job(self, context: Context) -> Job:
        """Read the file; raises `BadInput`, or `PluginError` for a communicator that cannot translate it."""
        file = self._order.file
        data, is_json = read_data(file)
        if not self._order.servers and not (is_json and is_servers(data)):
            return job_of(data, str(file))
        name = self._assembly.settings.communicator
        communicator = self._assembly.communicator(replace(context, server_url=""), None)
        try:
            if not isinstance(communicator, JobReader):
                raise PluginError(
                    f"{file}: the communicator {name} reads no jobs from files; name another by --communicator, or "
                    "write the job with the field names of pilot_core.Job"
                )
            try:
                job = communicator.read_job(data)
            except HandledError as error:
                raise BadInput(f"{file}: {error}") from None
            except Exception as error:
                raise PluginError(f"{file}: the communicator {name} broke: {type(error).__name__}: {error}") from error
        finally:
            communicator.close()
        if isinstance(job, BadJob):
            raise BadInput(f"{file}: job {job.id}: {job.reason}")
        return job

    def _queue(self, job: Job, context: Context) -> Queue:
        """Return the configured queue, or the built-in one."""
        storage, output = self._order.storage, self._order.output
        if self._assembly.settings.queue:
            if storage or output:
                option = "--storage" if storage else "--output"
                raise BadInput(f"{option} is for the built-in queue; queue {self._assembly.settings.queue} has its own")
            return self._assembly.queue(context, cancel=self.ending.stop)
        storage = (storage or Path()).absolute()
        output = (output or Path("run-job-output")).absolute()
        if job.inputs and self._plan.has(Phase.STAGE_IN) and not is_directory(storage):
            raise BadInput(f"--storage {storage}: is not a directory; name the one that has the job's inputs")
        if is_there(output) and not is_directory(output):
            raise BadInput(f"--output {output}: is not a directory; name one for the job's outputs")
        return local_queue(storage, output)

    def _check_ended(self, handle: PayloadHandle, executor: Executor) -> None:
        """Raise `BadInput` if a payload of a pilot that died still runs."""
        clock = self._assembly.clock
        deadline = Deadline.after(clock, ATTACH_LIMIT)
        with suppress(ExecutorError):  # nobody's any more: of another boot, or never started
            payload = executor.attach(handle, cancel=self.ending.stop, deadline=deadline)
            try:
                if not clock.wait(payload, until=clock.monotonic()):
                    raise BadInput(
                        f"{self._plan.job_dir}: the payload of an earlier run still runs there; end it, or wait for it"
                    )
            finally:
                payload.close()

    def _output(self, outcome: JobOutcome) -> dict[str, str]:
        """Return the end of what the payload wrote, without secrets."""
        if outcome.job_dir is None or "payload" not in outcome.phases:
            return {}
        clean, folder = self._assembly.redactor.clean, outcome.job_dir / "payload"
        return {name: clean(_tail(folder / file)) for name, file in (("stdout", STDOUT), ("stderr", STDERR))}


def local_queue(storage: Path, output: Path) -> Queue:
    """Return the queue that there is without configuration: plain files of this machine, in two directories."""
    return Queue(
        name=LOCAL,
        storages={
            "LOCAL_INPUT": Storage(rse="LOCAL_INPUT", url=storage.as_uri()),
            "LOCAL_OUTPUT": Storage(rse="LOCAL_OUTPUT", url=output.as_uri(), made=True),
        },
        read=("LOCAL_INPUT",),
        write=("LOCAL_OUTPUT",),
        source="built in",
    )


def _check_plan(job: Job, plan: Plan) -> None:
    """Raise `BadInput` if phases need what an earlier phase, which is left out, would have left."""
    if plan.job_dir:
        return
    if plan.has(Phase.PAYLOAD) and not plan.has(Phase.STAGE_IN) and job.inputs:
        raise BadInput("the payload needs the job's inputs, and stage-in is left out; give --in DIR of an earlier run")
    if plan.has(Phase.STAGE_OUT) and not plan.has(Phase.PAYLOAD):
        raise BadInput("stage-out needs what the payload wrote, and it is left out; give --in DIR of an earlier run")


def _presentable(report: JobUpdate) -> JobUpdate:
    """Return a report as it may be shown."""
    return replace(report, files=tuple(replace(file, surl=without_password(file.surl)) for file in report.files))


def _tail(path: Path) -> str:
    """Return the end of a file, an empty text if it cannot be had; a link is not followed."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode):
                file.seek(max(0, found.st_size - TAIL))
                return file.read(TAIL).decode("utf-8", "replace")
    return ""


def _nobody(_: TransferAttempt) -> None:
    """Hear of an attempt, which there is none of."""
