"""The READMEs' commands that `documented.toml` calls `run`, as a reader would type them after cloning.

Each README's in order, in a copy of the checkout, with a fresh environment first on the PATH (an activated one).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

ROOT = Path(__file__).resolve().parents[2]
COVERED = tomli.loads((ROOT / "tests/documented.toml").read_text(encoding="utf-8"))
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".nox", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "build", "dist"
)


@pytest.mark.parametrize("document", [name for name, entries in COVERED.items() if "run" in entries.values()])
def test_the_commands_of_a_readme_work_in_their_order(document, checkout, tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(checkout.root, clone, ignore=LEFT_BEHIND, symlinks=True)
    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", str(fresh)], check=True)
    environment = {
        "HOME": os.environ.get("HOME", str(tmp_path)),
        "PATH": os.pathsep.join([str(fresh / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
        "LC_ALL": "C.UTF-8",
        # where packages come from is this machine's business
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_PROXY")},
    }
    for fence in checkout.fences():
        if fence.document != document:
            continue
        for line, command in fence.commands if fence.language in {"console", "bash"} else ():
            if COVERED[document].get(command) != "run":
                continue
            done = subprocess.run(
                ["bash", "-c", command],
                check=False,
                cwd=clone,
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            assert done.returncode == 0, (
                f"{document} line {line}: {command}: exit {done.returncode}\n{done.stderr[-2000:]}"
            )
