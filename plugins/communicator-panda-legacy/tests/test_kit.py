"""Both sides of the form API keep what their kinds promise."""

from __future__ import annotations

from typing import ClassVar

import pytest

from pilot_core.testing import CommunicatorKit, ProtocolServer


class TestLegacyCommunicator(CommunicatorKit):
    dropped: ClassVar = {
        "JobUpdate.queue": "the server does not keep the queue that an update names",
        "JobRequest.job_type": "it only chooses among labels of test jobs",
        "WorkerStatus.site": "the server looks a worker up by its ids alone",
        "WorkerNode.*": "the form API has no method for it",
    }

    @pytest.fixture
    def plugin(self):
        return "communicator.panda-legacy"

    @pytest.fixture
    def server(self, tmp_path):
        with ProtocolServer("server-protocol.panda-legacy", tmp_path) as server:
            yield server
