"""Communicator `jsonrpc` for pilot-core: how the pilot talks to a server of that protocol.

The protocol is JSON-RPC 2.0 over HTTPS, with one address, `/jsonrpc`: `PROTOCOL.md` defines it. Its other side, for the
development server and the tests, is in `server/`; the two share no code, and so no mistakes.

A pilot imports this module before it knows whether it needs the communicator, so only the hook is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from pilot_communicator_jsonrpc.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Communicator, Context

    from pilot_communicator_jsonrpc.client import Jsonrpc


def make(settings: Settings, context: Context) -> Jsonrpc:
    """Make the communicator; called once a pilot. Import heavy libraries here, or below."""
    from pilot_communicator_jsonrpc.client import Jsonrpc

    return Jsonrpc(settings, context)


@hookimpl
def pilot_communicators() -> Iterator[Provider[Communicator]]:
    """Offer the communicator."""
    yield Provider(name="jsonrpc", factory=make, settings=Settings)
