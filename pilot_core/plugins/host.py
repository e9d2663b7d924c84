"""Importing one plugin and keeping it: the only place that runs plugins' code at import, and that knows pluggy."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from pilot_core.hookspecs import PROJECT, PilotSpecs
from pilot_core.plugins.check import TELL, Unfit, hook_options, implementations, offer, opt_outs, providers
from pilot_core.plugins.guard import OutOfTime
from pilot_core.plugins.record import Record, Status, one_line

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.provider import Provider

__all__ = ["Admitted", "Host", "Listener"]

logger = logging.getLogger(__name__)


class _Manager(pluggy.PluginManager):
    """A plugin manager that finds hooks without running the plugin's properties, whatever pluggy's version."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """Return the options of a hook implementation, or None."""
        return hook_options(plugin, name)


class Listener(NamedTuple):
    """One implementation of a shaping or event hook."""

    label: str
    """How messages name its plugin."""
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    """The hook's arguments that it wants."""

    def call(self, given: Mapping[str, Any]) -> Any:
        """Call it with those of the hook's arguments that it wants."""
        return self.function(**{name: given[name] for name in self.arguments})


class Admitted(NamedTuple):
    """What an attempt to import a plugin came to: a record that is `ok` or `error`, and the providers if it is `ok`."""

    record: Record
    providers: dict[str, Provider[Any]]


class Host:
    """Holds the plugins that were imported."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._manager = _Manager(PROJECT)
        self._manager.add_hookspecs(PilotSpecs)
        self._labels: dict[str, str] = {}

    def admit(self, record: Record) -> Admitted:
        """Import a plugin and check all that it offers. Whatever it does wrong ends up in the record.

        Only KeyboardInterrupt and `OutOfTime` pass; nothing of the plugin stays registered then either.
        """
        started = self._clock.monotonic()
        try:
            admitted = self._admit(record)
        except BaseException as error:  # a plugin may raise anything at import, SystemExit for one
            self._forget(record)
            if isinstance(error, (KeyboardInterrupt, OutOfTime)):
                raise
            reason, step = _explain(error, record)
            logger.debug("plugin %s cannot be used: %s", record.label, reason, exc_info=error)
            admitted = Admitted(replace(record, status=Status.ERROR, reason=reason, next_step=step), {})
        milliseconds = round((self._clock.monotonic() - started) * 1000, 3)
        return admitted._replace(record=replace(admitted.record, import_ms=milliseconds))

    def listeners(self, hook: str) -> list[Listener]:
        """Return every implementation of a hook, in the order of the plugins' names."""
        found = getattr(self._manager.hook, hook).get_hookimpls()
        ordered = sorted(found, key=lambda implementation: str(implementation.plugin_name))
        return [Listener(self._labels[item.plugin_name], item.function, tuple(item.argnames)) for item in ordered]

    def _admit(self, record: Record) -> Admitted:
        plugin = _load(record)
        found = implementations(plugin, record)
        offered = providers(found, record)
        kept_out = tuple(f"{clause}: {one_line(reason)}" for clause, reason in sorted(opt_outs(plugin).items()))
        for name, known in self._manager.list_name_plugin():
            if known is plugin:
                raise Unfit(f"{record.value} is the plugin {name} already; one object serves one entry point")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self._manager.register(plugin, name=record.entry_point)
        self._labels[record.entry_point] = record.label
        hooks = sorted({implementation.hook for implementation in found})
        offers = tuple(offer(hook, provider) for hook, provider in sorted(offered.items()))
        told = tuple(one_line(str(warning.message)) for warning in said)
        done = replace(record, status=Status.OK, hooks=tuple(hooks), offers=offers, warnings=told, opt_outs=kept_out)
        return Admitted(done, offered)

    def _forget(self, record: Record) -> None:
        """Take out what a failed registration may have left (pluggy before 1.7)."""
        if self._manager.get_plugin(record.entry_point) is not None:
            self._manager.unregister(name=record.entry_point)


def _load(record: Record) -> Any:
    """Import what the entry point points to, and nothing else."""
    module, _, attributes = (part.strip() for part in record.value.partition(":"))
    ours = module.split(".")[0] == PROJECT
    if not ours and record.directory not in sys.path:
        # a directory that the site names; at the end, so that it can replace nothing
        sys.path.append(record.directory)
    return reduce(getattr, attributes.split(".") if attributes else (), importlib.import_module(module))


def _explain(error: BaseException, record: Record) -> tuple[str, str]:
    """Return reason and next step for what a plugin raised."""
    tell = TELL.format(record)
    if isinstance(error, Unfit):
        return one_line(str(error)), tell
    if isinstance(error, SystemExit):
        return one_line(f"its import called sys.exit({_text(error)})"), tell
    reason = one_line(f"{type(error).__name__}: {_text(error)}".rstrip(": ") + _place(error))
    if isinstance(error, ModuleNotFoundError) and error.name:
        own = record.value.split(":")[0].split(".")[0]
        if error.name.split(".")[0] == own:
            return reason, f"install {record.distribution} again: {error.name} is missing from it"
        return reason, f"install the Python module {error.name} for {sys.executable}, or {tell.partition(', or ')[2]}"
    return reason, tell


def _place(error: BaseException) -> str:
    """Return ` (file:line)` of where an exception was raised in the plugin, if that is known and not in its text."""
    import traceback  # noqa: PLC0415

    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    if isinstance(error, (SyntaxError, ImportError)) or not own:
        return ""
    return f" ({own[-1].filename}:{own[-1].lineno})"


def _text(error: BaseException) -> str:
    """Return an exception's text, even if making it fails."""
    try:
        return str(error)
    except Exception as inner:  # noqa: BLE001  (an exception's own __str__ may raise anything)
        return f"(its text cannot be shown: {type(inner).__name__})"
