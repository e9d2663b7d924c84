"""A pilot's parts with a recorder around them."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pilot_core.assembly import Assembly
from pilot_core.logs import HIDDEN
from pilot_core.recording.catalogs import WatchedCatalog
from pilot_core.recording.recorder import Recorder, plain_settings
from pilot_core.recording.wrappers import (
    WatchedBackends,
    WatchedCommunicator,
    WatchedExecutor,
    WatchedHooks,
    error_of,
)
from pilot_core.values import encode
from pilot_core.watching import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.communicator import Communicator
    from pilot_core.api.credential import CredentialSource
    from pilot_core.api.executor import Executor
    from pilot_core.api.provider import Context
    from pilot_core.api.queue import Queue
    from pilot_core.api.watchdog import Violation
    from pilot_core.pilot_settings import PilotSettings
    from pilot_core.plugins import Hooks, Loaded
    from pilot_core.services import Services
    from pilot_core.settings import Config
    from pilot_core.staging import Backends

__all__ = ["RecordedAssembly"]

_SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|_KEY", re.IGNORECASE)
"""What the names of variables have in them whose values are nobody's business."""


class RecordedAssembly(Assembly):
    """Makes the parts of a pilot as `Assembly` does, and has a recorder hear of everything that passes."""

    recovers = False

    def __init__(self, recorder: Recorder, settings: PilotSettings, config: Config, **parts: Any) -> None:
        super().__init__(settings, config, **parts)
        self._recorder = recorder
        recorder.describe(settings=plain_settings(settings, recorder.learn))

    def context(self, work_dir: Path) -> Context:
        """See `Assembly.context`."""
        self._recorder.describe(work_dir=str(work_dir))
        return super().context(work_dir)

    def using(self, loaded: Loaded[Any], settings: Any) -> None:
        """Note a plugin and its settings."""
        self._recorder.uses(loaded, settings)

    def signalled(self, number: int) -> None:
        """Note a signal."""
        self._recorder.event("signal", number=number)

    def credential(self, context: Context, *, cancel: CancelToken) -> CredentialSource | None:
        """See `Assembly.credential`: its secrets are kept out, those of later renewals too."""
        source = super().credential(context, cancel=cancel)
        if source is not None:
            self._recorder.learn_from(source.secrets)
        return source

    def communicator(self, context: Context, credential: CredentialSource | None) -> Communicator:
        """See `Assembly.communicator`: it tells its traffic, and its calls are heard too."""
        made = super().communicator(replace(context, traffic=self._recorder), credential)
        return WatchedCommunicator(made, self._recorder)

    def queue(self, context: Context, *, cancel: CancelToken) -> Queue:
        """See `Assembly.queue`: a replay asks no queue source."""
        queue = super().queue(context, cancel=cancel)
        hidden = {name: text for name, text in queue.environment.items() if _SECRET_VARIABLE.search(name)}
        self._recorder.learn(hidden.values())
        variables = {**queue.environment, **dict.fromkeys(hidden, HIDDEN)}
        self._recorder.describe(queue=encode(replace(queue, environment=variables)))
        return queue

    def executor(self, queue: Queue, context: Context) -> Executor:
        """See `Assembly.executor`."""
        return WatchedExecutor(super().executor(queue, context), self._recorder, self.redactor.clean)

    def hooks(self) -> Hooks:
        """See `Assembly.hooks`."""
        return WatchedHooks(super().hooks(), self._recorder)

    def backends(self, queue: Queue, context: Context) -> Backends:
        """See `Assembly.backends`."""
        return WatchedBackends(super().backends(queue, context), self._recorder)

    def catalog(self, queue: Queue, context: Context) -> ReplicaCatalog | None:
        """See `Assembly.catalog`."""
        made = super().catalog(queue, context)
        return WatchedCatalog(made, self._recorder) if made is not None else None

    def services(self, queue: Queue, communicator: Communicator, context: Context) -> Services:
        """See `Assembly.services`."""
        services = super().services(queue, communicator, context)
        inner = services.fetch

        def fetch(*arguments: Any, **limits: Any) -> str:
            try:
                program = inner(*arguments, **limits)
            except Exception as error:
                self._recorder.event("program", job=arguments[0].id, error=error_of(error))
                raise
            self._recorder.event("program", job=arguments[0].id, answer=program)
            return program

        return replace(services, fetch=fetch, watch=partial(_RecordedWatch, self._recorder))


class _RecordedWatch(Watch):
    """A watch whose finding is told of."""

    def __init__(self, recorder: Recorder, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._recorder = recorder

    def passed(self, violation: Violation) -> None:
        """See `Watch.passed`."""
        job, code = self.look().job.id, int(violation.error_code)
        self._recorder.event("limit", job=job, code=code, message=violation.message)
        super().passed(violation)
