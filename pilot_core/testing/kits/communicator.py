"""The conformance kit of communicators: what every client of a server's protocol has to keep.

An author's test file::

    from pilot_core.testing import CommunicatorKit, ProtocolServer

    class TestMine(CommunicatorKit):
        @pytest.fixture
        def plugin(self):
            return "communicator.mine"

        @pytest.fixture
        def server(self, tmp_path):
            with ProtocolServer("server-protocol.mine", tmp_path) as server:
                yield server

What the protocol cannot carry is named in the class, with the reason: `dropped = {"JobUpdate.queue": "why"}`.
"""

from __future__ import annotations

from pilot_core.testing.kits.communicator_acquire import AcquireClauses
from pilot_core.testing.kits.communicator_limits import LimitClauses
from pilot_core.testing.kits.communicator_retry import RetryClauses
from pilot_core.testing.kits.communicator_secrets import SecretClauses
from pilot_core.testing.kits.communicator_update import UpdateClauses

__all__ = ["CommunicatorKit"]


class CommunicatorKit(UpdateClauses, AcquireClauses, RetryClauses, LimitClauses, SecretClauses):
    """The kit; fixtures to override: `plugin`, `server`, and `settings` where the plugin needs some."""
