"""The README's commands around a development server, with the README's own words."""

from __future__ import annotations

import shlex
from pathlib import Path


def test_serve_submit_and_run_as_documented(documented, shell, server, states):
    shell(documented("pilot-core submit"))
    shell(documented("pilot-core run --config state/pilot.toml --jobs"))
    assert states() == ["finished"]


def test_run_as_documented_takes_jobs_until_there_are_none(documented, shell, server, states, tmp_path):
    """The line as it stands, with this server's values, and the tables that a site would have."""
    for _ in range(2):
        shell(documented("pilot-core submit"))
    words = shlex.split(documented("pilot-core run --server"))
    for option, value in (("--server", server["url"]), ("--queue", server["queue"]), ("--cert", server["proxy"])):
        words[words.index(option) + 1] = value
    tables = Path(server["config"]).read_text().partition("\n[queues.")
    (tmp_path / "site.toml").write_text(tables[1] + tables[2])
    shell(shlex.join([*words, "--ca-file", server["ca_file"], "--config", "site.toml"]))
    assert states() == ["finished", "finished"]


def test_faults_are_planted_as_documented(documented, shell, server, states):
    shell(documented("pilot-core submit"))
    shell(documented("pilot-core server fault add"))
    assert "reset-after" in shell(documented("pilot-core server fault list"))
    shell(documented("pilot-core run --config state/pilot.toml --jobs"))
    assert states() == ["finished"]
    (row,) = [line for line in shell(documented("pilot-core server fault list")).splitlines() if "reset-after" in line]
    assert "2" in row.split(), f"the fault did not strike twice: {row}"
