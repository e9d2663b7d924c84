"""The executor `process` keeps what executors promise."""

import pytest

from pilot_core.testing import ExecutorKit


class TestProcess(ExecutorKit):
    @pytest.fixture
    def plugin(self):
        return "executor.process"
