"""Both sides of REST API v1 keep what their kinds promise."""

from __future__ import annotations

from typing import ClassVar

import pytest

from pilot_core.testing import CommunicatorKit, ProtocolServer


class TestPandaCommunicator(CommunicatorKit):
    dropped: ClassVar = {
        "JobUpdate.queue": "the server does not keep the queue that an update names",
        "JobRequest.job_type": "it only chooses among labels of test jobs",
        "WorkerStatus.site": "update_worker_status has no place for it",
    }

    @pytest.fixture
    def plugin(self):
        return "communicator.panda"

    @pytest.fixture
    def server(self, tmp_path):
        with ProtocolServer("server-protocol.panda", tmp_path) as server:
            yield server
