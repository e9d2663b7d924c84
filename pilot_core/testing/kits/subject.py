"""What a kit tests: one plugin, loaded as the pilot loads it, or a module or object that is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilot_core.api.provider import KINDS, Provider
from pilot_core.errors import PluginError
from pilot_core.hookspecs import REGISTRATION_HOOKS
from pilot_core.plugins import Registry
from pilot_core.plugins.check import Implementation, Unfit, hook_options, implementations, opt_outs, providers
from pilot_core.plugins.record import Record

__all__ = ["Subject", "subject_of"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One plugin under test."""

    kind: str
    name: str
    plugin: object
    """The module or object that the entry point names."""
    installed: bool
    """Whether it was found by its entry point, as a pilot finds it."""
    implementations: tuple[Implementation, ...]
    providers: Mapping[str, Provider[Any]]
    """By registration hook; empty for an extension."""
    opt_outs: Mapping[str, str]
    """Clause -> reason."""

    @property
    def entry_point(self) -> str:
        """`<kind>.<name>`."""
        return f"{self.kind}.{self.name}"

    @property
    def module(self) -> str:
        """The module that an import of the plugin imports."""
        plugin: Any = self.plugin
        return str(getattr(plugin, "__name__", "") or type(plugin).__module__)


def subject_of(plugin: object, kind: str) -> Subject:
    """Load a plugin: `"stager.tape"` by its installed entry point, anything else as the plugin itself.

    Raises `PluginError`, in one line, if there is no such plugin, or if the pilot would not take it.
    """
    if isinstance(plugin, str):
        return _installed(plugin, kind)
    name = _name(plugin, kind)
    record = Record(
        entry_point=f"{kind}.{name}",
        value=str(getattr(plugin, "__name__", type(plugin).__name__)),
        api=1,
        distribution="(not installed)",
        version="",
        where="",
        directory="",
    )
    return _subject(plugin, record, installed=False)


def _installed(entry_point: str, kind: str) -> Subject:
    """Load a plugin by its entry point, as the pilot does."""
    if entry_point.partition(".")[0] != kind:
        raise PluginError(f"{entry_point!r} is no entry point of kind {kind}: write it as '{kind}.NAME'")
    registry = Registry.discover()
    records = [record for record in registry.records if record.entry_point == entry_point]
    if not records:
        known = ", ".join(record.entry_point for record in registry.records if record.kind == kind) or "none"
        raise PluginError(
            f"no plugin {entry_point} is installed for this Python (installed of this kind: {known}); "
            "install your project: pip install -e ."
        )
    record = registry.load(records[0])
    module, _, attributes = (part.strip() for part in record.value.partition(":"))
    import importlib  # noqa: PLC0415

    plugin: Any = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        plugin = getattr(plugin, attribute)
    return _subject(plugin, record, installed=True)


def _subject(plugin: object, record: Record, *, installed: bool) -> Subject:
    try:
        found = implementations(plugin, record)
        offered = providers(found, record)
        kept_out = opt_outs(plugin)
    except Unfit as error:
        raise PluginError(f"plugin {record.label}: {error}") from error
    return Subject(
        kind=record.kind,
        name=record.name,
        plugin=plugin,
        installed=installed,
        implementations=tuple(found),
        providers=offered,
        opt_outs=kept_out,
    )


def _name(plugin: object, kind: str) -> str:
    """Return the name that a plugin's own providers have; an extension is called by its module."""
    for attribute in dir(plugin):
        options = hook_options(plugin, attribute)
        if options is None or (options.get("specname") or attribute) not in REGISTRATION_HOOKS & set(KINDS[kind]):
            continue
        for provider in getattr(plugin, attribute)():
            if isinstance(provider, Provider):
                return provider.name
    return "under-test"
