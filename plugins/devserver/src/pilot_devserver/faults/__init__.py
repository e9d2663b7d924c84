"""Faults on purpose: what a pilot has to survive, done to real connections by rules, live or from a scenario."""

from __future__ import annotations

from pilot_devserver.faults.kinds import KINDS, Kind, Option, Place
from pilot_devserver.faults.registry import Fault, Faults
from pilot_devserver.faults.rules import Rule
from pilot_devserver.faults.scenario import Scenario, read_scenario

__all__ = ["KINDS", "Fault", "Faults", "Kind", "Option", "Place", "Rule", "Scenario", "read_scenario"]
