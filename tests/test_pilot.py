"""The pilot before its first job."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(*options):
    command = [sys.executable, "-m", "pilot_core", "run", "--server", "https://127.0.0.1:1", "--queue", "Q", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("by_option", [False, True])
def test_settings_of_a_plugin_that_is_not_there_are_an_error_that_names_it(tmp_path, by_option):
    if by_option:
        options, place = ["--set", "stager.fil.timeout=5"], "--set stager.fil"
    else:
        file = tmp_path / "pilot.toml"
        file.write_text("[stager.fil]\ntimeout = 5\n")
        options, place = ["--config", str(file)], f"{file}: stager.fil"
    done = run("--work-dir", str(tmp_path), *options)
    assert done.returncode == 2
    assert done.stderr == f"pilot-core: {place}: no such stager is installed; did you mean 'file'?\n"
