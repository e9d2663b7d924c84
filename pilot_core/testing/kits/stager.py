"""The kit of the kind `stager`."""

from __future__ import annotations

from pilot_core.testing.kits.stager_conduct import ConductClauses
from pilot_core.testing.kits.stager_in import StageInClauses
from pilot_core.testing.kits.stager_midst import MidstClauses
from pilot_core.testing.kits.stager_out import StageOutClauses
from pilot_core.testing.kits.stager_stored import StoredClauses
from pilot_core.testing.kits.stager_trouble import TroubleClauses

__all__ = ["StagerKit"]


class StagerKit(StageInClauses, MidstClauses, StageOutClauses, StoredClauses, ConductClauses, TroubleClauses):
    """What a stager has to do. An author overrides `plugin` and `storage`.

    `storage` is a real storage that the stager reaches, at which the kit looks past the stager: a `DirectoryStorage`
    for one that is, or is served from, a directory; anything else with the methods of `Storage`. Clauses for a task
    that the plugin does not offer (a read-only storage has no stage-out) do not apply.
    """
