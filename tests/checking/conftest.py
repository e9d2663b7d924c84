"""Distributions with kits: real metadata, modules and kits in a directory on the path of the command."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

PLUGIN = """
from pilot_core import hookimpl

class Quiet:
    {opt_outs}

    @hookimpl
    def pilot_prepare_environment(self, job, environment):
        return {{**environment, "QUIET": "yes"}} if {good} else 7
"""
KIT = """
import pytest
from {module} import Quiet
from pilot_core.testing import ExtensionKit

class TestQuiet(ExtensionKit):
    @pytest.fixture
    def plugin(self):
        return Quiet()
"""


@dataclass
class Site:
    """A directory that the command's Python searches."""

    path: object

    def add(self, name, *, good=True, opt_outs="", kit=KIT, version="1.0"):
        """Install a distribution with a kit."""
        module = name.replace("-", "_")
        package = self.path / module
        package.mkdir(parents=True)
        files = {"__init__.py": PLUGIN.format(good=good, opt_outs=opt_outs or "pass")}
        if kit:
            files["test_kit.py"] = kit.format(module=module)
        for file, text in files.items():
            (package / file).write_text(text)
        info = self.path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[pilot_core.plugins.v1]\nextension.quiet = {module}\n")
        rows = [f"{module}/{file},," for file in files]
        (info / "RECORD").write_text("\n".join([*rows, f"{info.name}/METADATA,,", f"{info.name}/RECORD,,", ""]))
        return info

    def environment(self):
        """Return the variables with which the command finds what is installed here."""
        return {**os.environ, "PYTHONPATH": str(self.path), "PYTHONDONTWRITEBYTECODE": "1"}

    def check(self, *arguments):
        """Run `pilot-core check` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "pilot_core", "check", *map(str, arguments)],
            env=self.environment(),
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site"
    path.mkdir()
    return Site(path)
