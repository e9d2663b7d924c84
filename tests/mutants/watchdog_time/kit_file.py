"""The kit on the reference watchdog, or on the mutant of this process."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
from harness import chosen
from watchdog_time.faults import MUTANTS
from watchdog_time.reference import Plugin

from pilot_core.testing import WatchdogCase, WatchdogKit


class SilenceCase(WatchdogCase):
    settings: ClassVar = {"limit_seconds": 100.0}
    at_first_sight = False

    def within(self, watched):
        (watched.job_dir / "payload.stdout").write_bytes(b"x" * 10)
        return watched

    def beyond(self, watched):
        return replace(watched, now=watched.now + 101)

    def at_limit(self, watched):
        return replace(watched, now=watched.now + 100)


class TestMutant(WatchdogKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, Plugin)

    @pytest.fixture
    def case(self):
        return SilenceCase()
