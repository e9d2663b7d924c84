"""What a plugin must be like. All of it is looked at before the plugin manager sees the plugin.

pluggy 1.6 and 1.7 differ in what they do with a faulty plugin: one leaves it half registered, runs its properties, does
not pass arguments with defaults. So that both behave alike, hooks are looked up here without running anything, and
what they would treat differently is refused.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from pilot_core.api.provider import KINDS, Provider
from pilot_core.hookspecs import PROJECT, REGISTRATION_HOOKS, PilotSpecs
from pilot_core.plugins.record import Offer, Record

__all__ = ["OPT_OUTS", "Implementation", "Unfit", "hook_options", "implementations", "opt_outs", "providers"]

OPT_OUTS = "KIT_OPT_OUTS"
"""The attribute in which a plugin says which clauses of its kind's conformance kit it does not keep, and why."""
MARK = f"{PROJECT}_impl"
HOOK_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(function).parameters)[1:]
    for name, function in vars(PilotSpecs).items()
    if name.startswith("pilot_")
}
"""Every hook's arguments."""

TELL = 'tell the authors of {0.distribution}, or block it: [plugins] block = ["{0.entry_point}"]'


class Unfit(Exception):
    """A plugin that cannot be used; the text is the reason."""


class Implementation(NamedTuple):
    """One function of a plugin that implements a hook."""

    hook: str
    function: Callable[..., Any]
    optional: bool
    """The plugin does not mind if this core has no such hook."""


def hook_options(plugin: object, attribute: str) -> dict[str, Any] | None:
    """Return the options of a hook implementation, None if the attribute is not one; runs no code of the plugin."""
    function = _function(plugin, attribute)
    options = getattr(function, MARK, None)
    return options if isinstance(options, dict) else None


def implementations(plugin: object, record: Record) -> list[Implementation]:
    """Return what a plugin implements; raises `Unfit` if any of it is not as it must be."""
    if plugin is None or inspect.isclass(plugin):
        raise Unfit(
            f"{record.value} is {'a class' if plugin else 'None'}; point the entry point to a module or an object"
        )
    found = []
    for attribute in sorted(dir(plugin)):
        options = hook_options(plugin, attribute)
        if options is not None:
            found.append(_implementation(plugin, attribute, options))
        elif MARK in getattr(inspect.getattr_static(plugin, attribute, None), "__dict__", ()):
            raise Unfit(f"{attribute}: @hookimpl must be next to a plain function (below @staticmethod, @classmethod)")
        elif attribute in HOOK_ARGUMENTS and inspect.isfunction(inspect.getattr_static(plugin, attribute)):
            raise Unfit(f"{attribute} has no @hookimpl (from pilot_core import hookimpl)")
    _check_kind(found, record)
    return found


def providers(found: Iterable[Implementation], record: Record) -> dict[str, Provider[Any]]:
    """Call the registration hooks and return the providers by hook; raises `Unfit`, or whatever the plugin raises."""
    offered: dict[str, Provider[Any]] = {}
    for implementation in found:
        if implementation.hook in REGISTRATION_HOOKS:
            for provider in _results(implementation):
                _check_provider(provider, implementation.hook, record)
                if implementation.hook in offered:
                    raise Unfit(f"{implementation.hook} offers {provider.name!r} more than once")
                offered[implementation.hook] = provider
    if KINDS[record.kind] and not offered:
        raise Unfit(f"it offers no provider: {' and '.join(KINDS[record.kind])} yielded nothing")
    return offered


def opt_outs(plugin: object) -> dict[str, str]:
    """Return the clauses of the conformance kit that a plugin does not keep, with its reasons; raises `Unfit`."""
    given = inspect.getattr_static(plugin, OPT_OUTS, {})
    if not isinstance(given, Mapping):
        raise Unfit(f"{OPT_OUTS} must be a mapping of clause to reason, not {_shown(given)}")
    for clause, reason in given.items():
        if not isinstance(clause, str) or not isinstance(reason, str) or not clause.startswith("test_"):
            raise Unfit(f"{OPT_OUTS}: {clause!r}: {_shown(reason)}; write the clause's name (test_...) and a reason")
        if not reason.strip():
            raise Unfit(f"{OPT_OUTS}: {clause} has no reason; say why the plugin does not keep it")
    return dict(given)


def offer(hook: str, provider: Provider[Any]) -> Offer:
    """Return what a provider says of itself, as plain values."""
    return Offer(
        hook=hook,
        name=provider.name,
        schemes=tuple(sorted(provider.schemes)),
        priority=provider.priority,
        capabilities=tuple(sorted(provider.capabilities)),
        requires=provider.requires,
    )


