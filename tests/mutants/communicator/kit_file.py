"""The communicator's kit on the reference, or on the mutant that the environment names."""

from typing import ClassVar

import pytest
from communicator.faults import MUTANTS
from communicator.reference import reference
from harness import chosen
from server_protocol.reference import reference as protocol

from pilot_core.testing import CommunicatorKit, ProtocolServer


class TestMutant(CommunicatorKit):
    dropped: ClassVar = {"JobRequest.job_type": "the store takes no such wish"}

    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, reference)

    @pytest.fixture
    def server(self, tmp_path):
        with ProtocolServer(protocol(), tmp_path) as server:
            yield server
