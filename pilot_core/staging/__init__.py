"""Bringing files in and out: planned at once, moved side by side, retried by the error's class, every attempt kept."""

from __future__ import annotations

from pilot_core.staging.attempts import FIRST_PAUSE, LONGEST_PAUSE, TRIES
from pilot_core.staging.backends import Backends
from pilot_core.staging.ledger import AttemptFile
from pilot_core.staging.limits import START_ALLOWANCE, UNKNOWN_SIZE_ALLOWANCE, Limits, time_allowed
from pilot_core.staging.mover import InTurn, Mover
from pilot_core.staging.reporter import TASKS
from pilot_core.staging.space import Space, free_space, in_words
from pilot_core.staging.telling import no_stager
from pilot_core.staging.transfer import Moved

__all__ = [
    "FIRST_PAUSE",
    "LONGEST_PAUSE",
    "START_ALLOWANCE",
    "TASKS",
    "TRIES",
    "UNKNOWN_SIZE_ALLOWANCE",
    "AttemptFile",
    "Backends",
    "InTurn",
    "Limits",
    "Moved",
    "Mover",
    "Space",
    "free_space",
    "in_words",
    "no_stager",
    "time_allowed",
]
