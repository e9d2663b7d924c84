"""What a plugin offers is checked when it is offered."""

from __future__ import annotations

import logging
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import KINDS, Context, NoSettings, Provider, hookspecs, setting
from pilot_core.testing.clock import FakeClock


def factory(settings, context):
    return settings, context


@dataclass(frozen=True)
class Settings:
    timeout: float = setting(60.0, help="seconds")


def test_a_provider_with_a_name_and_a_factory_is_enough():
    made = Provider(name="http", factory=factory)
    assert (made.settings, made.priority) == (NoSettings, 50)
    assert made.schemes == made.capabilities == frozenset()
    assert made.requires == ()


def test_everything_can_be_said():
    made = Provider(
        name="http-2",
        factory=factory,
        settings=Settings,
        schemes=frozenset({"http", "https"}),
        priority=-3,
        capabilities=frozenset({"checksum:adler32"}),
        requires=("bin:curl",),
    )
    assert made.factory(made.settings(), None) == (Settings(60.0), None)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"name": ""}, ValueError, "provider name ''"),
        ({"name": "HTTP"}, ValueError, "use lower-case letters, digits and dashes, letter first"),
        ({"name": "-x"}, ValueError, "provider name '-x'"),
        ({"name": "1x"}, ValueError, "provider name '1x'"),
        ({"name": "a b"}, ValueError, "provider name 'a b'"),
        ({"name": "a.b"}, ValueError, "provider name 'a.b'"),
        ({"name": "a\n"}, ValueError, r"provider name 'a\\n'"),
        ({"name": None}, ValueError, "provider name None"),
        ({"factory": "x"}, TypeError, "provider 'http': factory is not callable: 'x'"),
        ({"settings": dict}, TypeError, "provider 'http': settings must be a dataclass"),
        ({"settings": Settings()}, TypeError, "provider 'http': settings must be a dataclass"),
        ({"schemes": "http"}, TypeError, "provider 'http': schemes must be a frozenset of strings, got 'http'"),
        ({"schemes": {"http"}}, TypeError, "schemes must be a frozenset"),
        ({"schemes": frozenset({1})}, TypeError, "schemes must be a frozenset of strings"),
        ({"capabilities": ["x"]}, TypeError, "capabilities must be a frozenset"),
        ({"requires": "bin:x"}, TypeError, "requires must be a tuple of strings"),
        ({"requires": (1,)}, TypeError, "requires must be a tuple of strings"),
        ({"priority": "1"}, TypeError, "priority must be an int, got '1'"),
        ({"priority": 1.5}, TypeError, "priority must be an int, got 1.5"),
        ({"priority": True}, TypeError, "priority must be an int, got True"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(values, error, message):
    with pytest.raises(error, match=message):
        Provider(**{"name": "http", "factory": factory, **values})


ANYTHING = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)


@given(
    st.sampled_from(["name", "factory", "settings", "schemes", "priority", "capabilities", "requires"]),
    ANYTHING,
)
def test_no_value_is_any_other_error(what, value):
    try:
        made = Provider(**{"name": "http", "factory": factory, what: value})
    except (TypeError, ValueError) as error:
        assert type(error) in {TypeError, ValueError}  # noqa: PT017  (either is right)
    else:
        assert getattr(made, what) == value


def test_a_provider_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Provider(name="http", factory=factory).name = "other"


def test_every_kind_names_hooks_that_exist():
    """And every registration hook belongs to one kind."""
    named = [hook for hooks in KINDS.values() for hook in hooks]
    assert len(named) == len(set(named))
    assert not [hook for hook in named if not hasattr(hookspecs.PilotSpecs, hook)]


def test_a_context_is_made_in_two_lines(tmp_path):
    made = Context(clock=FakeClock(), log=logging.getLogger("x"), work_dir=tmp_path)
    assert (made.server_url, made.ca_file, made.proxy, made.credential, made.extra) == ("", None, "", None, {})
    assert isinstance(made.work_dir, Path)


# -- setting -----------------------------------------------------------------------------------------------------------


def test_a_setting_needs_a_help_text():
    with pytest.raises(ValueError, match="a setting needs a help text"):
        setting(1, help="")


@pytest.mark.parametrize("default", [[], {}, set()])
def test_a_setting_has_an_immutable_default(default):
    with pytest.raises(TypeError, match="use an immutable default"):
        setting(default, help="x")


def test_a_secret_setting_is_not_in_the_repr():
    @dataclass(frozen=True)
    class Secret:
        token: str = setting("", help="x", secret=True)
        plain: str = setting("", help="x")

    assert repr(Secret("canary", "seen")).endswith("Secret(plain='seen')")
