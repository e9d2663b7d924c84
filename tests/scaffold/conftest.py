"""What the tests of new projects share."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def new(tmp_path):
    """Run `pilot-core new` in an empty directory, in a process of its own."""
    folder = tmp_path / "here"
    folder.mkdir()

    def run(*arguments, python=sys.executable, stdin=subprocess.DEVNULL, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        argv = [python, "-m", "pilot_core", "new", *map(str, arguments)]
        return subprocess.run(
            argv,
            **{"cwd": folder, "env": environment, "stdin": stdin, "capture_output": True, "text": True, **more},
            check=False,
        )

    run.folder = folder
    return run
