"""The executor does what pilot-core asks of every executor: each clause of the conformance kit is a test here."""

from __future__ import annotations

import pytest
from pilot_core.testing import ExecutorKit


class Test{{ cookiecutter.__class }}(ExecutorKit):
    """The kit's clauses, run on `executor.{{ cookiecutter.name }}`: real payloads, real signals, on this machine."""

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "executor.{{ cookiecutter.name }}"

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        """The plugin's settings."""
        # YOUR CODE: as a site sets them: whatever wraps payloads is tested with them; for example the image of a
        # container in which /bin/sh, cat, env, ls, dd, chmod, sleep and setsid are
        return {"command": ("env",)}
