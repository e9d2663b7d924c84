"""What the conformance kits of all kinds share: fixtures, the clauses that every plugin has to keep, opt-outs.

A kit is a class of tests, its *clauses*. An author's test file subclasses it and overrides a few fixtures::

    from pilot_core.testing import StagerKit

    class TestTape(StagerKit):
        @pytest.fixture
        def plugin(self):
            return "stager.tape"

A plugin that cannot keep a clause says so itself, with a reason, in `KIT_OPT_OUTS = {"test_...": "why"}` beside its
hooks; the clause is then left out, and named with its reason at the end of the run and by `list-plugins --check`.
"""

from __future__ import annotations

import locale
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import SystemClock
from pilot_core.api.provider import KINDS, Context, Provider
from pilot_core.errors import PluginError
from pilot_core.testing import plugin as reporting
from pilot_core.testing.kits.canary import CanaryCredential, shows_secret
from pilot_core.testing.kits.imports import import_of
from pilot_core.testing.kits.subject import Subject, subject_of
from pilot_core.testing.outcomes import DOES_NOT_APPLY, OPTED_OUT
from pilot_core.testing.plugin import PROPERTY

__all__ = ["Kit", "Surroundings"]

IMPORT_LIMIT = 0.5
"""Seconds of CPU that the import of a plugin may take; heavy libraries belong into its factory."""
_SUBJECTS = pytest.StashKey[dict[tuple[str, str], Subject]]()
SECRET_WORDS = ("password", "passwd", "secret", "token", "api_key", "access_key", "passphrase")


class Surroundings:
    """What of this process no plugin may change."""

    def __init__(self) -> None:
        mask = os.umask(0o77)
        os.umask(mask)
        self.state: Mapping[str, object] = {
            "the environment": dict(os.environ),
            "the working directory": os.getcwd(),  # noqa: PTH109  (a text)
            "the umask": mask,
            "the handlers of signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
            "the default timeout of sockets": socket.getdefaulttimeout(),
            "the locale": locale.setlocale(locale.LC_ALL),
            "the root logger's handlers": [h for h in logging.getLogger().handlers if not _of_pytest(h)],
        }

    def changed(self) -> list[str]:
        """Return what is no longer as it was."""
        now = Surroundings().state
        own = {"PYTEST_CURRENT_TEST"}
        return [what for what, was in self.state.items() if _without(was, own) != _without(now[what], own)]


def _of_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("_pytest")


def _without(value: object, names: set[str]) -> object:
    return {k: v for k, v in value.items() if k not in names} if isinstance(value, dict) else value


