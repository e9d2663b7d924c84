"""Stager `fault`: stands before another stager and fails on purpose, as its URL says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core import NoSettings, Provider, hookimpl

if TYPE_CHECKING:
    from pilot_core import Context, StageIn, StageOut
    from pilot_stager_fault.stager import FaultStager

__all__ = ["pilot_stagein", "pilot_stageout"]


def _make(settings: NoSettings, context: Context) -> FaultStager:
    """Make the stager; it has no settings: everything is in the URL."""
    from pilot_stager_fault.stager import FaultStager  # noqa: PLC0415

    del settings
    return FaultStager(context)


@hookimpl
def pilot_stagein() -> list[Provider[StageIn]]:
    """Offer the stager for reading."""
    return [Provider(name="fault", factory=_make, schemes=frozenset({"fault"}))]


@hookimpl
def pilot_stageout() -> list[Provider[StageOut]]:
    """Offer the stager for writing."""
    return [Provider(name="fault", factory=_make, schemes=frozenset({"fault"}))]
