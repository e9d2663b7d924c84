"""The server's side of PanDA's REST API v1, for the development server.

It shares no code with the client in this distribution, so that each is a test of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

if TYPE_CHECKING:
    from pilot_core import Context, NoSettings, ServerProtocol

__all__ = ["pilot_server_protocols"]


def _make(settings: NoSettings, context: Context) -> ServerProtocol:
    from pilot_communicator_panda.server.protocol import PandaProtocol  # noqa: PLC0415

    del settings
    return PandaProtocol(context.log)


@hookimpl
def pilot_server_protocols() -> Iterator[Provider[ServerProtocol]]:
    """Offer the protocol `panda`; it is asked late, since it forbids all of `/server/panda/`."""
    yield Provider(name="panda", factory=_make, priority=60)
