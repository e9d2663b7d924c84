"""Planted faults: a correct plugin of each kind, the faults that are planted in it one at a time, what must notice.

Each kind has a folder with `reference.py` (the correct plugin, as an object), `faults.py` (`MUTANTS`) and `kit_file.py`
(the kit's class as an author would write it, whose `plugin` is `chosen(MUTANTS, reference)`). `test_mutants.py` runs
the kit on each of them, in a process of its own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
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


class Nursery:
    """The process that forks the runs (`nursery.py`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py")],
            # of pytest's own plugins the kits need none, and each costs a start some time
            env={**os.environ, "PYTHONPATH": str(HERE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, order: dict[str, object]) -> None:
        """Carry out one run; raises `TimeoutError` if it has to be killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        child = int(self._process.stdout.readline())
        late = not select.select([self._process.stdout], [], [], TIME)[0]
        if late:
            os.killpg(child, signal.SIGKILL)
        self._process.stdout.readline()
        if late:
            raise TimeoutError

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def run_kit(
    nursery: Nursery, kit_file: Path, folder: Path, *, mutant: str = "", clauses: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Run a kit, or some of its clauses, on one plugin, in an empty folder; return the verdicts."""
    report, output = folder / "report", folder / "output"
    tests = [f"{kit_file}::TestMutant::{clause}" for clause in clauses] or [str(kit_file)]
    options = ["-q", "-p", "pilot_core.testing.plugin", "-p", "no:cacheprovider", "--kit-report", str(report)]
    options += ["--rootdir", str(kit_file.parent), "-c", os.devnull, "--import-mode=importlib"]
    # as in a CI system, where pytest explains a failed assertion at full length
    environment = {VARIABLE: mutant, "CI": "true"}
    order = {"folder": str(folder), "environment": environment, "path": [str(HERE)], "output": str(output)}
    try:
        nursery.run({**order, "arguments": [*options, *tests]})
    except TimeoutError:
        raise TimeoutError(f"the kit did not come to an end within {TIME:g} s: {mutant or 'reference'}") from None
    verdicts = [json.loads(line) for line in report.read_text().splitlines()]
    assert verdicts, f"no verdict:\n{output.read_text()}"
    return verdicts
