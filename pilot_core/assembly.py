"""What a pilot is made of: plugins, credential, queue, communicator and services, from its settings.

Everything that runs jobs is put together here, whether a server gives them or a file: a pilot, one job of a file, a
replay. Each part is made when it is asked for, so that who needs a part only pays for no other.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core._version import __version__
from pilot_core.api.cancel import Deadline
from pilot_core.api.catalog import SeenFromQueue
from pilot_core.api.credential import ClientCertificate
from pilot_core.api.provider import KINDS, Context
from pilot_core.errors import ConfigError, HandledError, NoSpace, PilotErrorCode, PluginError
from pilot_core.limits_set import chosen_watchdogs
from pilot_core.pilot_settings import batch_id, node_name
from pilot_core.places import is_directory, is_there
from pilot_core.plugins import Hooks, PluginSettings, Registry
from pilot_core.services import Services
from pilot_core.settings import did_you_mean
from pilot_core.staging import Backends, Limits, Space

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Communicator
    from pilot_core.api.credential import CredentialSource
    from pilot_core.api.executor import Executor
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import StagingProgress
    from pilot_core.logs import Redactor
    from pilot_core.pilot_settings import PilotSettings
    from pilot_core.plugins import Loaded
    from pilot_core.settings import Config
    from pilot_core.supervision import Spawner
    from pilot_core.watching import NamedWatchdog

__all__ = ["Assembly", "usable_work_dir"]

QUEUE_LIMIT = 120.0
"""Seconds for finding out about the queue."""
CREDENTIAL_LIMIT = 30.0
"""Seconds for the first look at the credential."""


class Assembly:
    """Makes the parts of one pilot process. Raises `ConfigError` for settings of plugins that are not installed."""

    recovers = True
    """Whether a pilot goes on with what others left in its work directory: not while it is recorded, or replayed."""

    def __init__(
        self,
        settings: PilotSettings,
        config: Config,
        *,
        clock: Clock,
        spawner: Spawner | None,
        environment: Mapping[str, str],
        redactor: Redactor,
    ) -> None:
        self.settings = settings
        self.config = config
        self.clock = clock
        self.redactor = redactor
        self.environment = environment
        self.started = clock.monotonic()
        """Monotonic time of the pilot's start."""
        self.registry = Registry.discover(config.section("plugins", PluginSettings))
        self.progress: Callable[[StagingProgress], None] | None = None
        """Hears how far the jobs' transfers are; set before the services are made."""
        self._spawner = spawner
        self._credential: CredentialSource | None = None
        self._certificate: CredentialSource | None = None
        """The credential, if it is one that storages and catalogues may be shown."""
        self._log = logging.getLogger("pilot_core.pilot")
        self._options: Mapping[str, Mapping[str, Any]] = {
            "credential.x509": {"cert_file": settings.cert, "key_file": settings.key},
            "credential.token-file": {"file": settings.token_file, "origin": settings.token_origin or None},
        }
        self._check_tables()

    def _check_tables(self) -> None:
        """Raise `ConfigError` for settings of a plugin that is not installed: a mistyped name would go unseen."""
        for kind in KINDS:
            installed = {record.name for record in self.registry.records if record.kind == kind}
            for name in sorted(self.config.names(kind) - installed):
                in_file = name in self.config.data.get(kind, {})
                place = self.config.where(f"{kind}.{name}") if in_file else f"--set {kind}.{name}"
                raise ConfigError(f"{place}: no such {kind} is installed{did_you_mean(name, installed)}")

    def context(self, work_dir: Path) -> Context:
        """Return what every provider of this pilot is given."""
        settings = self.settings
        return Context(
            clock=self.clock,
            log=logging.getLogger("pilot_core.plugin"),
            work_dir=work_dir,
            server_url=settings.server.rstrip("/"),
            ca_file=settings.ca_file,
            proxy=settings.proxy,
            config_file=self.config.file,
            user_agent=f"pilot-core/{__version__} (Python {sys.version.split()[0]}; {sys.platform})",
            extra={"spawner": self._spawner},
        )

    def make(self, kind: str, name: str, context: Context, hook: str | None = None, **over: Any) -> Any:
        """Load one provider and make its instance with its settings; raises `PluginError` or `ConfigError`.

        `over` is what `Config.section` takes of further settings.
        """
        loaded = self.registry.provider(kind, name, hook)
        path = f"{kind}.{name}"
        kept: Any = self.config.section(path, loaded.provider.settings, self._options.get(path), **over)
        self.using(loaded, kept)
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

    def using(self, loaded: Loaded[Any], settings: Any) -> None:
        """Hear of a provider that is about to be made, with its settings: for those who look on."""

    def signalled(self, number: int) -> None:
        """Hear of a signal that this process got: for those who look on."""

    def credential(self, context: Context, *, cancel: CancelToken) -> CredentialSource | None:
        """Return the pilot's credential source, or None where none is configured.

        It is asked once before anything else, so that a bad credential is told first.
        """
        settings = self.settings
        name = settings.credential or ("x509" if settings.cert else "token-file" if settings.token_file else "")
        if not name:
            return None
        source: CredentialSource = self.make("credential", name, context)
        found = source.credential(cancel=cancel, deadline=Deadline.after(self.clock, CREDENTIAL_LIMIT))
        self.redactor.add(source.secrets())
        self._credential = source
        # a token is for the server alone
        self._certificate = source if isinstance(found, ClientCertificate) else None
        return source

    def communicator(self, context: Context, credential: CredentialSource | None) -> Communicator:
        """Make the communicator that the settings name; raises `PluginError` or `ConfigError`."""
        made: Communicator = self.make(
            "communicator", self.settings.communicator, replace(context, credential=credential)
        )
        return made

    def queue(self, context: Context, *, cancel: CancelToken) -> Queue:
        """Ask the queue sources in order; the first that knows the queue counts. Raises `ConfigError`."""
        name, asked = self.settings.queue, []
        deadline = Deadline.after(self.clock, QUEUE_LIMIT)
        for source in self.settings.queue_sources:
            if not self.registry.has("queue-source", source):
                continue
            asked.append(source)
            queue: Queue | None = self.make("queue-source", source, context).queue(
                name, cancel=cancel, deadline=deadline
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

    def executor(self, queue: Queue, context: Context) -> Executor:
        """Make the executor that the queue names; raises `PluginError` or `ConfigError`."""
        made: Executor = self.make("executor", queue.executor, context)
        return made

    def hooks(self) -> Hooks:
        """Return the hooks of the plugins that are imported."""
        return Hooks(self.registry)

    def extensions(self) -> None:
        """Import the extensions; raises `PluginError` for one that is out of order."""
        for record in self.registry.extensions():
            self.registry.load(record)

    def backends(self, queue: Queue, context: Context) -> Backends:
        """Return the stagers for a queue; none of them is made yet. They may use the pilot's X.509 certificate."""

        def make(kind: str, name: str, hook: str) -> Any:
            return self.make(kind, name, replace(context, stagers=made, credential=self._certificate), hook)

        made = Backends(self.registry, queue, make)
        return made

    def catalog(self, queue: Queue, context: Context) -> ReplicaCatalog | None:
        """Make the replica catalogue that the queue names, as it is seen from there; None where it names none.

        It may use the pilot's X.509 certificate, as the storages may. Raises `PluginError` or `ConfigError`.
        """
        if not queue.catalog:
            return None
        made: ReplicaCatalog = self.make("catalog", queue.catalog, replace(context, credential=self._certificate))
        return made.seen_from(queue) if isinstance(made, SeenFromQueue) else made

    def watchdogs(self, queue: Queue, context: Context) -> tuple[NamedWatchdog, ...]:
        """Make the watchdogs of a queue's payloads; raises `PluginError` or `ConfigError`."""
        own = replace(context, credential=self._credential)

        def make(name: str, over: Mapping[str, Any], place: str) -> Any:
            return self.make("watchdog", name, own, over=over, over_place=place)

        return chosen_watchdogs(queue, self.registry, self.config, own, make)

    def services(self, queue: Queue, communicator: Communicator, context: Context) -> Services:
        """Gather what jobs need: executor, extensions and stagers are made before a job is taken."""
        settings = self.settings
        executor = self.executor(queue, context)
        self.extensions()
        backends = self.backends(queue, context)
        backends.load()
        tag = settings.log_url or "unknown"
        return Services(
            queue=queue,
            communicator=communicator,
            executor=executor,
            backends=backends,
            hooks=self.hooks(),
            clock=self.clock,
            redactor=self.redactor,
            work_dir=context.work_dir,
            own_environment=self.environment,
            ca_file=settings.ca_file,
            node=node_name(settings, self.environment),
            pilot_id=f"{tag}|{settings.version_tag}|pilot-core {__version__}",
            batch_id=batch_id(settings, self.environment),
            scheduler_id=settings.scheduler_id,
            report_budget=settings.report_budget,
            last_budget=settings.last_budget,
            keep=settings.keep_job_dirs,
            keep_outputs=settings.keep_outputs_hours * 3600.0,
            catalog=self.catalog(queue, context),
            watchdogs=self.watchdogs(queue, context),
            started=self.started,
            limits=Limits(transfers=settings.transfers, stall=settings.stall_seconds),
            space=Space(settings.min_free_mb * 1024**2),
            progress=self.progress,
        )


def usable_work_dir(settings: PilotSettings) -> Path:
    """Return the work directory, made sure of by writing there; raises `ConfigError` or `NoSpace`."""
    folder = settings.work_dir.absolute()
    if not is_directory(folder):
        what = "is not a directory" if is_there(folder) else "does not exist"
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
