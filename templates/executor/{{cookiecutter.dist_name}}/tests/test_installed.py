"""The plugin as a site sees it: installed, listed, in order."""

from __future__ import annotations

import json
import subprocess
import sys

DISTRIBUTION = "{{ cookiecutter.dist_name }}"


def test_list_plugins_shows_it_as_ok() -> None:
    """`pilot-core list-plugins --check` imports it in a process of its own, as the pilot would."""
    command = [sys.executable, "-m", "pilot_core", "list-plugins", "--check", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    rows = [row for row in json.loads(done.stdout)["plugins"] if row["distribution"] == DISTRIBUTION]
    assert rows, "not installed for this Python: pip install -e ."
    wrong = [f"{row['status']}: {row['reason']}" for row in rows if row["status"] != "ok"]
    assert not wrong, "\n".join(wrong)
