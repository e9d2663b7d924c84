"""A pilot's parts for a replay: the real ones around a communicator, and played ones for what the machine lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilot_core.api.queue import Queue
from pilot_core.api.traffic import NOT_CONNECTED
from pilot_core.assembly import Assembly
from pilot_core.errors import BadInput
from pilot_core.recording.catalogs import WatchedCatalog
from pilot_core.recording.wrappers import WatchedBackends, WatchedExecutor, WatchedHooks
from pilot_core.replay.catalogs import PlayedCatalog
from pilot_core.replay.communicator import ReplayedCommunicator
from pilot_core.replay.compare import Message
from pilot_core.replay.played import PlayedBackends, PlayedExecutor, PlayedHooks, PlayedProgram, PlayedWatch, Results
from pilot_core.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.communicator import Communicator
    from pilot_core.api.credential import CredentialSource
    from pilot_core.api.events import JobState, Outcome, TaskInfo
    from pilot_core.api.executor import Executor, Payload, PayloadHandle
    from pilot_core.api.job import Job
    from pilot_core.api.provider import Context
    from pilot_core.api.traffic import Exchange
    from pilot_core.pilot_settings import PilotSettings
    from pilot_core.plugins import Hooks
    from pilot_core.recording.reading import Recording
    from pilot_core.replay.clock import ReplayClock
    from pilot_core.replay.cues import Cues
    from pilot_core.replay.script import Script
    from pilot_core.services import Services
    from pilot_core.settings import Config
    from pilot_core.staging import Backends
    from pilot_core.watching import NamedWatchdog

__all__ = ["ReplayAssembly", "Stage"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a replay plays on; `exchanged` makes it the `TrafficListener` of its communicator."""

    recording: Recording
    script: Script
    cues: Cues
    clock: ReplayClock
    real: bool
    """Whether payloads and transfers are done instead of played."""

    def exchanged(self, exchange: Exchange) -> None:
        """Hear of an exchange: one that found no connection is seen from this side only."""
        if exchange.failure == NOT_CONNECTED:
            parts = urlsplit(exchange.url)
            found = self.script.not_connected(Message(exchange.method, parts.path, (), b""))
            if found is not None:
                self.clock.reach(found.ended)


class _TurnHooks(WatchedHooks):
    """Hooks by which the replay follows a job, and at which its thread waits for the others' turns."""

    def __init__(self, inner: Hooks, stage: Stage) -> None:
        super().__init__(inner, stage.script)
        self._stage = stage

    def job_state_changed(self, job: Job, old: JobState, new: JobState) -> None:
        """See `Hooks.job_state_changed`."""
        self._stage.cues.enter(job.id, str(new))
        super().job_state_changed(job, old, new)

    def task_finished(self, task: TaskInfo, outcome: Outcome) -> None:
        """See `Hooks.task_finished`."""
        super().task_finished(task, outcome)
        self._stage.clock.gate()


class _TurnExecutor(WatchedExecutor):
    """An executor at which the job's thread waits for the others' turns, before the payload counts as running."""

    def __init__(self, inner: Executor, stage: Stage, clean: Callable[[str], str]) -> None:
        super().__init__(inner, stage.script, clean)
        self._stage = stage

    def attach(self, handle: PayloadHandle, *, cancel: CancelToken, deadline: Deadline) -> Payload:
        """See `Executor.attach`."""
        self._stage.clock.gate()
        return super().attach(handle, cancel=cancel, deadline=deadline)


class ReplayAssembly(Assembly):
    """Makes the parts of a replayed pilot."""

    def __init__(self, stage: Stage, settings: PilotSettings, config: Config, **parts: Any) -> None:
        super().__init__(settings, config, **parts)
        self._stage = stage

    def credential(self, context: Context, *, cancel: CancelToken) -> CredentialSource | None:  # noqa: ARG002
        """Return None: the played server asks for none."""
        return None

    def queue(self, context: Context, *, cancel: CancelToken) -> Queue:  # noqa: ARG002
        """Return the recorded queue."""
        recording = self._stage.recording
        if not recording.manifest.queue:
            raise BadInput(f"recording {recording.folder}: the pilot did not come to know its queue; nothing to replay")
        try:
            return decode(Queue, dict(recording.manifest.queue), "queue")
        except ValueError as error:
            raise BadInput(f"recording {recording.folder}: manifest: {error}") from None

    def communicator(self, context: Context, credential: CredentialSource | None) -> Communicator:
        """See `Assembly.communicator`; one that spoke no HTTP is played."""
        stage = self._stage
        spoke = bool(stage.recording.exchanges)
        inner = super().communicator(replace(context, traffic=stage), credential) if spoke else None
        return ReplayedCommunicator(inner, stage.script, stage.cues, stage.clock)

    def executor(self, queue: Queue, context: Context) -> Executor:
        """See `Assembly.executor`."""
        stage = self._stage
        played = None if stage.real else PlayedExecutor(stage.recording, stage.cues)
        inner = played or super().executor(queue, context)
        return _TurnExecutor(inner, stage, self.redactor.clean)

    def extensions(self) -> None:
        """Import the extensions, if they are to be real."""
        if self._stage.real:
            super().extensions()

    def hooks(self) -> Hooks:
        """See `Assembly.hooks`."""
        inner = super().hooks() if self._stage.real else PlayedHooks(self._stage.recording)
        return _TurnHooks(inner, self._stage)

    def backends(self, queue: Queue, context: Context) -> Backends:
        """See `Assembly.backends`."""
        stage = self._stage
        if stage.real:
            return WatchedBackends(super().backends(queue, context), stage.script)
        return WatchedBackends(PlayedBackends(stage.recording, stage.cues, stage.clock), stage.script)

    def watchdogs(self, queue: Queue, context: Context) -> tuple[NamedWatchdog, ...]:  # noqa: ARG002
        """Return none: what limits were passed is recorded."""
        return ()

    def catalog(self, queue: Queue, context: Context) -> ReplicaCatalog | None:
        """See `Assembly.catalog`."""
        stage = self._stage
        if not queue.catalog:
            return None
        made = super().catalog(queue, context) if stage.real else PlayedCatalog(stage.recording)
        return WatchedCatalog(made, stage.script) if made is not None else None

    def services(self, queue: Queue, communicator: Communicator, context: Context) -> Services:
        """See `Assembly.services`."""
        services = replace(super().services(queue, communicator, context), in_turn=self._stage.script.in_turn)
        services = replace(
            services,
            watch=partial(PlayedWatch, Results(self._stage.recording, "limit")),
            # what the server saw was of its moment, and is not compared
            show=lambda _: "",
        )
        if self._stage.real:
            return services
        return replace(services, fetch=PlayedProgram(self._stage.recording, self._stage.cues))
