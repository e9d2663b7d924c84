"""The replay of recorded exchanges, as the development server's README has it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_the_readmes_replay_finds_no_difference():
    readme = (CHECKOUT / "plugins/devserver/README.md").read_text()
    line = next(line for line in readme.splitlines() if line.startswith("python -m pilot_devserver.replay "))
    command = [sys.executable, *shlex.split(line)[1:]]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "223 exchanges: 222 equal, 0 differing, 1 left out"


def test_a_differing_answer_is_exit_code_1(tmp_path):
    name = "plugins/communicator-panda/tests/recordings/exchanges-v1.jsonl"
    text = (CHECKOUT / name).read_text()
    changed = tmp_path / "changed.jsonl"
    changed.write_text(text.replace("expecting POST, received GET", "expecting POST, received PUT"))
    command = [sys.executable, "-m", "pilot_devserver.replay", "--quiet", str(changed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 differing" in done.stdout
