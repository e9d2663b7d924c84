"""The watchdog does what pilot-core asks of every watchdog: each clause of the conformance kit is a test here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pilot_core import Watched
from pilot_core.testing import WatchdogCase, WatchdogKit

LIMIT = 50


class Files(WatchdogCase):
    """The other side: brings a payload's directory to the limit. It is written without the plugin's own code."""

    # YOUR CODE: a limit that a test can pass, and both sides of it
    settings = {"files": LIMIT}  # noqa: RUF012

    def within(self, watched: Watched) -> Watched:
        """Close to the limit."""
        return self._with(watched, LIMIT - 1)

    def at_limit(self, watched: Watched) -> Watched:
        """Exactly at the limit, which is not passed yet."""
        return self._with(watched, LIMIT)

    def beyond(self, watched: Watched) -> Watched:
        """Beyond the limit."""
        return self._with(watched, LIMIT + 1)

    @staticmethod
    def _with(watched: Watched, count: int) -> Watched:
        """Have the directory hold just so many files."""
        for number in range(2 * LIMIT):
            (watched.job_dir / f"own-{number}").unlink(missing_ok=True)
        there = {Path(place, name) for place, _, names in os.walk(watched.job_dir) for name in names}
        there = {path for path in there if path.is_file() and not path.is_symlink()}
        # the payload's outputs may be about to appear
        there |= {watched.job_dir / name for name in ("payload.stdout", "payload.stderr")}
        for number in range(count - len(there)):
            (watched.job_dir / f"own-{number}").touch()
        return watched


class Test{{ cookiecutter.__class }}(WatchdogKit):
    """The kit's clauses, run on `watchdog.{{ cookiecutter.name }}`."""

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "watchdog.{{ cookiecutter.name }}"

    @pytest.fixture
    def case(self) -> WatchdogCase:
        """The two sides of the limit."""
        return Files()
