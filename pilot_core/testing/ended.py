"""A pytest plugin that says that a run came to its end: a plugin that calls `os._exit(0)` ends it before.

`pilot-core check` loads it; by the exit code alone such a run would be a good one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

__all__: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("pilot-core").addoption("--kit-ended", metavar="FILE", help="make FILE when all tests were tried")


def pytest_configure(config: pytest.Config) -> None:
    """Count, where the reports of a run come together."""
    file = config.getoption("kit_ended", None)
    if file and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Ended(Path(file)), "pilot-core-ended")


class _Ended:
    """Counts the tests that were tried."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tried = 0

    def pytest_runtest_logfinish(self) -> None:
        """Count one."""
        self._tried += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Make the file, if no test is left; one that shares them out to others has none itself."""
        if self._tried >= len(getattr(session, "items", ())):
            self._file.touch()
