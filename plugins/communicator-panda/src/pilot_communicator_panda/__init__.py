"""The communicator `panda`: the REST API v1 of PanDA servers from 1.0 on (the API is also in 0.8.1).

The other side of the same protocol, for the development server, is `pilot_communicator_panda.server`; the two share
recordings, not code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_communicator_panda.settings import PandaSettings
from pilot_core import hookimpl
from pilot_core.api.provider import Context, Provider

if TYPE_CHECKING:
    from pilot_core.api.communicator import Communicator

__all__ = ["PandaSettings", "pilot_communicators"]


def _make(settings: PandaSettings, context: Context) -> Communicator:
    """Make the communicator; the network's modules are imported only here."""
    from pilot_communicator_panda.client import PandaCommunicator  # noqa: PLC0415

    return PandaCommunicator(settings, context)


@hookimpl
def pilot_communicators() -> Iterator[Provider[Communicator]]:
    """Offer `panda`."""
    yield Provider(name="panda", factory=_make, settings=PandaSettings)
