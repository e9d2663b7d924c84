"""The conformance kit of server protocols: what the development server may rely on.

An author's test file says how a client speaks (`pilot_core.testing.kits.dialect`)::

    from pilot_core.testing import ServerProtocolKit

    class TestMineServer(ServerProtocolKit):
        @pytest.fixture
        def plugin(self):
            return "server-protocol.mine"

        @pytest.fixture
        def dialect(self):
            return MineDialect()
"""

from __future__ import annotations

from pilot_core.testing.kits.server_protocol_calls import CallClauses
from pilot_core.testing.kits.server_protocol_fuzz import HostileClauses
from pilot_core.testing.kits.server_protocol_jobs import JobClauses

__all__ = ["ServerProtocolKit"]


class ServerProtocolKit(JobClauses, CallClauses, HostileClauses):
    """The kit; fixtures to override: `plugin`, `dialect`, and `settings` where the plugin needs some."""
