"""Planted faults: a correct plugin of each kind, the faults that are planted in it one at a time, what must notice.

Each kind has a folder with `reference.py` (the correct plugin, as an object), `faults.py` (`MUTANTS`) and `kit_file.py`
(the kit's class as an author would write it, whose `plugin` is `chosen(MUTANTS, reference)`). `test_mutants.py` runs
the kit on each of them, in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "PILOT_KIT_MUTANT"
TIME = 120.0
"""Seconds in which a kit must have come to its verdict, whatever the mutant does."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault."""

    name: str
    """Short, with dashes."""
    fault: str
    """What is wrong, in one sentence."""
    caught_by: tuple[str, ...]
    """The clauses that must notice, each."""
    plugin: Callable[[], object]
    """Makes the faulty plugin."""


def chosen(mutants: Sequence[Mutant], reference: Callable[[], object]) -> object:
    """Return the plugin that this process has to test."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return reference()
    (mutant,) = [mutant for mutant in mutants if mutant.name == name]
    return mutant.plugin()


def run_kit(kit_file: Path, report: Path, *, mutant: str = "", clauses: Sequence[str] = ()) -> list[dict[str, str]]:
    """Run a kit, or some of its clauses, on one plugin; return the verdicts."""
    tests = [f"{kit_file}::TestMutant::{clause}" for clause in clauses] or [str(kit_file)]
    options = ["-q", "-p", "pilot_core.testing.plugin", "-p", "no:cacheprovider", "--kit-report", str(report)]
    options += ["--rootdir", str(kit_file.parent), "-c", os.devnull, "--import-mode=importlib"]
    # of pytest's own plugins the kits need none, and each costs a start some time
    environment = {**os.environ, VARIABLE: mutant, "PYTHONPATH": str(kit_file.parent.parent)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *tests],
        env=environment,
        cwd=report.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIME)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise AssertionError(f"the kit did not come to an end within {TIME:g} s: {mutant or 'reference'}") from None
    verdicts = [json.loads(line) for line in report.read_text().splitlines()]
    assert verdicts, f"no verdict:\n{output}"
    return verdicts
