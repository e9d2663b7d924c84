"""A development server of its own for each test, and commands typed beside it."""

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


@pytest.fixture
def documented(checkout):
    """Find the README's one command that begins with some words."""
    commands = [text for fence in checkout.fences() if fence.document == "README.md" for _, text in fence.commands]

    def find(start):
        (command,) = [text for text in commands if text.startswith(start)]
        return command

    return find


@pytest.fixture
def server(documented, tmp_path):
    """A development server, started with the README's line; what it says of itself."""
    line = documented("pilot-core serve")
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


@pytest.fixture
def states(shell, server):
    """Tell the states of the server's jobs."""

    def ask():
        listed = shell(f"pilot-core server jobs --json --state-dir {shlex.quote(server['state_dir'])}")
        return [job["status"] for job in json.loads(listed)["jobs"]]

    return ask
