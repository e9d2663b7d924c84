"""Catalogue `rucio`: where Rucio says that files lie and go, outputs entered there, and traces.

It talks to Rucio's REST interface and needs none of Rucio's own code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_catalog_rucio.settings import Settings
from pilot_core import Provider, hookimpl

if TYPE_CHECKING:
    from pilot_catalog_rucio.catalog import Rucio
    from pilot_core import Context, ReplicaCatalog

__all__ = ["Settings", "pilot_catalogs"]


def make(settings: Settings, context: Context) -> Rucio:
    """Make the catalogue; raises `ConfigError` for settings that cannot be used."""
    from pilot_catalog_rucio.catalog import Rucio  # noqa: PLC0415  (only pilots that use it pay for TLS and HTTP)

    return Rucio(settings, context)


@hookimpl
def pilot_catalogs() -> Iterator[Provider[ReplicaCatalog]]:
    """Offer the catalogue."""
    yield Provider(name="rucio", factory=make, settings=Settings)
