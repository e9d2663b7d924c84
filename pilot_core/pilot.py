"""The pilot: knows its queue, asks its server for jobs and runs them one after the other."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core._version import __version__
from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.communicator import JobRequest, WorkerStatus
from pilot_core.api.job import BadJob, Job
from pilot_core.api.provider import KINDS, Context
from pilot_core.errors import (
    Cancelled,
    CommunicationError,
    ConfigError,
    HandledError,
    NoSpace,
    PilotErrorCode,
    PluginError,
)
from pilot_core.jobrun import JobRun
from pilot_core.node import describe_node
from pilot_core.pilot_settings import PilotSettings, batch_id, node_name
from pilot_core.plugins import Hooks, PluginSettings, Registry
from pilot_core.reporting import Failure
from pilot_core.services import Services
from pilot_core.settings import did_you_mean
from pilot_core.signals import listen
from pilot_core.staging import Backends

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Acquired, Communicator
    from pilot_core.api.credential import CredentialSource
    from pilot_core.api.executor import Executor
    from pilot_core.api.queue import Queue
    from pilot_core.jobrun import JobOutcome
    from pilot_core.logs import Redactor
    from pilot_core.settings import Config
    from pilot_core.supervision import Spawner

__all__ = ["Pilot"]

SIGNALS = {
    signal.SIGTERM: PilotErrorCode.SIGTERM,
    signal.SIGINT: PilotErrorCode.SIGINT,
    signal.SIGQUIT: PilotErrorCode.SIGQUIT,
    signal.SIGUSR1: PilotErrorCode.SIGUSR1,
    signal.SIGXCPU: PilotErrorCode.SIGXCPU,
    signal.SIGHUP: PilotErrorCode.KILLSIGNAL,
}
"""The signals by which batch systems end a pilot, with the code that a job is then reported with."""
QUEUE_LIMIT = 120.0
"""Seconds for finding out about the queue."""
STATUS_LIMIT = 30.0
"""Seconds for telling Harvester about this pilot; it can do without."""
REDEFINE = "the job cannot be understood and has to be defined anew"
UNREPORTED = CommunicationError.exit_code


class Pilot:
    """One pilot process's work. `run` returns the process's exit code."""

    def __init__(
        self,
        settings: PilotSettings,
        config: Config,
        *,
        clock: Clock,
        spawner: Spawner,
        environment: Mapping[str, str],
        redactor: Redactor,
    ) -> None:
        self._settings = settings
        self._config = config
        self._clock = clock
        self._spawner = spawner
        self._environment = environment
        self._redactor = redactor
        self._log = logging.getLogger("pilot_core.pilot")
        self._stop = CancelToken()
        self._now = CancelToken()
        self._signal = 0
        self._job: JobRun | None = None
        self._options: Mapping[str, Mapping[str, Any]] = {
            "credential.x509": {"cert_file": settings.cert, "key_file": settings.key},
            "credential.token-file": {"file": settings.token_file, "origin": settings.token_origin or None},
        }
        self._registry = Registry.discover(config.section("plugins", PluginSettings))

        self._check_tables()

    def _check_tables(self) -> None:
        """Raise `ConfigError` for settings of a plugin that is not installed: a mistyped name would go unseen."""
        for kind in KINDS:
            installed = {record.name for record in self._registry.records if record.kind == kind}
            for name in sorted(self._config.names(kind) - installed):
                in_file = name in self._config.data.get(kind, {})
                place = self._config.where(f"{kind}.{name}") if in_file else f"--set {kind}.{name}"
                raise ConfigError(f"{place}: no such {kind} is installed{did_you_mean(name, installed)}")

    # -- from outside --------------------------------------------------------------------------------------------

    def handle_signals(self) -> None:
        """End in order on the first of the batch system's signals, and at once on the second."""
        # under nohup the end of a terminal is none of the pilot's
        unwanted = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        listen(SIGNALS.keys() - unwanted, self._signalled)

    def _signalled(self, number: int) -> None:
        """Hear of a signal, in a thread of its own."""
        name = signal.Signals(number).name
        again = self._stop.cancelled
        if again:
            self._now.cancel(f"the pilot got {name} again")
        self._signal = self._signal or number
        self._stop.cancel(f"the pilot got {name}")
        job = self._job
        if job:
            job.stop(f"the pilot got {name}", SIGNALS[signal.Signals(number)])
            if again:
                job.hurry(f"the pilot got {name} again")

    # -- the way of a pilot --------------------------------------------------------------------------------------

    def run(self) -> int:
        """Take jobs and run them; returns the exit code. Raises `HandledError` when the pilot itself cannot work."""
        try:
            code = self._work()
        except Cancelled as error:
            if not self._signal:
                raise
            self._log.warning("ended before there was a job: %s", error)
            code = 0
        return 128 + self._signal if self._signal and not code else code

    def _work(self) -> int:
        """Do what a pilot does; returns the exit code but for signals."""
        work_dir = _work_dir(self._settings)
        context = self._context(work_dir)
        credential = self._credential(context)
        queue = self._queue(context)
        communicator: Communicator = self._make(
            "communicator", self._settings.communicator, replace(context, credential=credential)
        )
        try:
            services = self._services(queue, communicator, context, work_dir)
            self._greet(queue, communicator, services.node, "started")
            try:
                return self._take_jobs(services)
            finally:
                services.executor.close()
                self._greet(queue, communicator, services.node, "finished")
        finally:
            communicator.close()

    def _take_jobs(self, services: Services) -> int:
        """Ask for jobs and run them until there are enough; returns the exit code.

        No more are taken once one could not be reported, or the work directory is not what it was: that would come to
        all of a queue's jobs.
        """
        taken = unreported = 0
        while not (self._stop.cancelled or unreported) and (self._settings.jobs == 0 or taken < self._settings.jobs):
            _work_dir(self._settings)
            begun = self._clock.monotonic()
            found = self._acquire(services)
            if not found:
                self._log.info("the server has no job for queue %s", services.queue.name)
                break
            seconds = self._clock.monotonic() - begun
            for job in found:
                taken += 1
                unreported += not self._run(job, services, seconds).reported
        self._log.info("%d job%s run, %d not reported", taken, "" if taken == 1 else "s", unreported)
        return UNREPORTED if unreported else 0

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
        return services.communicator.acquire(request, cancel=self._stop, deadline=deadline)

    def _run(self, acquired: Acquired, services: Services, seconds: float) -> JobOutcome:
        """Run one job; one that cannot be understood is only reported."""
        failure = None
        if isinstance(acquired, BadJob):
            failure = Failure(task="pilot", code=acquired.error_code, message=f"{acquired.reason}; {REDEFINE}")
            job = Job(id=acquired.id, attempt=acquired.attempt, log=acquired.log, extra=acquired.extra)
        else:
            job = acquired
        self._redactor.add((*job.secrets.values(), *job.pilot_secrets.values()))
        self._job = JobRun(job, services, failure=failure, get_job_seconds=seconds)
        if self._stop.cancelled:
            self._job.stop(self._stop.reason, SIGNALS.get(signal.Signals(self._signal), PilotErrorCode.KILLSIGNAL))
        if self._now.cancelled:
            self._job.hurry(self._now.reason)
        try:
            return self._job.run()
        finally:
            self._job = None

    # -- what it is made of --------------------------------------------------------------------------------------

    def _context(self, work_dir: Path) -> Context:
        """Return what every provider of this pilot is given."""
        settings = self._settings
        return Context(
            clock=self._clock,
            log=logging.getLogger("pilot_core.plugin"),
            work_dir=work_dir,
            server_url=settings.server.rstrip("/"),
            ca_file=settings.ca_file,
            proxy=settings.proxy,
            config_file=self._config.file,
            user_agent=f"pilot-core/{__version__} (Python {sys.version.split()[0]}; {sys.platform})",
            extra={"spawner": self._spawner},
        )

    def _make(self, kind: str, name: str, context: Context, hook: str | None = None) -> Any:
        """Load one provider and make its instance with its settings; raises `PluginError` or `ConfigError`."""
        loaded = self._registry.provider(kind, name, hook)
        kept: Any = self._config.section(
            f"{kind}.{name}", loaded.provider.settings, self._options.get(f"{kind}.{name}")
        )
        own = replace(context, log=logging.getLogger(f"pilot_core.{kind}.{name}"))
        try:
            return loaded.provider.factory(kept, own)
        except HandledError:
            raise
        except Exception as error:
            raise PluginError(
                f"plugin {loaded.record.label} failed when it was made: {type(error).__name__}: {error}; "
                f"tell its authors, or block it ([plugins] block)"
            ) from error

    def _credential(self, context: Context) -> CredentialSource | None:
        """Return the pilot's credential source, or None where none is configured.

        It is asked once before anything else, so that a bad credential is told first.
        """
        settings = self._settings
        name = settings.credential or ("x509" if settings.cert else "token-file" if settings.token_file else "")
        if not name:
            return None
        source: CredentialSource = self._make("credential", name, context)
        source.credential(cancel=self._stop, deadline=Deadline.after(self._clock, STATUS_LIMIT))
        self._redactor.add(source.secrets())
        return source

    def _queue(self, context: Context) -> Queue:
        """Ask the queue sources in order; the first that knows the queue counts."""
        name, asked = self._settings.queue, []
        deadline = Deadline.after(self._clock, QUEUE_LIMIT)
        for source in self._settings.queue_sources:
            if not self._registry.has("queue-source", source):
                continue
            asked.append(source)
            queue: Queue | None = self._make("queue-source", source, context).queue(
                name, cancel=self._stop, deadline=deadline
            )
            if queue is None:
                continue
            if queue.status == "offline":
                raise ConfigError(
                    f"queue {name} is offline ({queue.source or source}): name another one, or change its status there"
                )
            self._log.info("queue %s from %s", name, queue.source or source)
            return queue
        raise ConfigError(
            f"unknown queue {name!r}: none of the queue sources ({', '.join(asked) or 'none installed'}) knows it; "
            f"add [queues.{name}] to the --config file",
            error_code=PilotErrorCode.QUEUEDATA,
        )

    def _services(self, queue: Queue, communicator: Communicator, context: Context, work_dir: Path) -> Services:
        """Gather what the jobs need."""
        settings = self._settings
        executor: Executor = self._make("executor", queue.executor, context)
        for record in self._registry.extensions():
            self._registry.load(record)
        backends = Backends(self._registry, queue, lambda kind, name, hook: self._make(kind, name, context, hook))
        backends.load()
        tag = settings.log_url or "unknown"
        return Services(
            queue=queue,
            communicator=communicator,
            executor=executor,
            backends=backends,
            hooks=Hooks(self._registry),
            clock=self._clock,
            redactor=self._redactor,
            work_dir=work_dir,
            own_environment=self._environment,
            ca_file=settings.ca_file,
            node=node_name(settings, self._environment),
            pilot_id=f"{tag}|{settings.version_tag}|pilot-core {__version__}",
            batch_id=batch_id(settings, self._environment),
            scheduler_id=settings.scheduler_id,
            report_budget=settings.report_budget,
            last_budget=settings.last_budget,
            keep=settings.keep_job_dirs,
        )

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
                    cancel=self._now,
                    deadline=deadline,
                )
            if settings.report_node and status == "started":
                communicator.worker_node(describe_node(queue, node), cancel=self._stop, deadline=deadline)
        except HandledError as error:
            self._log.warning("the server did not take this pilot's %r: %s", status, error)


def _work_dir(settings: PilotSettings) -> Path:
    """Check the work directory; raises `ConfigError` or `NoSpace`."""
    folder = settings.work_dir.absolute()
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        raise ConfigError(f"work directory {folder} {what}; create it, or name another by --work-dir")
    probe = folder / f".pilot-core-{os.getpid()}"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError as error:
        if error.errno in {28, 122}:  # ENOSPC, EDQUOT
            raise NoSpace(f"work directory {folder} is full; free some space, or name another by --work-dir") from None
        raise ConfigError(
            f"work directory {folder} cannot be written ({error.strerror}); change its permissions, or name another "
            "by --work-dir"
        ) from None
    finally:
        probe.unlink(missing_ok=True)
    _check_space(folder, settings.min_free_mb)
    return folder


def _check_space(folder: Path, least_mb: int) -> None:
    """Raise `NoSpace` if the directory's file system has less free space than a job may be taken with."""
    free = shutil.disk_usage(folder).free // 1024**2
    if free < least_mb:
        raise NoSpace(
            f"work directory {folder} has {free} MB free, and {least_mb} MB are asked for (pilot.min_free_mb); "
            "free some space, or name another by --work-dir"
        )
