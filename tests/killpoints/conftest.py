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
    """Say how many points a pilot was killed at."""
    held = [each for each in terminalreporter.stats.get("passed", ()) if "::test_killed_at[" in each.nodeid]
    every = len(POINTS) * len(MOMENTS)
    terminalreporter.write_line(f"kill points: {len(POINTS)}, each {', '.join(MOMENTS)}: {len(held)} of {every} held")