def _function(plugin: object, attribute: str) -> Any:
    """Return the plain function behind an attribute, looked up without running properties; None if it is none."""
    own = {} if isinstance(plugin, types.ModuleType) else getattr(plugin, "__dict__", {})
    value = own.get(attribute) if attribute in own else inspect.getattr_static(plugin, attribute, None)
    if isinstance(value, (staticmethod, classmethod, types.MethodType)):
        value = value.__func__
    return value if inspect.isfunction(value) else None


def _implementation(plugin: object, attribute: str, options: Mapping[str, Any]) -> Implementation:
    """Check one hook implementation."""
    from pilot_core.settings import did_you_mean  # noqa: PLC0415

    hook = options.get("specname") or attribute
    function = getattr(plugin, attribute)
    optional = bool(options.get("optionalhook"))
    if hook not in HOOK_ARGUMENTS:
        if optional:
            return Implementation(hook, function, optional)
        raise Unfit(f"unknown hook {hook!r}{did_you_mean(hook, HOOK_ARGUMENTS)}")
    if options.get("wrapper") or options.get("hookwrapper"):
        raise Unfit(f"{hook}: a wrapper round other plugins' hooks is not possible; implement the hook itself")
    if options.get("tryfirst") or options.get("trylast"):
        raise Unfit(f"{hook}: tryfirst and trylast have no effect; plugins are called in the order of their names")
    _check_signature(hook, function)
    return Implementation(hook, function, optional)


def _check_signature(hook: str, function: Callable[..., Any]) -> None:
    """Raise `Unfit` unless the arguments are plain and known."""
    from pilot_core.settings import did_you_mean  # noqa: PLC0415

    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise Unfit(f"{hook}: argument {name!r} must be a plain one (no *, **, / or keyword-only arguments)")
        if parameter.default is not parameter.empty:
            raise Unfit(f"{hook}: argument {name!r} must not have a default value")
        if name not in HOOK_ARGUMENTS[hook]:
            known = did_you_mean(name, HOOK_ARGUMENTS[hook]) or "; it has none"
            raise Unfit(f"{hook} has no argument {name!r}{known}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise Unfit(f"{hook}: must not be async")
    if hook not in REGISTRATION_HOOKS and inspect.isgeneratorfunction(function):
        raise Unfit(f"{hook}: must not yield; only registration hooks may")


def _check_kind(found: Iterable[Implementation], record: Record) -> None:
    """Raise `Unfit` unless the hooks are those of the entry point's kind."""
    hooks = {implementation.hook for implementation in found}
    own = KINDS[record.kind]
    for hook in sorted(hooks & REGISTRATION_HOOKS):
        if hook not in own:
            right = next(kind for kind, kinds_hooks in KINDS.items() if hook in kinds_hooks)
            raise Unfit(f"implements {hook}, so its entry point must be called {right}.{record.name}")
    if own and not hooks & set(own):
        raise Unfit(f"implements none of its kind's hooks ({', '.join(own)}); is @hookimpl missing?")
    if not hooks & set(HOOK_ARGUMENTS):
        raise Unfit("implements no hook at all; is @hookimpl missing?")


def _results(implementation: Implementation) -> Iterator[Provider[Any]]:
    """Call a registration hook and return its providers one by one."""
    hook = implementation.hook
    answer = implementation.function()
    if isinstance(answer, Provider):
        raise Unfit(f"{hook} returned a Provider; yield it, or return a list of Providers")
    if answer is None or not isinstance(answer, Iterable):
        raise Unfit(f"{hook} returned {_shown(answer)}; yield Providers, or return a list of them")
    for result in answer:
        if not isinstance(result, Provider):
            raise Unfit(f"{hook} gave {_shown(result)}, which is not a Provider")
        yield result


def _check_provider(provider: Provider[Any], hook: str, record: Record) -> None:
    """Raise `Unfit` unless a provider fits its entry point and its settings are described."""
    if provider.name != record.name:
        raise Unfit(f"{hook} offers {provider.name!r}, but the entry point {record.entry_point} says {record.name!r}")
    for scheme in provider.schemes:
        if not scheme.islower() or not scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
            raise Unfit(f"{hook}: {scheme!r} is not a URL scheme like 'https'")
    if record.kind == "stager" and not provider.schemes:
        raise Unfit(f"{hook}: a stager must say which URL schemes it serves")
    options = provider.settings
    if not options.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Unfit(f"{hook}: the settings {options.__name__} must be a frozen dataclass")
    for item in fields(options):
        if not item.metadata.get("help"):
            raise Unfit(f"{hook}: setting {item.name!r} has no help text; declare it with pilot_core.setting")


def _shown(value: object) -> str:
    """Return how a message names a value: its type, and itself where that is short."""
    if value is None or isinstance(value, (str, int, float)):
        return repr(value)
    return f"a {type(value).__name__}"
