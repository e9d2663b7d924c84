"""The map of the ecosystem: every hook is documented by an example that works, and has one place in the tables."""

from __future__ import annotations

import inspect
import textwrap
import types

import pluggy
import pytest

from pilot_core.api.provider import KINDS, Provider
from pilot_core.hookspecs import EVENT_HOOKS, PROJECT, REGISTRATION_HOOKS, SHAPING_HOOKS, PilotSpecs, hookimpl
from pilot_core.plugins.check import implementations, providers
from pilot_core.plugins.record import Record

SPECS = {name: value for name, value in vars(PilotSpecs).items() if inspect.isfunction(value)}


def example(name):
    """Return the code of a hook's example."""
    text = inspect.getdoc(SPECS[name])
    _, found, code = text.partition("Example::\n")
    assert found, f"{name} has no example"
    return textwrap.dedent(code)


def module_of(name):
    """Execute a hook's example in a fresh module."""
    module = types.ModuleType(f"example_of_{name}")
    exec(compile(example(name), f"<example of {name}>", "exec"), vars(module))
    return module


def test_every_hook_has_exactly_one_sort():
    sorts = [REGISTRATION_HOOKS, SHAPING_HOOKS, EVENT_HOOKS]
    assert sum(map(len, sorts)) == len(REGISTRATION_HOOKS | SHAPING_HOOKS | EVENT_HOOKS)
    assert set(SPECS) == REGISTRATION_HOOKS | SHAPING_HOOKS | EVENT_HOOKS


def test_every_registration_hook_belongs_to_one_kind():
    of_kinds = [hook for hooks in KINDS.values() for hook in hooks]
    assert sorted(of_kinds) == sorted(REGISTRATION_HOOKS)
    assert [kind for kind, hooks in KINDS.items() if not hooks] == ["extension"]


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_hook_says_what_it_is_for_in_one_line(name):
    first, second, *_ = [*inspect.getdoc(SPECS[name]).splitlines(), "", ""]
    assert first.endswith(".")
    assert second == ""
    assert 20 < len(first) < 110


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_hooks_example_is_a_plugin_as_it_stands(name):
    module = module_of(name)
    assert [each for each in SPECS if hasattr(vars(module).get(each), f"{PROJECT}_impl")] == [name]
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(PilotSpecs)
    manager.register(module)
    manager.check_pending()
    (implementation,) = getattr(manager.hook, name).get_hookimpls()
    assert set(implementation.argnames) <= set(inspect.signature(SPECS[name]).parameters) - {"self"}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_hooks_example_passes_the_loaders_own_checks(name):
    module = module_of(name)
    kind = next((kind for kind, hooks in KINDS.items() if name in hooks), "extension")
    offered = [provider.name for provider in getattr(module, name)()] if name in REGISTRATION_HOOKS else ["x"]
    record = Record(
        entry_point=f"{kind}.{offered[0]}", value="m", api=1, distribution="d", version="1", where="", directory=""
    )
    found = implementations(module, record)
    assert [implementation.hook for implementation in found] == [name]
    for provider in providers(found, record).values():
        assert isinstance(provider, Provider)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_an_example_imports_what_is_its_own_only_where_it_is_used(name):
    for line in example(name).splitlines():
        if "my_" in line and "import" in line:
            assert line.startswith("    "), line


def test_hooks_are_called_by_name_and_take_no_defaults():
    for name, function in SPECS.items():
        for parameter in list(inspect.signature(function).parameters.values())[1:]:
            assert parameter.default is parameter.empty, name
            assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD, name
            assert parameter.annotation is not parameter.empty, name


def test_the_marker_is_the_cores_own():
    import pilot_core

    assert pilot_core.hookimpl is hookimpl
