"""The README's commands around a development server, with the README's own words."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def shell(tmp_path):
    """Run a command line as a reader would, in an empty directory; returns what it printed."""

    def run(line):
        done = subprocess.run(
            ["bash", "-c", line],
            check=False,
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{line}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def environment():
    """Return an environment in which `pilot-core` is the one that is tested."""
    return {"PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]), "HOME": "/nonexistent"}


def documented(checkout, start):
    """Return the README's one command that begins with `start`."""
    commands = [text for fence in checkout.fences() if fence.document == "README.md" for _, text in fence.commands]
    (command,) = [text for text in commands if text.startswith(start)]
    return command


@pytest.fixture
def server(checkout, tmp_path):
    """A development server, started with the README's line; what it says of itself."""
    line = documented(checkout, "pilot-core serve")
    read, write = os.pipe()
    process = subprocess.Popen(
        [*shlex.split(line), "--ready-fd", str(write), "--adder-delay", "0"],
        cwd=tmp_path,
        env=environment(),
        pass_fds=[write],
    )
    os.close(write)
    with os.fdopen(read) as stream:
        ready = stream.readline()
    assert ready, f"{line}: exit {process.wait()}"
    yield json.loads(ready)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0


def finished(shell, server):
    """Return the states of the server's jobs."""
    return [
        job["status"]
        for job in json.loads(shell(f"pilot-core server jobs --json --state-dir {server['state_dir']}"))["jobs"]
    ]


def test_serve_submit_and_run_as_documented(checkout, shell, server):
    shell(documented(checkout, "pilot-core submit"))
    shell(documented(checkout, "pilot-core run --config"))
    assert finished(shell, server) == ["finished"]


def test_run_as_documented_takes_jobs_until_there_are_none(checkout, shell, server, tmp_path):
    """The line as it stands, with this server's values, and the tables that a site would have."""
    for _ in range(2):
        shell(documented(checkout, "pilot-core submit"))
    words = shlex.split(documented(checkout, "pilot-core run --server"))
    for option, value in (("--server", server["url"]), ("--queue", server["queue"]), ("--cert", server["proxy"])):
        words[words.index(option) + 1] = value
    tables = Path(server["config"]).read_text().partition("\n[queues.")
    (tmp_path / "site.toml").write_text(tables[1] + tables[2])
    shell(shlex.join([*words, "--ca-file", server["ca_file"], "--config", "site.toml"]))
    assert finished(shell, server) == ["finished", "finished"]
