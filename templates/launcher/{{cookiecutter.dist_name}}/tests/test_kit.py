"""The launcher does what pilot-core asks of every launcher: each clause of the conformance kit is a test here."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilot_core.testing import LauncherKit


class Test{{ cookiecutter.__class }}(LauncherKit):
    """The kit's clauses, run on `launcher.{{ cookiecutter.name }}`."""

    # YOUR CODE: seconds that your batch system may take to start or end a pilot
    patience = 15.0

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "launcher.{{ cookiecutter.name }}"

    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, object]:
        """The plugin's settings: a batch system that a test may use."""
        return {"directory": tmp_path / "launched", "grace": 5}
