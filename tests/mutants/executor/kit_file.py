"""The executor kit, as an author would use it, on the plugin that the run is for."""

import pytest
from executor.faults import MUTANTS
from executor.reference import Plugin
from harness import chosen

from pilot_core.testing import ExecutorKit


class TestMutant(ExecutorKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, Plugin)
