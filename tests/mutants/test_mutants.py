"""The kits have teeth: every planted fault is noticed, by the clause that is meant to, and the correct one passes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# pytest's import mode finds no module beside this one
sys.path.insert(0, str(HERE))

from harness import Nursery, run_kit  # noqa: E402

KINDS = {path.parent.name: path for path in sorted(HERE.glob("*/kit_file.py"))}
LEAST = {
    "catalog": 60,
    "communicator": 100,
    "credential": 45,
    "executor": 25,
    "extension": 65,
    "launcher": 55,
    "queue_source": 45,
    "server_protocol": 40,
    "stager": 30,
    "watchdog": 48,
    "watchdog_time": 10,
}
"""How many faults a kind's kit has to be tried with, at the least."""
TRIES = 3
MUTANTS = {kind: importlib.import_module(f"{kind}.faults").MUTANTS for kind in KINDS}


@pytest.fixture(scope="session")
def nursery():
    made = Nursery()
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_correct_plugin_keeps_every_clause(kind, tmp_path, nursery):
    verdicts = run_kit(nursery, KINDS[kind], tmp_path)
    wrong = [f"{v['clause']}: {v['outcome']}: {v['reason']}" for v in verdicts if v["outcome"] in {"failed", "error"}]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("kind", "mutant"),
    [pytest.param(kind, mutant, id=f"{kind}-{mutant.name}") for kind in KINDS for mutant in MUTANTS[kind]],
)
def test_a_planted_fault_is_noticed(kind, mutant, tmp_path, nursery, record_property):
    """By each clause that it names. Faults that are races show by chance: they get more tries, and that is told."""
    missed = list(mutant.caught_by)
    for number in range(TRIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        verdicts = run_kit(nursery, KINDS[kind], folder, mutant=mutant.name, clauses=missed)
        noticed = {v["clause"].partition("[")[0] for v in verdicts if v["outcome"] == "failed"}
        missed = [clause for clause in missed if clause not in noticed]
        if not missed:
            record_property("tries", number + 1)
            return
    pytest.fail(f"{mutant.fault}: not noticed in {TRIES} tries by {', '.join(missed)}: {verdicts}")


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_enough_faults_and_their_names_differ(kind):
    names = [mutant.name for mutant in MUTANTS[kind]]
    assert len(names) == len(set(names)) >= LEAST.get(kind, 5)
