"""A development server and queues on it, as the end-to-end tests have them; and how many points there are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# pytest's import mode finds no module beside those tests
sys.path.insert(0, str(Path(__file__).parent.parent / "e2e"))
pytest.register_assert_rewrite("e2e_processes", "e2e_site")

from e2e_site import a_site  # noqa: E402
from pilot_devserver.devserver import DevServer  # noqa: E402

from pilot_core.journal import MOMENTS, POINTS  # noqa: E402

KILLS = {
    f"kill points of the pilot ({len(POINTS)} points, each {', '.join(MOMENTS)})": "::test_killed_at[",
    "kills at every file that is stored": "::test_killed_at_each_file",
    "kills of several pilots, one after the other": "::test_killed_at_random",
    "kills at any moment": "::test_killed_at_any_moment",
    "kills of the server at its requests": "::test_server_killed_at",
}
"""What is counted at the end, each with how its tests are found."""


@pytest.fixture(scope="session")
def panda(tmp_path_factory):
    """One development server for all tests of a process."""
    with DevServer(tmp_path_factory.mktemp("panda") / "state", adder_delay=0.0) as server:
        yield server


@pytest.fixture
def site(panda, tmp_path):
    """A queue of the test's own, and pilots for it."""
    with a_site(panda, tmp_path) as made:
        yield made


def pytest_terminal_summary(terminalreporter):
    """Say at how many points a pilot was killed, and at how many requests a server, and how many of them held."""
    ended = {outcome: terminalreporter.getreports(outcome) for outcome in ("passed", "failed", "error")}
    for what, test in KILLS.items():
        tried = {report.nodeid for reports in ended.values() for report in reports if test in report.nodeid}
        bad = {report.nodeid for outcome in ("failed", "error") for report in ended[outcome] if test in report.nodeid}
        if tried:
            terminalreporter.write_line(f"{what}: {len(tried - bad)} of {len(tried)} held")
