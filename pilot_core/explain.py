"""What would be run for a job, and why: everything is asked, and nothing is done."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import CancelToken
from pilot_core.api.events import PayloadCommand
from pilot_core.api.url import without_password
from pilot_core.archives import members_of
from pilot_core.errors import HandledError
from pilot_core.explanation import Choice, Environment, Explanation, FilePlan, Limit, Payload, Plugin
from pilot_core.payload import SECRETS_FILE, argument_vector, check_needs, environment, program_of
from pilot_core.payloadrun import PREPARATION_LIMIT
from pilot_core.phases import Phase
from pilot_core.remote_io import RemoteInputs
from pilot_core.staging import no_stager, time_allowed
from pilot_core.transfers import remote_inputs

if TYPE_CHECKING:
    from pilot_core.api.job import InputFile, Job, OutputFile
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import Replica
    from pilot_core.phases import Plan
    from pilot_core.plugins import Hooks, Loaded
    from pilot_core.staging import Mover

__all__ = ["Explainer"]

HIDDEN = "<hidden>"
_SECRET_NAME = re.compile(r"token|secret|passw|credential|api_?key|private|auth", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/\s]*@")
"""A URL with a user or a password in it."""


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Knows what there is to run jobs with."""

    queue: Queue
    mover: Mover
    hooks: Hooks
    own_environment: Mapping[str, str]
    clean: Callable[[str], str]
    """Takes secrets out of texts."""
    work_dir: Path
    executor: Loaded[Any]
    watchdogs: Sequence[str] = ()
    """Names of the watchdogs that hold a payload to its limits."""
    extensions: Sequence[Plugin] = ()
    """Extensions, and the catalogue if the queue has one."""
    cancel: CancelToken = field(default_factory=CancelToken)

    def explain(self, job: Job, plan: Plan) -> Explanation:
        """Say what would be run of a job. What is wrong with it is among the `problems`.

        Nobody is asked but the catalogue. Raises `PluginError`, `Cancelled`.
        """
        job_dir = plan.job_dir or self.work_dir / f"job-{job.id}-XXXXXXXX"
        problems: list[str] = []
        plugins = {self.executor.label: _plugin(self.executor), **{each.name: each for each in self.extensions}}
        try:
            check_needs(job)
        except HandledError as error:
            problems.append(str(error))
        files: list[FilePlan] = []
        remote = RemoteInputs()
        if job.inputs and (plan.has(Phase.STAGE_IN) or plan.has(Phase.PAYLOAD)):
            remote = remote_inputs(job, job.inputs, self.queue, self.mover.routes, cancel=self.cancel)
        if plan.has(Phase.STAGE_IN):
            files += [self._input(file, job_dir / "payload", remote, problems, plugins) for file in job.inputs]
        payload = self._payload(job, job_dir / "payload", remote, problems) if plan.has(Phase.PAYLOAD) else None
        if plan.has(Phase.STAGE_OUT):
            files += self._outputs(job, job_dir, problems, plugins)
        return Explanation(
            job_id=job.id,
            queue=self.queue.name,
            queue_source=self.queue.source,
            job_dir=str(job_dir),
            phases=tuple(map(str, plan.phases)),
            executor=self.executor.label,
            files=tuple(files),
            payload=payload,
            limits=tuple(_limits(job, self.queue, self.watchdogs)),
            plugins=tuple(plugins.values()),
            problems=tuple(map(self.clean, dict.fromkeys(problems))),
        )

    def _input(
        self,
        file: InputFile,
        folder: Path,
        remote: RemoteInputs,
        problems: list[str],
        plugins: dict[str, Plugin],
    ) -> FilePlan:
        return FilePlan(
            activity="read",
            lfn=file.lfn,
            local=str(folder / file.lfn),
            size=file.size,
            checksum=file.checksum,
            seconds_allowed=time_allowed(file.size),
            choices=self._choices("read", file.lfn, lambda: self.mover.routes.sources(file), problems, plugins),
            remote=remote.replicas[file.lfn].url if file.lfn in remote else "",
        )

    def _outputs(self, job: Job, job_dir: Path, problems: list[str], plugins: dict[str, Plugin]) -> Iterator[FilePlan]:
        """Yield the outputs and the log."""
        logs = [file for file in (job.log,) if file]
        archives = members_of(job)
        archive_of = {lfn: archive for archive, lfns in archives.items() for lfn in lfns}
        alone = [file for file in job.outputs if file.lfn not in archive_of]
        self.mover.routes.ask_for_outputs(alone, "write", cancel=self.cancel)
        self.mover.routes.ask_for_outputs(logs, "log", cancel=self.cancel)
        for file in job.outputs:
            if file in alone:
                made = self._output(file, job_dir / "payload", "write", problems, plugins)
                yield replace(made, members=tuple(archives.get(file.lfn, ())))
            else:
                local = str(job_dir / "payload" / file.lfn)
                yield FilePlan(activity="write", lfn=file.lfn, local=local, archive=archive_of[file.lfn])
        for file in logs:
            yield self._output(file, job_dir, "log", problems, plugins)

    def _output(
        self, file: OutputFile, folder: Path, activity: str, problems: list[str], plugins: dict[str, Plugin]
    ) -> FilePlan:
        return FilePlan(
            activity=activity,
            lfn=file.lfn,
            local=str(folder / file.lfn),
            choices=self._choices(
                activity, file.lfn, lambda: self.mover.routes.destinations(file, activity), problems, plugins
            ),
        )

    def _choices(
        self,
        activity: str,
        lfn: str,
        places: Callable[[], list[Replica]],
        problems: list[str],
        plugins: dict[str, Plugin],
    ) -> tuple[Choice, ...]:
        """Return what would be tried for a file, in order, then what would not."""
        try:
            replicas = places()
            verdicts = self.mover.explain(activity, replicas)
            if not any(verdict.place for verdict in verdicts):
                problems.append(str(no_stager(lfn, replicas)))
        except HandledError as error:
            problems.append(str(error))
            return ()
        plugins.update({verdict.stager.label: _plugin(verdict.stager) for verdict in verdicts if verdict.place})
        return tuple(
            Choice(
                place=verdict.place,
                stager=verdict.stager.name,
                url=without_password(verdict.replica.url),
                rse=verdict.replica.rse,
                rule=verdict.rule,
                why=verdict.text,
            )
            for verdict in verdicts
        )

    def _payload(self, job: Job, folder: Path, remote: RemoteInputs, problems: list[str]) -> Payload | None:
        """Return what would be executed, as the experiment's plugins want it; None if that cannot be said."""
        queue = self.queue
        try:
            program = program_of(job, queue)
            variables = self.hooks.prepare_environment(
                job, queue, environment(job, queue, folder, self.own_environment)
            )
            command = self.hooks.wrap_command(
                job,
                queue,
                PayloadCommand(
                    argv=remote.argv(job, argument_vector(job, queue, program), shell=queue.shell),
                    environment=variables,
                ),
            )
        except HandledError as error:
            problems.append(str(error))
            return None
        return Payload(
            argv=tuple(map(self.clean, command.argv)),
            shell=queue.shell,
            cwd=str(folder),
            fetched_from=without_password(job.transformation) if program != job.transformation else "",
            secrets=len(job.secrets),
            secrets_file=str(folder / SECRETS_FILE) if job.secrets else "",
            environment=self._difference(command.environment),
        )

    def _difference(self, variables: Mapping[str, str]) -> Environment:
        """Return how the payload's environment differs from the pilot's own."""
        own = self.own_environment
        return Environment(
            added={name: self._shown(name, value) for name, value in sorted(variables.items()) if name not in own},
            changed={
                name: (self._shown(name, own[name]), self._shown(name, value))
                for name, value in sorted(variables.items())
                if name in own and own[name] != value
            },
            dropped=tuple(sorted(set(own) - set(variables))),
            same=tuple(name for name in sorted(variables) if own.get(name) == variables[name]),
        )

    def _shown(self, name: str, value: str) -> str:
        """Return a variable's value, unless it may be a secret."""
        if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
            return HIDDEN
        return self.clean(value)


