"""The extension does what pilot-core asks of every extension: each clause of the conformance kit is a test here."""

from __future__ import annotations

import pytest
from pilot_core.testing import ExtensionKit


class Test{{ cookiecutter.__class }}(ExtensionKit):
    """The kit's clauses, run on `extension.{{ cookiecutter.name }}`: every hook, for jobs of every sort."""

    # YOUR CODE: if only some jobs concern you, a fixture `job` that returns one of them
    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "extension.{{ cookiecutter.name }}"
