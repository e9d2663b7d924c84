"""The kit on the reference watchdog, or on the mutant of this process."""

from __future__ import annotations

from typing import ClassVar

import pytest
from harness import chosen
from watchdog.faults import MUTANTS
from watchdog.reference import Plugin

from pilot_core.testing import WatchdogCase, WatchdogKit


class SizeCase(WatchdogCase):
    settings: ClassVar = {"limit_kb": 20}

    def within(self, watched):
        return self.filled(watched, 18_000)

    def beyond(self, watched):
        return self.filled(watched, 20_001)

    def at_limit(self, watched):
        return self.filled(watched, 20_000)

    def filled(self, watched, size):
        (watched.job_dir / "sub").mkdir(exist_ok=True)
        own = watched.job_dir / "sub" / "output.dat"
        own.unlink(missing_ok=True)
        there = sum(p.lstat().st_size for p in watched.job_dir.iterdir() if p.is_file() and not p.is_symlink())
        traps = watched.job_dir / "traps"
        there += len([p for p in (traps.iterdir() if traps.is_dir() else []) if p.is_file() and not p.is_symlink()])
        own.write_bytes(b"x" * (size - there))
        return watched


class TestMutant(WatchdogKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, Plugin)

    @pytest.fixture
    def case(self):
        return SizeCase()