def _plugin(loaded: Loaded[Any]) -> Plugin:
    return Plugin(name=loaded.record.entry_point, distribution=loaded.distribution, version=loaded.version)


def _limits(job: Job, queue: Queue, watchdogs: Sequence[str]) -> list[Limit]:
    """Return what bounds a job; a value of 0 is not said. Watchdogs hold a payload to most, each with its own grace."""
    rows = (
        ("kill grace", queue.kill_grace_seconds, "s", "queue", True),
        ("fetching the program and starting it", PREPARATION_LIMIT, "s", "pilot", True),
        ("cores", job.core_count, "", "job", False),
        ("memory", job.memory_mb, "MB", "job", "memory" in watchdogs),
        ("memory", queue.max_memory_mb, "MB", "queue", "memory" in watchdogs),
        # the job's own counts where the queue has none
        ("disk", job.disk_mb, "MB", "job", "work-dir" in watchdogs and not queue.max_disk_mb),
        ("disk", queue.max_disk_mb, "MB", "queue", "work-dir" in watchdogs),
        ("wall time", job.max_wall_seconds, "s", "job", "wall-time" in watchdogs),
        ("CPU time", job.max_cpu_seconds, "s", "job", "cpu-time" in watchdogs),
    )
    return [
        Limit(name=name, value=value, unit=unit, source=source, enforced=enforced)
        for name, value, unit, source, enforced in rows
        if value or name == "kill grace"
    ]
