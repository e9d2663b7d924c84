"""The stager's kit on a stager that speaks HTTP, or on the mutant that the environment names."""

import pytest
from harness import chosen
from stager_http.faults import MUTANTS
from stager_http.library import Library
from stager_http.reference import reference

from pilot_core.testing import StagerKit


class TestMutant(StagerKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, reference)

    @pytest.fixture
    def storage(self):
        with Library() as library:
            yield library
