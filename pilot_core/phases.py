"""The phases of a job, and which of them are to be run: all, unless somebody debugs one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pilot_core.errors import BadInput
from pilot_core.settings import did_you_mean

__all__ = ["WHOLE", "Phase", "Plan", "phases_from", "phases_named"]


class Phase(str, Enum):
    """What can be run singly, in the order of a job."""

    STAGE_IN = "stage-in"
    PAYLOAD = "payload"
    STAGE_OUT = "stage-out"
    """Outputs and log."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Plan:
    """Which phases of a job are run, and where."""

    phases: tuple[Phase, ...] = tuple(Phase)
    job_dir: Path | None = None
    """The kept directory of an earlier run to go on in; None = a new one. It is kept again."""

    def has(self, phase: Phase) -> bool:
        """Say whether a phase is to be run."""
        return phase in self.phases


WHOLE = Plan()
"""A job from its beginning to its end."""


def phases_named(texts: Iterable[str]) -> tuple[Phase, ...]:
    """Return the phases that are named, in the order of a job; each text may be a list with commas.

    Raises `BadInput` for a name that is no phase's, and for none at all.
    """
    wanted = {_phase(name.strip()) for text in texts for name in text.split(",") if name.strip()}
    if not wanted:
        raise BadInput(f"no phase is named; known: {', '.join(Phase)}")
    return tuple(phase for phase in Phase if phase in wanted)


def phases_from(text: str) -> tuple[Phase, ...]:
    """Return a phase and all that follow; raises `BadInput` for a name that is no phase's."""
    known = tuple(Phase)
    return known[known.index(_phase(text.strip())) :]


def _phase(name: str) -> Phase:
    try:
        return Phase(name)
    except ValueError:
        raise BadInput(f"no such phase {name!r}{did_you_mean(name, [str(phase) for phase in Phase])}") from None
