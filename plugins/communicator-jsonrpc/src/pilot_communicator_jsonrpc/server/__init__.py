"""The server's side of the protocol `jsonrpc`, for pilot-core's development server and for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import NoSettings, Provider, hookimpl

if TYPE_CHECKING:
    from pilot_core import Context, ServerProtocol


def make(settings: NoSettings, context: Context) -> ServerProtocol:
    """Make the protocol."""
    from pilot_communicator_jsonrpc.server.protocol import Protocol

    return Protocol(settings, context)


@hookimpl
def pilot_server_protocols() -> Iterator[Provider[ServerProtocol]]:
    """Offer the protocol."""
    yield Provider(name="jsonrpc", factory=make)