class Kit:
    """The kit of one kind. Subclasses of its subclasses are authors' tests."""

    kind: ClassVar[str] = ""
    """The kind of plugin that it is for."""
    capabilities: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Capability that a provider may claim -> the clauses that test it; `NAME:*` stands for any that begins so."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse what would make pytest pass over an author's tests without a word."""
        super().__init_subclass__(**options)
        if cls.__module__.startswith("pilot_core.testing.kits."):
            return
        if not cls.__name__.startswith("Test"):
            raise TypeError(f"{cls.__name__}: pytest runs classes named Test...; rename it to Test{cls.__name__}")
        if "__init__" in vars(cls) or vars(cls).get("__test__") is False:
            raise TypeError(f"{cls.__name__}: without __init__ and __test__, please: pytest would pass the class over")
        kept = {name for base in cls.__mro__[1:] for name in vars(base) if name.startswith("test_")}
        for name in sorted(kept & set(vars(cls))):
            raise TypeError(
                f"{cls.__name__}.{name} replaces a clause of the kit; a plugin that cannot keep one says so itself: "
                f'KIT_OPT_OUTS = {{"{name}": "why"}}'
            )

    # -- fixtures that authors override --------------------------------------------------------------------------

    @pytest.fixture
    def plugin(self) -> object:
        """The plugin: the name of its entry point, `"kind.name"`, or the module that has its hooks."""
        return self.missing("plugin", f'return the entry point of your plugin: "{self.kind}.NAME"')

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """The plugin's settings, by name, as a test wants them. None by itself: the defaults."""
        return {}

    @classmethod
    def missing(cls, fixture: str, what: str) -> Any:
        """Fail a test whose author left out a fixture."""
        pytest.fail(f"override the fixture `{fixture}` in {cls.__name__}: {what}", pytrace=False)

    # -- what clauses use ----------------------------------------------------------------------------------------

    @pytest.fixture
    def subject(self, plugin: object, request: pytest.FixtureRequest) -> Subject:
        """The plugin as the pilot would have it; an installed one is looked for once a run."""
        known = request.config.stash.setdefault(_SUBJECTS, {})
        if isinstance(plugin, str) and (plugin, self.kind) in known:
            return known[plugin, self.kind]
        try:
            found = subject_of(plugin, self.kind)
        except PluginError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        if isinstance(plugin, str):
            known[plugin, self.kind] = found
        return found

    @pytest.fixture
    def clock(self) -> SystemClock:
        """The clock that the plugin is given."""
        return SystemClock()

    @pytest.fixture
    def context(self, tmp_path: Path, clock: SystemClock, subject: Subject) -> Context:
        """The context that the plugin is given; its credential is a canary."""
        work = tmp_path / "work"
        work.mkdir()
        return Context(
            clock=clock,
            log=logging.getLogger(f"pilot_core.{subject.entry_point}"),
            work_dir=work,
            credential=CanaryCredential(),
        )

    @pytest.fixture
    def cancel(self) -> CancelToken:
        """A token that nobody has cancelled."""
        return CancelToken()

    @pytest.fixture
    def deadline(self, clock: SystemClock) -> Deadline:
        """A deadline that is a minute away."""
        return Deadline.after(clock, 60.0)

    @staticmethod
    def made(provider: Provider[Any], settings: Mapping[str, Any], context: Context) -> Any:
        """Make a provider's instance with these settings."""
        return provider.factory(provider.settings(**settings), context)

    @staticmethod
    def does_not_apply(reason: str) -> NoReturn:
        """Leave a clause out for which this plugin has nothing to test."""
        pytest.skip(f"{DOES_NOT_APPLY}{reason}")

    @pytest.fixture(autouse=True)
    def _clause(
        self, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> Iterator[None]:
        """Leave out what the plugin opts out of; see that it changes, prints and tells nothing."""
        self._report(request)
        subject: Subject = request.getfixturevalue("subject")
        clause = request.function.__name__
        if clause in subject.opt_outs:
            pytest.skip(f"{OPTED_OUT}{subject.opt_outs[clause]}")
        caplog.set_level(logging.DEBUG)
        before = Surroundings()
        capfd.readouterr()
        yield
        printed, told = capfd.readouterr()
        sys.stdout.write(printed)  # for who reads the report of a failure
        sys.stderr.write(told)
        assert not shows_secret(printed + told), "the plugin wrote a secret (password, token) to stdout or stderr"
        assert not printed, f"{printed[:80]!r} was printed: the pilot's standard output is for results; use logging"
        changed = before.changed()
        assert not changed, f"the plugin changed {', '.join(changed)} of the pilot's process"
        records = [*caplog.get_records("setup"), *caplog.get_records("call")]
        texts = [record.getMessage() + str(record.exc_text or "") for record in records]
        assert not any(map(shows_secret, texts)), "the plugin logged a secret (password, token)"

    def _report(self, request: pytest.FixtureRequest) -> None:
        """Make the clause known to those who report, also where the author's configuration does not name them."""
        if not request.config.pluginmanager.is_registered(reporting):
            request.config.pluginmanager.register(reporting, reporting.__name__)
        text = " ".join((request.function.__doc__ or "").split("\n\n")[0].split())
        told = {"kit": self.kind, "plugin": f"{self.kind}.?", "text": text}
        request.node.user_properties.append((PROPERTY, told))
        named: object = request.getfixturevalue("plugin")
        told["plugin"] = (
            named if isinstance(named, str) else f"{self.kind}: {getattr(named, '__name__', type(named).__name__)}"
        )

    # -- clauses of every kind -----------------------------------------------------------------------------------

    def test_it_is_taken_by_the_pilot(self, subject: Subject) -> None:
        """Its hooks, providers and settings are in order: the pilot would take it."""
        assert subject.providers or not KINDS[self.kind], f"it offers nothing for {' or '.join(KINDS[self.kind])}"

    def test_its_import_is_quick_and_does_nothing(self, subject: Subject, tmp_path: Path) -> None:
        """Importing it takes less than half a second of CPU, and does nothing but define things."""
        reports = [import_of(subject.module, tmp_path)]
        if reports[0].seconds > IMPORT_LIMIT:  # a machine that is busy just now is no fault of the plugin's
            reports += [import_of(subject.module, tmp_path), import_of(subject.module, tmp_path)]
        best = min(reports, key=lambda report: report.seconds)
        assert not best.error, f"it cannot be imported in a fresh process: {best.error}"
        assert not best.did, f"its import {' and '.join(best.did)}; that belongs into the factory"
        assert best.seconds <= IMPORT_LIMIT, f"its import takes {best.seconds:.2f} s; import libraries in the factory"

    def test_its_settings_keep_secrets(self, subject: Subject) -> None:
        """A setting that sounds like a secret is declared as one, and no secret shows in a repr."""
        for hook, provider in subject.providers.items():
            for item in fields(provider.settings):
                sounds = any(word in item.name for word in SECRET_WORDS) and item.type in {"str", str}
                secret = bool(item.metadata.get("secret"))
                assert secret or not sounds, f"{hook}: setting {item.name!r} sounds like a secret: setting(secret=True)"
                assert not (secret and item.repr), f"{hook}: setting {item.name!r} is secret and shows in the repr"

    def test_its_capabilities_are_known_to_the_kit(self, subject: Subject) -> None:
        """What it claims to be able to do is claimed by a name that the kit has clauses for: claimed is tested."""
        for hook, provider in subject.providers.items():
            for capability in provider.capabilities:
                family = f"{capability.partition(':')[0]}:*"
                clauses = self.capabilities.get(capability) or self.capabilities.get(family)
                known, kit = ", ".join(sorted(self.capabilities)) or "none", type(self).__mro__[1].__name__
                assert clauses, (
                    f"{hook}: the capability {capability!r} is claimed and not tested (known: {known}); write a test "
                    f"in {type(self).__name__} and name it there: "
                    f"capabilities = {{**{kit}.capabilities, {capability!r}: ('test_...',)}}"
                )
                missing = [name for name in clauses if not callable(getattr(self, name, None))]
                assert not missing, (
                    f"{capability!r} is said to be tested by {', '.join(missing)}: there is no such test"
                )

    def test_its_opt_outs_name_clauses(self, subject: Subject) -> None:
        """Everything that it opts out of is a clause of this kit."""
        clauses = {name for name in dir(type(self)) if name.startswith("test_")}
        unknown = sorted(set(subject.opt_outs) - clauses)
        hint = "; a clause is left out whole, without [...]" if any("[" in name for name in unknown) else ""
        assert not unknown, f"KIT_OPT_OUTS names what is no clause of the kit: {', '.join(unknown)}{hint}"

    def test_it_is_listed_as_ok(self, subject: Subject) -> None:
        """`pilot-core list-plugins --check` shows it as ok."""
        if not subject.installed:
            self.does_not_apply("the plugin was given as an object, not by its entry point")
        from pilot_core.plugins.discovery import discover  # noqa: PLC0415
        from pilot_core.plugins.probe import probe_all  # noqa: PLC0415
        from pilot_core.plugins.settings import PluginSettings  # noqa: PLC0415

        settings = PluginSettings()
        records = [record for record in discover(settings).records if record.entry_point == subject.entry_point]
        (record,) = probe_all(records, settings, SystemClock())
        assert str(record.status) == "ok", f"{record.reason}; {record.next_step}"
