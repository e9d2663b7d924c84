"""The fixtures of the executor kit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.executor_bench import PATH, Bench

if TYPE_CHECKING:
    from pilot_core.api.clock import SystemClock
    from pilot_core.api.executor import Executor
    from pilot_core.api.provider import Context, Provider
    from pilot_core.testing.kits.subject import Subject

__all__ = ["ExecutorBase"]

PROGRAMS = ("sh", "cat", "dd", "env", "ls", "chmod", "setsid", "sleep")
"""What the payloads are made of."""


class ExecutorBase(Kit):
    """What every part of the executor kit has."""

    kind = "executor"
    capabilities: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "shell-exit-codes": ("test_what_cannot_be_executed_is_the_payloads_error",)
    }

    @pytest.fixture
    def provider(self, subject: Subject) -> Provider[Executor]:
        """The plugin's provider."""
        return subject.providers["pilot_executors"]

    @pytest.fixture
    def make(
        self, provider: Provider[Executor], settings: Mapping[str, Any], context: Context
    ) -> Callable[[SystemClock], Executor]:
        """Makes an instance of the executor, with a clock."""

        def make(clock: SystemClock) -> Executor:
            made: Executor = self.made(provider, settings, replace(context, clock=clock))
            return made

        return make

    @pytest.fixture
    def bench(self, make: Callable[[SystemClock], Executor], clock: SystemClock, tmp_path: Path) -> Iterator[Bench]:
        """Where payloads are run."""
        missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
        if missing:
            pytest.skip(f"this machine lacks what the payloads use: {', '.join(missing)}")
        bench = Bench(make=make, root=tmp_path / "jobs", clock=clock)
        yield bench
        bench.close()
