"""Bringing files in and out: candidates in order, retry and fallback by the error's class, a ledger of attempts."""

from __future__ import annotations

from pilot_core.staging.backends import Backends
from pilot_core.staging.mover import FIRST_PAUSE, LONGEST_PAUSE, START_ALLOWANCE, TRIES, Mover, time_allowed
from pilot_core.staging.telling import no_stager

__all__ = [
    "FIRST_PAUSE",
    "LONGEST_PAUSE",
    "START_ALLOWANCE",
    "TRIES",
    "Backends",
    "Mover",
    "no_stager",
    "time_allowed",
]
