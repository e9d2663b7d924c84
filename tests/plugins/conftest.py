"""Fake plugins: real metadata and modules in a directory of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilot_core.plugins import PluginSettings, Registry
from pilot_core.plugins.discovery import discover

GROUP = "pilot_core.plugins.v1"
STAGER = """
from pilot_core import Provider, hookimpl

def make(settings, context):
    return "made"

@hookimpl
def pilot_stagein():
    yield Provider(name={name!r}, factory=make, schemes=frozenset({schemes!r}), priority={priority!r})

@hookimpl
def pilot_stageout():
    yield Provider(name={name!r}, factory=make, schemes=frozenset({schemes!r}), priority={priority!r})
"""


@dataclass
class Shelf:
    """A directory in which distributions with plugins are put."""

    path: Path

    def add(self, distribution, entries, code="", *, version="1.0", group=GROUP, module=None):
        """Install a distribution: `entries` maps entry points to values, `code` is its module's."""
        module = module or distribution.replace("-", "_")
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(mode=0o755)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        if isinstance(entries, str):
            entries = {entries: module}
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        (self.path / f"{module}.py").write_text(textwrap.dedent(code))
        return info

    def stager(self, name, *schemes, priority=50, distribution=None, version="1.0"):
        """Install a stager that is in order."""
        code = STAGER.format(name=name, schemes=tuple(schemes or (name,)), priority=priority)
        return self.add(distribution or f"pilot-stager-{name}", f"stager.{name}", code, version=version)

    def settings(self, **options):
        """Return settings that name this directory, after those that `options` name."""
        return PluginSettings(paths=(*options.pop("paths", ()), str(self.path)), **options)

    def discover(self, **options):
        """Return what is found, without the installed plugins."""
        return [record for record in discover(self.settings(**options)).records if self.holds(record)]

    def holds(self, record):
        """Say whether a record is of this directory."""
        return Path(record.directory).is_relative_to(self.path.parent)

    def registry(self, **options):
        """Return a registry of this directory's plugins only."""
        settings = self.settings(**options)
        return Registry(self.discover(**options), settings)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty directory for plugins; what a test imports from it is forgotten afterwards."""
    path = tmp_path / "shelf"
    path.mkdir(mode=0o755)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield Shelf(path)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self):
        """The plugins of the JSON form, by entry point and distribution."""
        document = json.loads(self.out)
        assert document["schema"] == 1
        return {(row["entry_point"], row["distribution"]): row for row in document["plugins"]}


def list_plugins(*arguments, paths=(), cwd=None, environment=None):
    """Run `python -m pilot_core list-plugins` as a process of its own."""
    named = ["--set", f"plugins.paths={','.join(map(str, paths))}"] if paths else []
    command = [sys.executable, "-m", "pilot_core", "list-plugins", *named, *arguments]
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**variables, **(environment or {})},
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(name="list_plugins")
def list_plugins_fixture(tmp_path):
    """`pilot-core list-plugins` as a process, started in an empty directory."""
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*arguments, **options):
        return list_plugins(*arguments, **{"cwd": empty, **options})

    return run
