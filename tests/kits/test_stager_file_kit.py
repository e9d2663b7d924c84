"""The stager `file` keeps every clause of its kind's kit."""

import pytest

from pilot_core.testing import DirectoryStorage, StagerKit


class TestFile(StagerKit):
    @pytest.fixture
    def plugin(self):
        return "stager.file"

    @pytest.fixture
    def storage(self, tmp_path):
        return DirectoryStorage(tmp_path / "storage")
