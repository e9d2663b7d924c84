"""How the reasons begin for which a kit leaves a clause out."""

from __future__ import annotations

__all__ = ["DOES_NOT_APPLY", "OPTED_OUT"]

OPTED_OUT = "opted out: "
"""The plugin says why it does not keep the clause."""
DOES_NOT_APPLY = "does not apply: "
"""The plugin has nothing that the clause could test."""
