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


def write_what_the_readme_shows(checkout, folder):
    """Have the files lie there that a reader makes of the README's words: a job, a site with a tape, and a text."""
    for fence in checkout.fences():
        data = tomli.loads(fence.text) if (fence.document, fence.language) == ("README.md", "toml") else {}
        if "transformation" in data:
            (folder / "job.toml").write_text(fence.text)
        elif "stager" in data:
            (folder / "tape.toml").write_text(fence.text)
    (folder / "tapes" / "library").mkdir(parents=True)
    (folder / "tapes" / "library" / "words.txt").write_text("b\na\n")


@pytest.mark.parametrize("document", [name for name, entries in COVERED.items() if "run" in entries.values()])
def test_the_commands_of_a_readme_work_in_their_order(document, checkout, tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(checkout.root, clone, ignore=LEFT_BEHIND, symlinks=True)
    if document == "README.md":
        write_what_the_readme_shows(checkout, clone)
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
                f"{document} line {line}: {command}: exit {done.returncode}\n"
                f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            )
    if document == "README.md":
        assert (clone / "tapes" / "library" / "sorted.txt").read_text() == "a\nb\n"
