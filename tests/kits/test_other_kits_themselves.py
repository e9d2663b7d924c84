"""The kits of queue sources, credentials, catalogues, watchdogs, launchers and extensions: what their authors meet."""

import json

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import pytest
from pilot_core import Provider, hookimpl
from pilot_core.testing import {kit}

class Plugin:
    @hookimpl
    def {hook}(self):
        yield Provider(name="mine", factory=lambda settings, context: object())

class TestMine({kit}):
    @pytest.fixture
    def plugin(self):
        return Plugin()
"""
KITS = {
    "queue-source": ("QueueSourceKit", "pilot_queue_sources", "site", "QueueSite"),
    "credential": ("CredentialKit", "pilot_credentials", "issuer", "CredentialIssuer"),
    "catalog": ("CatalogKit", "pilot_catalogs", "catalog", "CatalogServer"),
    "watchdog": ("WatchdogKit", "pilot_watchdogs", "case", "WatchdogCase"),
}


@pytest.fixture
def author(pytester):
    """Run an author's test file in a process of its own; the verdicts of its clauses."""

    def run(text):
        pytester.makepyfile(test_mine=text)
        result = pytester.runpytest_subprocess("-p", "pilot_core.testing.plugin", "--kit-report", "report", "-q")
        assert result.ret == 1
        return [json.loads(line) for line in (pytester.path / "report").read_text().splitlines()]

    return run


@pytest.mark.parametrize("kind", KITS)
def test_a_forgotten_other_side_fails_and_says_what_to_return(author, kind):
    kit, hook, fixture, side = KITS[kind]
    verdicts = author(HEAD.format(kit=kit, hook=hook))
    told = [verdict["reason"] for verdict in verdicts if verdict["outcome"] == "error"]
    assert len(told) > 10
    for reason in told:
        assert f"override the fixture `{fixture}` in TestMine" in reason
        assert f"pilot_core.testing.{side}" in reason
    assert not [verdict for verdict in verdicts if verdict["outcome"] == "passed" and verdict["clause"] not in GENERAL]


GENERAL = {
    "test_it_is_taken_by_the_pilot",
    "test_its_import_is_quick_and_does_nothing",
    "test_its_settings_keep_secrets",
    "test_its_capabilities_are_known_to_the_kit",
    "test_its_opt_outs_name_clauses",
    # with the defaults, this plugin has nothing to tell
    "test_without_its_data_it_knows_nothing_or_says_so",
}


@pytest.mark.parametrize(("kind", "kit"), [("launcher", "LauncherKit"), ("extension", "ExtensionKit")])
def test_a_forgotten_plugin_fails_every_clause(author, kind, kit):
    verdicts = author(f"from pilot_core.testing import {kit}\n\nclass TestMine({kit}):\n    pass\n")
    assert {verdict["outcome"] for verdict in verdicts} == {"error"}
    assert all(f'"{kind}.NAME"' in verdict["reason"] for verdict in verdicts)


def test_a_site_that_says_nothing_of_its_queues_is_told_so(author):
    verdicts = author(
        HEAD.format(kit="QueueSourceKit", hook="pilot_queue_sources").replace("object()", "Source()")
        + """
    @pytest.fixture
    def site(self):
        return Site()

from pilot_core import Queue
from pilot_core.testing import QueueSite

class Source:
    def queue(self, name, *, cancel, deadline):
        return Queue(name=name, source="nowhere")

class Site(QueueSite):
    settings = {}
    def publish(self, queue):
        return Queue(name=queue.name)
    def withdraw(self, name):
        pass
    def spoil(self, name, fault):
        return "x"
"""
    )
    (told,) = [v for v in verdicts if v["clause"] == "test_a_known_queue_is_right_in_every_field"]
    assert told["outcome"] == "failed"
    assert "QueueSite.publish returns the same for different queues" in told["reason"]
