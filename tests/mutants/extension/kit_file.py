"""The kit on the reference extension, or on the mutant of this process."""

from __future__ import annotations

import pytest
from extension.faults import MUTANTS
from extension.reference import Plugin
from harness import chosen

from pilot_core.testing import ExtensionKit


class TestMutant(ExtensionKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, Plugin)
