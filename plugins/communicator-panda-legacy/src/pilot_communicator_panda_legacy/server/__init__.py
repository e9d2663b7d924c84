"""The server's side of PanDA's form API (`/server/panda/`), for the development server.

It shares no code with the client in this distribution, so that each is a test of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

if TYPE_CHECKING:
    from pilot_core import Context, NoSettings, ServerProtocol

__all__ = ["KIT_OPT_OUTS", "pilot_server_protocols"]

KIT_OPT_OUTS = {"test_another_method_does_nothing": "panda-server 0.8.1 does not look at the HTTP method"}
"""The clauses of the conformance kit that it does not keep, and why."""


def _make(settings: NoSettings, context: Context) -> ServerProtocol:
    from pilot_communicator_panda_legacy.server.protocol import LegacyProtocol  # noqa: PLC0415

    del settings
    return LegacyProtocol(context.log)


@hookimpl
def pilot_server_protocols() -> Iterator[Provider[ServerProtocol]]:
    """Offer the protocol `panda-legacy`; it is asked before `panda`, which forbids its paths."""
    yield Provider(name="panda-legacy", factory=_make, priority=40)
