"""Which watchdogs watch a queue's payloads, with which settings.

The built-in ones always do; another one does if the configuration has a table for it: `[watchdog.NAME]` for every
queue, or `[queues.Q.watchdogs.NAME]` for one, whose keys win. `enabled = false` in the latter takes a watchdog out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pilot_core.errors import ConfigError
from pilot_core.plugins import Status
from pilot_core.settings import did_you_mean
from pilot_core.watching import NamedWatchdog

if TYPE_CHECKING:
    from pilot_core.api.provider import Context
    from pilot_core.api.queue import Queue
    from pilot_core.api.watchdog import Watchdog
    from pilot_core.plugins import Record, Registry
    from pilot_core.settings import Config

__all__ = ["ENABLED", "chosen_watchdogs"]

ENABLED = "enabled"
"""The key of a queue's table that takes a watchdog out, or in; all others are the watchdog's own settings."""
OURS = "pilot-core"
"""The distribution whose watchdogs watch without being asked to."""


def chosen_watchdogs(
    queue: Queue,
    registry: Registry,
    config: Config,
    context: Context,
    make: Callable[[str, Mapping[str, Any], str], Any],
) -> tuple[NamedWatchdog, ...]:
    """Return the watchdogs of a queue; `make` is given name, the queue's own settings, and how messages call its place.

    What the configuration speaks of is made now. Raises `ConfigError` for settings that make no sense, `PluginError`
    for a watchdog that is wanted and broken. Built-in ones with their defaults are made once a payload runs for long.
    """
    installed = {record.name: record for record in registry.records if record.kind == "watchdog"}
    place = f"{queue.source or f'queue {queue.name}'}.watchdogs"
    for name in queue.watchdogs:
        if name not in installed:
            raise ConfigError(f"{place}.{name}: no such watchdog is installed{did_you_mean(name, installed)}")
    found = []
    for name, record in sorted(installed.items()):
        own = dict(queue.watchdogs.get(name, {}))
        if not own.pop(ENABLED, True):
            continue
        if name in queue.watchdogs or name in config.names("watchdog"):
            dog: Watchdog = make(name, own, f"{place}.{name}")
            found.append(NamedWatchdog(name, record.label, dog=dog))
        elif record.distribution == OURS and record.status in {Status.FOUND, Status.OK}:
            found.append(NamedWatchdog(name, record.label, make=partial(_built_in, record, context)))
    return tuple(found)


def _built_in(record: Record, context: Context) -> Watchdog:
    """Make a watchdog of the core's own, without the care that is taken with plugins, which takes 2 ms each."""
    module, _, name = record.value.partition(":")
    (provider,) = getattr(import_module(module), name).pilot_watchdogs()
    made: Watchdog = provider.factory(provider.settings(), context)
    return made
