"""The map of the ecosystem: one hook for each pilot task, and the hooks that shape and watch a job.

Three sorts of hook, never mixed:

*Registration hooks* ("one of many"): an implementation returns or yields `Provider` descriptors; the core chooses
among all of them by name, URL scheme, capability and priority. They are called once, when the plugin is loaded.

*Shaping hooks* let an experiment adapt a job. They are called plugin by plugin in the order of the plugins' names,
each sees what the one before it made, and None means "leave it as it is". A job that is resumed may be shaped again:
the same job gets the same answer. An exception fails the job, with the plugin's name and version.

*Event hooks* ("all of many"): every plugin may listen, none may change anything; an exception is logged with the
plugin's name and never breaks a job. Keep them quick: the job waits.

An implementation names only the arguments that it wants. Every hook's example can be put into a module as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.communicator import Communicator, JobUpdate, ServerAnswer
    from pilot_core.api.credential import CredentialSource
    from pilot_core.api.events import Diagnosis, FinishedPayload, JobState, Outcome, PayloadCommand, TaskInfo
    from pilot_core.api.executor import Executor
    from pilot_core.api.job import Job
    from pilot_core.api.launcher import Launcher
    from pilot_core.api.provider import Provider
    from pilot_core.api.queue import Queue, QueueSource
    from pilot_core.api.server import ServerProtocol
    from pilot_core.api.staging import StageIn, StageOut, StagingProgress, TransferAttempt
    from pilot_core.api.watchdog import Watchdog

__all__ = [
    "EVENT_HOOKS",
    "PROJECT",
    "REGISTRATION_HOOKS",
    "SHAPING_HOOKS",
    "PilotSpecs",
    "hookimpl",
    "hookspec",
]

PROJECT = "pilot_core"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PilotSpecs:
    """Every hook there is. The entry point of a plugin is a module (or object) that implements some of them."""

    # -- registration: one hook for each pilot task ----------------------------------------------------------------

    @hookspec
    def pilot_queue_sources(self) -> Iterable[Provider[QueueSource]]:  # type: ignore[empty-body]
        """Offer sources that know queues (kind `queue-source`).

        Example::

            from pilot_core import Provider, Queue, hookimpl

            class OneQueue:
                def __init__(self, settings, context):
                    self.log = context.log

                def queue(self, name, *, cancel, deadline):
                    return Queue(name=name, source="queue source one") if name == "HERE" else None

            @hookimpl
            def pilot_queue_sources():
                yield Provider(name="one", factory=OneQueue)
        """

    @hookspec
    def pilot_communicators(self) -> Iterable[Provider[Communicator]]:  # type: ignore[empty-body]
        """Offer clients of a server's protocol (kind `communicator`).

        One that has `read_job`, too (`JobReader`), serves `pilot-core run-job` with its server's job descriptions.

        Example::

            from pilot_core import Provider, hookimpl

            def make(settings, context):
                from my_communicator.client import Client  # heavy imports belong here

                return Client(context.server_url, context.credential, context.clock)

            @hookimpl
            def pilot_communicators():
                yield Provider(name="my-server", factory=make)
        """

    @hookspec
    def pilot_catalogs(self) -> Iterable[Provider[ReplicaCatalog]]:  # type: ignore[empty-body]
        """Offer catalogues that find and register replicas (kind `catalog`). A queue names the one to ask.

        Example::

            from pilot_core import Provider, hookimpl

            class NoReplicas:
                def __init__(self, settings, context):
                    pass

                def replicas(self, files, *, cancel, deadline):
                    return {file.lfn: () for file in files}

                def register(self, job, files, *, cancel, deadline):
                    pass

            @hookimpl
            def pilot_catalogs():
                yield Provider(name="none", factory=NoReplicas)
        """

    @hookspec
    def pilot_stagein(self) -> Iterable[Provider[StageIn]]:  # type: ignore[empty-body]
        """Offer backends that bring input in (kind `stager`).

        Example::

            from pilot_core import Provider, hookimpl

            def make(settings, context):
                from my_stager.tape import Tape

                return Tape(settings, context)

            @hookimpl
            def pilot_stagein():
                yield Provider(name="tape", factory=make, schemes=frozenset({"tape"}))
        """

    @hookspec
    def pilot_stageout(self) -> Iterable[Provider[StageOut]]:  # type: ignore[empty-body]
        """Offer backends that bring output out (kind `stager`); one class may serve both ways.

        Example::

            from pilot_core import Provider, hookimpl

            def make(settings, context):
                from my_stager.tape import Tape

                return Tape(settings, context)

            @hookimpl
            def pilot_stageout():
                yield Provider(name="tape", factory=make, schemes=frozenset({"tape"}))
        """

    @hookspec
    def pilot_executors(self) -> Iterable[Provider[Executor]]:  # type: ignore[empty-body]
        """Offer ways to run a payload (kind `executor`).

        Example::

            from pilot_core import Provider, hookimpl

            def make(settings, context):
                from my_executor.sandbox import Sandbox

                return Sandbox(settings, context)

            @hookimpl
            def pilot_executors():
                yield Provider(name="sandbox", factory=make, requires=("bin:bwrap",))
        """

    @hookspec
    def pilot_watchdogs(self) -> Iterable[Provider[Watchdog]]:  # type: ignore[empty-body]
        """Offer limits that end a payload (kind `watchdog`).

        Example::

            from pilot_core import Provider, Violation, hookimpl

            class WallTime:
                interval = 60.0

                def __init__(self, settings, context):
                    self.limit = 86400.0

                def check(self, watched):
                    used = watched.now - watched.started
                    if used <= self.limit:
                        return None
                    return Violation(error_code=1213, message=f"wall time {used:.0f} s, limit {self.limit:.0f} s")

            @hookimpl
            def pilot_watchdogs():
                yield Provider(name="wall-time", factory=WallTime)
        """

    @hookspec
    def pilot_credentials(self) -> Iterable[Provider[CredentialSource]]:  # type: ignore[empty-body]
        """Offer sources of credentials (kind `credential`).

        Example::

            from pilot_core import BearerToken, Provider, hookimpl

            class Fixed:
                def __init__(self, settings, context):
                    self.token = BearerToken(value="...", origin="wlcg.production")

                def credential(self, *, cancel, deadline):
                    return self.token

                def secrets(self):
                    return (self.token.value,)

            @hookimpl
            def pilot_credentials():
                yield Provider(name="fixed", factory=Fixed)
        """

    @hookspec
    def pilot_launchers(self) -> Iterable[Provider[Launcher]]:  # type: ignore[empty-body]
        """Offer batch systems that start pilots (kind `launcher`).

        Example::

            from pilot_core import Provider, hookimpl

            def make(settings, context):
                from my_launcher.batch import Batch

                return Batch(settings, context)

            @hookimpl
            def pilot_launchers():
                yield Provider(name="my-batch", factory=make, requires=("bin:qsub",))
        """

    @hookspec
    def pilot_server_protocols(self) -> Iterable[Provider[ServerProtocol]]:  # type: ignore[empty-body]
        """Offer protocols for the development server (kind `server-protocol`).

        Example::

            from pilot_core import Provider, ServerResponse, hookimpl

            class Ping:
                def __init__(self, settings, context):
                    pass

                def handles(self, request):
                    return request.path == "/ping"

                def respond(self, request, store):
                    return ServerResponse(body=b"pong")

            @hookimpl
            def pilot_server_protocols():
                yield Provider(name="ping", factory=Ping)
        """

    # -- shaping: an experiment adapts a job -----------------------------------------------------------------------

    @hookspec
    def pilot_prepare_environment(
        self, job: Job, queue: Queue, environment: Mapping[str, str]
    ) -> Mapping[str, str] | None:
        """Return the payload's whole environment, changed; None leaves it. What it does not concern stays in it.

        Example::

            from pilot_core import hookimpl

            @hookimpl
            def pilot_prepare_environment(job, environment):
                return {**environment, "FRONTIER_ID": f"[{job.task_id}_{job.id}]"}
        """

    @hookspec
    def pilot_wrap_command(self, job: Job, queue: Queue, command: PayloadCommand) -> PayloadCommand | None:
        """Return the command to execute instead; None leaves it.

        What the payload sees stays as it was: the same arguments, and its exit code is the command's.

        Example::

            from dataclasses import replace
            from pilot_core import hookimpl

            @hookimpl
            def pilot_wrap_command(command):
                return replace(command, argv=("nice", *command.argv))
        """

    @hookspec
    def pilot_diagnose_failure(self, payload: FinishedPayload) -> Diagnosis | None:
        """Say why a payload failed; the first plugin with an answer is believed.

        What the payload left is untrusted: its files may be missing, no text, endless, or pipes.

        Example::

            from pilot_core import Diagnosis, hookimpl

            @hookimpl
            def pilot_diagnose_failure(payload):
                errors = payload.stderr.read_bytes() if payload.stderr.is_file() else b""
                if b"bad_alloc" in errors[-4096:]:
                    return Diagnosis(error_code=1223, message="the payload could not get memory (bad_alloc)")
                return None
        """

    @hookspec
    def pilot_collect_metadata(self, payload: FinishedPayload) -> Mapping[str, Any] | None:
        """Return entries for the job's metadata; later plugins win where keys are equal. It is JSON, below a megabyte.

        Example::

            import json
            from pilot_core import hookimpl

            @hookimpl
            def pilot_collect_metadata(payload):
                report = payload.job_dir / "jobReport.json"
                return json.loads(report.read_text()) if report.is_file() else None
        """

    # -- events: every plugin may listen -----------------------------------------------------------------------------

    @hookspec
    def pilot_job_state_changed(self, job: Job, old: JobState, new: JobState) -> None:
        """Hear that a job goes from one state to the next; called after the journal has it.

        Example::

            import logging
            from pilot_core import hookimpl

            @hookimpl
            def pilot_job_state_changed(job, old, new):
                logging.getLogger(__name__).info("job %d: %s -> %s", job.id, old, new)
        """

    @hookspec
    def pilot_task_started(self, task: TaskInfo) -> None:
        """Hear that a task of a job begins.

        Example::

            import logging
            from pilot_core import hookimpl

            @hookimpl
            def pilot_task_started(task):
                logging.getLogger(__name__).info("job %d: %s begins", task.job.id, task.name)
        """

    @hookspec
    def pilot_task_finished(self, task: TaskInfo, outcome: Outcome) -> None:
        """Hear how a task of a job ended.

        Example::

            import logging
            from pilot_core import hookimpl

            @hookimpl
            def pilot_task_finished(task, outcome):
                logging.getLogger(__name__).info("%s took %.3f s", task.name, outcome.seconds)
        """

    @hookspec
    def pilot_transfer_attempted(self, attempt: TransferAttempt) -> None:
        """Hear of every attempt to move a file, successful or not.

        Example::

            import logging
            from pilot_core import hookimpl

            @hookimpl
            def pilot_transfer_attempted(attempt):
                logging.getLogger(__name__).info("%s %s: %s", attempt.activity, attempt.lfn, attempt.outcome)
        """

    @hookspec
    def pilot_transfer_progress(self, progress: StagingProgress) -> None:
        """Hear how far a job's transfers are: twice a second while they last, and once when they have ended.

        Example::

            import logging
            from pilot_core import hookimpl

            @hookimpl
            def pilot_transfer_progress(progress):
                done, files = progress.files_done, progress.files
                logging.getLogger(__name__).info("%s: %d of %d files", progress.activity, done, files)
        """

    @hookspec
    def pilot_heartbeat(self, update: JobUpdate, answer: ServerAnswer | None) -> None:
        """Hear of every update sent for a job; `answer` is None if the server did not acknowledge it.

        Example::

            import logging
            from pilot_core import hookimpl

            @hookimpl
            def pilot_heartbeat(update, answer):
                if answer is None:
                    logging.getLogger(__name__).warning("job %d: the server did not answer", update.job_id)
        """


REGISTRATION_HOOKS = frozenset(
    {
        "pilot_queue_sources",
        "pilot_communicators",
        "pilot_catalogs",
        "pilot_stagein",
        "pilot_stageout",
        "pilot_executors",
        "pilot_watchdogs",
        "pilot_credentials",
        "pilot_launchers",
        "pilot_server_protocols",
    }
)
SHAPING_HOOKS = frozenset(
    {"pilot_prepare_environment", "pilot_wrap_command", "pilot_diagnose_failure", "pilot_collect_metadata"}
)
EVENT_HOOKS = frozenset(
    {
        "pilot_job_state_changed",
        "pilot_task_started",
        "pilot_task_finished",
        "pilot_transfer_attempted",
        "pilot_transfer_progress",
        "pilot_heartbeat",
    }
)
