"""Without a fault it is as good a stager as the one that it stands before: the kit for stagers says so."""

from dataclasses import replace
from urllib.parse import quote

import pytest

from pilot_core.testing import DirectoryStorage, StagerKit


class TestFaultless(StagerKit):
    @pytest.fixture
    def plugin(self):
        return "stager.fault"

    @pytest.fixture
    def storage(self, tmp_path):
        folder = tmp_path / "storage"
        return DirectoryStorage(folder, f"fault://none/file://{quote(str(folder))}", direct=True)

    @pytest.fixture
    def context(self, kit_context, files):
        return replace(kit_context, stagers=files(kit_context))

    kit_context = StagerKit.context
