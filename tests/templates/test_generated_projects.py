"""A project that `pilot-core new` makes is green at once: tests, linters, types, wheel, installed; for every kind.

The nox session `templates` runs these in an environment that holds pilot-core[testing] and the tools. They take
minutes; `-n 2` runs two kinds at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pilot_core import KINDS

BIN = Path(sys.executable).parent
TOOLS = ("module:hatchling", "module:editables", "module:build", "module:mypy", "module:ruff")
QUIET = ("--quiet", "--disable-pip-version-check")

pytestmark = pytest.mark.needs(*TOOLS)


def environment():
    """Return the variables of a process in this very environment, as if somebody had activated it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "COV"))}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', os.defpath)}", "NO_COLOR": "1"}


def run(project, *command):
    """Return a command's output, run in a project's directory; fail the test with all that it said if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"[-6000:]
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exit {done.returncode}\n{said}"
    return done.stdout


@pytest.fixture
def pip():
    """Run pip here; what was installed is taken out in the end."""
    names = []

    def run_pip(project, *words, name):
        names.append(name)
        run(project, sys.executable, "-m", "pip", "install", *QUIET, "--no-deps", *words)

    yield run_pip
    for name in set(names):
        run(Path.cwd(), sys.executable, "-m", "pip", "uninstall", *QUIET, "--yes", name)


@pytest.mark.parametrize(("number", "kind"), [pytest.param(n, kind, id=kind) for n, kind in enumerate(KINDS)])
def test_a_new_project_is_green_at_once(number, kind, tmp_path, pip):
    # two kinds may be here at the same time, and a communicator's project has a server protocol, too
    told = json.loads(run(tmp_path, BIN / "pilot-core", "new", kind, f"green{number}", "--no-input", "--json"))
    project = Path(told["project"])
    distribution = project.name
    pip(project, "--no-build-isolation", "--editable", ".", name=distribution)

    run(project, BIN / "pytest", "-q", "-p", "no:cacheprovider")
    rows = json.loads(run(project, BIN / "pilot-core", "list-plugins", "--check", "--json"))["plugins"]
    ours = {f"{row['kind']}.{row['name']}": row["status"] for row in rows if row["distribution"] == distribution}
    assert ours == dict.fromkeys(told["entry_points"], "ok")

    run(project, BIN / "ruff", "check", ".")
    run(project, BIN / "ruff", "format", "--check", ".")
    run(project, BIN / "mypy")

    # by way of the source distribution: that has to hold the tests, too
    run(project, sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", ".")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    module = distribution.replace("-", "_")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{module}/__init__.py", f"{module}/py.typed", f"{module}/test_kit.py"} <= names

    pip(project, "--force-reinstall", wheel, name=distribution)
    # not from where the project lies: what the wheel brought is checked
    verdicts = json.loads(run(tmp_path / "dist", BIN / "pilot-core", "check", distribution, "--json"))["clauses"]
    outcomes = {verdict["outcome"] for verdict in verdicts}
    assert outcomes <= {"passed", "does not apply", "left out"}, outcomes
    assert sum(verdict["outcome"] == "passed" for verdict in verdicts) > len(verdicts) / 2


@pytest.mark.parametrize("kind", ["extension"])
def test_the_very_commands_that_new_prints_work(kind, tmp_path):
    """In a fresh environment of the project's own, as somebody who copies them from the terminal."""
    told = json.loads(run(tmp_path, BIN / "pilot-core", "new", kind, "unheard-of", "--no-input", "--json"))
    script = "\n".join(["set -e", "export PIP_DISABLE_PIP_VERSION_CHECK=1", *told["commands"]])
    said = run(tmp_path, "bash", "-c", script)
    assert f"{kind}" in said
    assert " passed" in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "distribution"), [("a", "b"), ("x2-" + "y" * 21, "z" * 56)], ids=["short", "long"])
def test_the_linters_are_content_whatever_the_names(kind, name, distribution, tmp_path):
    """Lines are neither too long with long names, nor to be joined with short ones."""
    words = ("--no-input", "--json", "--set", f"dist_name={distribution}")
    project = json.loads(run(tmp_path, BIN / "pilot-core", "new", kind, name, *words))["project"]
    run(project, BIN / "ruff", "check", "--no-cache", ".")
    run(project, BIN / "ruff", "format", "--check", "--no-cache", ".")
