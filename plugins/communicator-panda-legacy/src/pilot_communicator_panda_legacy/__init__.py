"""The communicator `panda-legacy`: the form API of PanDA servers before 1.0, which Pilot 3 speaks.

Connections, retries and the translation of job descriptions are those of `pilot-communicator-panda`: the two
protocols differ in their envelopes, not in what they carry. The other side, for the development server, is
`pilot_communicator_panda_legacy.server`; the two sides share recordings, not code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_communicator_panda.settings import ServerSettings

from pilot_core import hookimpl
from pilot_core.api.provider import Context, Provider

if TYPE_CHECKING:
    from pilot_core.api.communicator import Communicator

__all__ = ["LegacySettings", "pilot_communicators"]


@dataclass(frozen=True, kw_only=True)
class LegacySettings(ServerSettings):
    """Settings of the communicator `panda-legacy`."""


def _make(settings: LegacySettings, context: Context) -> Communicator:
    """Make the communicator; the network's modules are imported only here."""
    from pilot_communicator_panda_legacy.client import LegacyCommunicator  # noqa: PLC0415

    return LegacyCommunicator(settings, context)


@hookimpl
def pilot_communicators() -> Iterator[Provider[Communicator]]:
    """Offer `panda-legacy`."""
    yield Provider(name="panda-legacy", factory=_make, settings=LegacySettings)
