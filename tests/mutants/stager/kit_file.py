"""The stager's kit on the reference, or on the mutant that the environment names."""

import pytest
from harness import chosen
from stager.faults import MUTANTS
from stager.reference import reference

from pilot_core.testing import DirectoryStorage, StagerKit


class TestMutant(StagerKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, reference)

    @pytest.fixture
    def storage(self, tmp_path):
        return DirectoryStorage(tmp_path / "library", "shelf://library")

    @pytest.fixture
    def settings(self, tmp_path):
        return {"root": tmp_path / "library"}
