"""The kit on the reference launcher, or on the mutant of this process."""

from __future__ import annotations

import pytest
from harness import chosen
from launcher.faults import MUTANTS
from launcher.reference import Plugin

from pilot_core.testing import LauncherKit


class TestMutant(LauncherKit):
    patience = 8.0

    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, Plugin)
