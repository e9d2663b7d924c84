"""Finding, importing, isolating and listing plugins.

`Registry.discover(settings)` finds every plugin by its metadata; `Registry.provider(kind, name)` imports the one that
is needed; `Hooks` calls shaping and event hooks. Nothing here is imported by plugins.
"""

from __future__ import annotations

from pilot_core.plugins.hooks import Hooks
from pilot_core.plugins.loaded import Loaded
from pilot_core.plugins.record import Offer, Record, Status
from pilot_core.plugins.registry import Registry
from pilot_core.plugins.settings import PluginSettings

__all__ = ["Hooks", "Loaded", "Offer", "PluginSettings", "Record", "Registry", "Status"]
