"""The files around the code agree with each other: README, CI, nox, requirements, change log."""

from __future__ import annotations

import ast
import os
import re
import subprocess

import pytest
import tomli

from pilot_core import __version__, hookspecs

LINE = "python3 -m venv .venv && .venv/bin/pip install -q nox && .venv/bin/nox -s {}"
SESSIONS = {"demo", "tests", "lint", "core", "plugin", "together", "bench", "killpoints", "mutants", "templates"}


@pytest.mark.parametrize("session", ["demo", "tests"])
def test_the_readme_has_the_one_line_for_each_of_the_two_sessions(checkout, session):
    lines = (checkout.root / "README.md").read_text().splitlines()
    line = LINE.format(session)
    assert any(text.removeprefix("$ ").strip() == line for text in lines), f"README.md lacks the line: $ {line}"


@pytest.mark.parametrize("line", [LINE.format("tests") + " -- --require-all", LINE.format("demo")])
def test_ci_runs_the_very_lines_of_the_readme(checkout, line):
    assert f"step '{line}'" in (checkout.root / ".ci/run").read_text().splitlines()


@pytest.mark.needs("bin:bash")
def test_the_ci_script_is_executable_and_valid(checkout):
    script = checkout.root / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_nox_has_the_sessions_that_people_and_scripts_rely_on(checkout):
    tree = ast.parse((checkout.root / "noxfile.py").read_text())
    found = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any("nox.session" in ast.unparse(item) for item in node.decorator_list)
    }
    assert found == SESSIONS


def test_nox_tests_with_the_oldest_pluggy_that_is_allowed(checkout):
    allowed = tomli.loads((checkout.root / "pyproject.toml").read_text())["project"]["dependencies"]
    (oldest,) = re.findall(r'^OLDEST_PLUGGY = "(.+)"$', (checkout.root / "noxfile.py").read_text(), re.MULTILINE)
    assert f"pluggy>={oldest}" in allowed


def test_the_development_requirements_list_every_plugin(checkout):
    lines = (checkout.root / "requirements-dev.txt").read_text().splitlines()
    missing = []
    for folder in checkout.plugins:
        extras = tomli.loads((folder / "pyproject.toml").read_text())["project"].get("optional-dependencies", {})
        extra = next((f"[{name}]" for name in ("testing", "test") if name in extras), "")
        missing += {f"-e ./plugins/{folder.name}{extra}"} - set(lines)
    assert not missing, f"add to requirements-dev.txt: {missing}"
    named = [line for line in lines if line.startswith("-e ./plugins/")]
    assert len(named) == len(set(named)) == len(checkout.plugins), "requirements-dev.txt names what is not there"
    assert "-e .[testing]" in lines


def test_every_folder_of_plugins_is_a_distribution(checkout):
    folders = {path for path in (checkout.root / "plugins").iterdir() if path.is_dir() and any(path.glob("*.*"))}
    assert folders == set(checkout.plugins)


def test_the_change_log_has_its_form(checkout):
    text = (checkout.root / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\]( - \d{4}-\d\d-\d\d)?$", text, re.MULTILINE)
    assert len(versions) == len(re.findall(r"^## ", text, re.MULTILINE))
    assert versions[0] == ("Unreleased", "") or versions[0][0] == __version__
    assert all(date for _, date in versions[1:])
    sections = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert "Plugin API" in sections
    assert sections <= {"Plugin API", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_change_log_names_every_hook(checkout):
    text = (checkout.root / "CHANGELOG.md").read_text()
    hooks = hookspecs.REGISTRATION_HOOKS | hookspecs.SHAPING_HOOKS | hookspecs.EVENT_HOOKS
    assert {name for name in hooks if f"`{name}`" not in text} == set()


def test_every_benchmark_has_its_session(checkout):
    scripts = {path.stem for path in checkout.root.glob("benchmarks/*.py")} - {"floor"}
    text = (checkout.root / "noxfile.py").read_text()
    table = text[text.index("BENCHMARKS") : text.index("TEST_EXTRAS")]
    assert scripts == set(re.findall(r'^    "([a-z0-9_]+)":', table, re.MULTILINE))
