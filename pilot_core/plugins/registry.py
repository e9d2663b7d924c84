"""The plugins of one pilot: found by metadata, imported one by one when they are needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

from pilot_core.api.clock import SystemClock
from pilot_core.api.provider import KINDS
from pilot_core.errors import PluginError
from pilot_core.plugins.discovery import block_hint, discover
from pilot_core.plugins.loaded import Loaded
from pilot_core.plugins.record import Record, Status
from pilot_core.plugins.settings import PluginSettings

if TYPE_CHECKING:
    from pilot_core.api.catalog import ReplicaCatalog
    from pilot_core.api.clock import Clock
    from pilot_core.api.communicator import Communicator
    from pilot_core.api.credential import CredentialSource
    from pilot_core.api.executor import Executor
    from pilot_core.api.launcher import Launcher
    from pilot_core.api.queue import QueueSource
    from pilot_core.api.server import ServerProtocol
    from pilot_core.api.staging import StageIn, StageOut
    from pilot_core.api.watchdog import Watchdog
    from pilot_core.plugins.host import Admitted, Host, Listener

__all__ = ["Registry"]

logger = logging.getLogger(__name__)


class Registry:
    """Every plugin's record, and the plugins that were imported. Its methods may be called from several threads.

    A directory that `[plugins] paths` names is appended to `sys.path` when the first plugin in it is imported.
    """

    def __init__(
        self, records: Iterable[Record], settings: PluginSettings | None = None, clock: Clock | None = None
    ) -> None:
        self._settings = settings or PluginSettings()
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._records = list(records)
        self._admitted: dict[str, Admitted] = {}
        self._warned: set[str] = set()
        self._host: Host | None = None

    @classmethod
    def discover(cls, settings: PluginSettings | None = None, clock: Clock | None = None) -> Registry:
        """Find every plugin by its metadata; nothing is imported. Raises `ConfigError` for wrong settings."""
        settings = settings or PluginSettings()
        found = discover(settings)
        for note in found.notes:
            logger.warning("%s", note)
        return cls(found.records, settings, clock)

    @property
    def records(self) -> tuple[Record, ...]:
        """Every plugin, also those that cannot be used, sorted by entry point and distribution."""
        return tuple(self._records)

    def has(self, kind: str, name: str) -> bool:
        """Say whether a plugin of that name is installed for this core and not blocked; it may still be broken."""
        return any(record.status in _INSTALLED for record in self._named(f"{kind}.{name}"))

    def extensions(self) -> tuple[Record, ...]:
        """Return the extensions, which every pilot imports; without those that the site blocks."""
        return tuple(record for record in self._records if record.kind == "extension" and record.status in _INSTALLED)

    # one overload a kind: who asks for a communicator gets a `Loaded[Communicator]`
    @overload
    def provider(self, kind: Literal["queue-source"], name: str, hook: str | None = None) -> Loaded[QueueSource]: ...
    @overload
    def provider(self, kind: Literal["communicator"], name: str, hook: str | None = None) -> Loaded[Communicator]: ...
    @overload
    def provider(self, kind: Literal["catalog"], name: str, hook: str | None = None) -> Loaded[ReplicaCatalog]: ...
    @overload
    def provider(self, kind: Literal["stager"], name: str, hook: Literal["pilot_stagein"]) -> Loaded[StageIn]: ...
    @overload
    def provider(self, kind: Literal["stager"], name: str, hook: Literal["pilot_stageout"]) -> Loaded[StageOut]: ...
    @overload
    def provider(self, kind: Literal["executor"], name: str, hook: str | None = None) -> Loaded[Executor]: ...
    @overload
    def provider(self, kind: Literal["watchdog"], name: str, hook: str | None = None) -> Loaded[Watchdog]: ...
    @overload
    def provider(self, kind: Literal["credential"], name: str, hook: str | None = None) -> Loaded[CredentialSource]: ...
    @overload
    def provider(self, kind: Literal["launcher"], name: str, hook: str | None = None) -> Loaded[Launcher]: ...
    @overload
    def provider(
        self, kind: Literal["server-protocol"], name: str, hook: str | None = None
    ) -> Loaded[ServerProtocol]: ...
    @overload
    def provider(self, kind: str, name: str, hook: str | None = None) -> Loaded[Any]: ...

    def provider(self, kind: str, name: str, hook: str | None = None) -> Loaded[Any]:
        """Import one plugin, and no other, and return what it offers for a hook.

        `hook` may be left out where the kind has one only. Raises `PluginError` if there is no such plugin, if it is
        not in order, or if it does not offer that.
        """
        hooks = KINDS[kind]
        if hook is None:
            if len(hooks) != 1:
                raise ValueError(f"kind {kind!r} has the hooks {hooks}: say which")
            hook = hooks[0]
        record = self.load(self._find(kind, name))
        loaded = self._loaded(record, hook)
        if loaded is None:
            raise PluginError(f"plugin {record.label} offers no {_task(hook)}; use another {kind}, or ask its authors")
        return loaded

    def providers(self, hook: str, names: Iterable[str] | None = None) -> tuple[Loaded[Any], ...]:
        """Return what plugins offer for a hook: those named, or all of that hook's kind.

        A named one that is missing or broken raises `PluginError`. Where all are asked for, what is not in order is
        left out with a line in the log, but for an import that takes too long.
        """
        kind = next((kind for kind, hooks in KINDS.items() if hook in hooks), None)
        if kind is None:
            raise ValueError(f"{hook!r} is not a registration hook")
        if names is not None:
            records = [self.load(self._find(kind, name)) for name in dict.fromkeys(names)]
        else:
            installed = [r for r in self._records if r.kind == kind and r.status in _INSTALLED]
            records = self._usable(installed)
        return self._loaded_all(records, hook)

    def stagers(self, hook: str, scheme: str, named: Iterable[str] = ()) -> tuple[Loaded[Any], ...]:
        """Return the stagers that serve a URL scheme, importing as few as that takes.

        Those that the queue names (`named`) are imported, and one that is called like the scheme (`stager.file` for
        `file:`). If none of these serves the scheme, all stagers are imported: only they themselves know what they
        serve. What is missing or broken is left out with a line in the log, but for an import that takes too long.
        """
        wanted = []
        for name in dict.fromkeys((*named, scheme)):
            records = [record for record in self._named(f"stager.{name}") if record.status in _INSTALLED]
            wanted += records
            if not records and name != scheme:
                self._warn(f"the queue names a stager that cannot be used: {self._missing('stager', name)}")
        chosen = self._loaded_all(self._usable(wanted), hook)
        if not any(scheme in loaded.schemes for loaded in chosen):
            chosen = self.providers(hook)
        serving = (loaded for loaded in chosen if scheme in loaded.schemes)
        return tuple(sorted(serving, key=lambda loaded: loaded.name))

    def load(self, record: Record) -> Record:
        """Import a plugin if that was not done yet, and return its record as it is now.

        Raises `PluginError`, in one line with plugin, distribution and version, if it is not in order, or if its
        import takes longer than `[plugins] import_timeout`.
        """
        with self._lock:
            record = self._current(record)
            if record.status is Status.FOUND:
                record = self._import(record)
        if record.status is not Status.OK:
            raise PluginError(f"plugin {record.label}: {record.reason}; {record.next_step}")
        return record

    def probe(self, record: Record) -> Record:
        """Import a plugin without a budget and return its record, whatever came of it; for a process of its own."""
        with self._lock:
            return self._keep(self._open_host().admit(record))

    def listeners(self, hook: str) -> list[Listener]:
        """Return the imported plugins' implementations of a shaping or event hook, in the order of their names."""
        return [] if self._host is None else self._host.listeners(hook)

    def _import(self, record: Record) -> Record:
        """Import a plugin within its budget and keep what came of it."""
        from pilot_core.plugins.guard import OutOfTime, import_budget, prints_to_stderr  # noqa: PLC0415

        seconds = self._settings.import_timeout
        reason = f"its import took longer than {seconds:g} s ([plugins] import_timeout)"
        step = f"repair it, give it more time, or {block_hint(record.entry_point)}"
        message = f"plugin {record.label}: {reason}; {step}"
        host = self._open_host()
        try:
            with prints_to_stderr(), import_budget(seconds, message, self._clock):
                admitted = host.admit(record)
        except OutOfTime:
            self._replace(replace(record, status=Status.ERROR, reason=reason, next_step=step))
            raise _TookTooLong(message) from None
        logger.debug(
            "plugin %s imported in %.1f ms: %s", record.label, admitted.record.import_ms, admitted.record.status
        )
        return self._keep(admitted)

    def _open_host(self) -> Host:
        if self._host is None:
            from pilot_core.plugins.host import Host  # noqa: PLC0415  (pluggy takes 18 ms: not for a mere list)

            self._host = Host(self._clock)
        return self._host

    def _keep(self, admitted: Admitted) -> Record:
        self._admitted[admitted.record.entry_point] = admitted
        self._replace(admitted.record)
        return admitted.record

    def _replace(self, record: Record) -> None:
        self._records = [record if known.order() == record.order() else known for known in self._records]

    def _current(self, record: Record) -> Record:
        return next((known for known in self._records if known.order() == record.order()), record)

    def _named(self, entry_point: str) -> list[Record]:
        return [record for record in self._records if record.entry_point == entry_point]

    def _usable(self, records: Iterable[Record]) -> list[Record]:
        """Import plugins and return those in order; the others are logged, but for one out of time."""
        usable = []
        for record in records:
            try:
                usable.append(self.load(record))
            except _TookTooLong:
                raise
            except PluginError as error:
                self._warn(str(error))
        return usable

    def _warn(self, text: str) -> None:
        """Log a warning, once: the same question is asked for every file."""
        if text not in self._warned:
            self._warned.add(text)
            logger.warning("%s", text)

    def _loaded_all(self, records: Iterable[Record], hook: str) -> tuple[Loaded[Any], ...]:
        found = (self._loaded(record, hook) for record in records)
        return tuple(loaded for loaded in found if loaded is not None)

    def _loaded(self, record: Record, hook: str) -> Loaded[Any] | None:
        provider = self._admitted[record.entry_point].providers.get(hook)
        return None if provider is None else Loaded(hook, provider, record)

    def _find(self, kind: str, name: str) -> Record:
        """Return the record of a plugin that is asked for by name; raises `PluginError`."""
        records = self._named(f"{kind}.{name}")
        if not records:
            raise PluginError(self._missing(kind, name))
        # the one in use, if there is one; else any of them says why there is none
        return min(records, key=lambda record: (record.status not in {Status.OK, Status.FOUND}, record.order()))

    def _missing(self, kind: str, name: str) -> str:
        from pilot_core.settings import did_you_mean  # noqa: PLC0415

        known = [record.name for record in self._records if record.kind == kind and record.status in _INSTALLED]
        return (
            f"no {kind} {name!r} is installed{did_you_mean(name, known)}; install pilot-{kind}-{name}, "
            "or see 'pilot-core list-plugins'"
        )


class _TookTooLong(PluginError):
    """The import of a plugin was given up; never to be passed over, whichever plugin it was."""


_INSTALLED = frozenset({Status.FOUND, Status.OK, Status.ERROR})


def _task(hook: str) -> str:
    """Return what a message calls a registration hook's task."""
    return {"pilot_stagein": "stage-in", "pilot_stageout": "stage-out"}.get(hook, hook)
