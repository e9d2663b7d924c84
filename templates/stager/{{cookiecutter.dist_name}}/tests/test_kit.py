"""The stager does what pilot-core asks of every stager: each clause of the conformance kit is a test here."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilot_core.testing import DirectoryStorage, StagerKit


class Test{{ cookiecutter.__class }}(StagerKit):
    """The kit's clauses, run on `stager.{{ cookiecutter.name }}`."""

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "stager.{{ cookiecutter.name }}"

    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, object]:
        """The plugin's settings."""
        return {"root": tmp_path / "root"}

    @pytest.fixture
    def storage(self, tmp_path: Path) -> DirectoryStorage:
        """The other side: where the kit puts files, and looks for them, past the stager."""
        # YOUR CODE: the kit needs your storage for real, for example a server that this fixture starts: any object with
        # the methods of pilot_core.testing.Storage
        return DirectoryStorage(tmp_path / "root" / "library", "{{ cookiecutter.name }}://library")
