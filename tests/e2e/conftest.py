"""Development servers, commands typed beside them, and pilots as processes of their own.

Two ways: the README's lines typed in a shell beside a server that was started with the README's line (`server`,
`shell`), and pilots on one server that all tests share, each with a queue of its own (`site`).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pilot_devserver.devserver import DevServer

# pytest's import mode finds no module beside this one
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("e2e_processes", "e2e_recordings", "e2e_site")

from e2e_processes import ServerProcess, environment  # noqa: E402
from e2e_site import a_site, use_slow_stager  # noqa: E402


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
    line = documented("pilot-core serve ")
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


# -- pilots, each test with a queue of its own, on one server for all --------------------------------------------------


_WITH_PERMISSIONS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (linux/capability.h)
    if libc.prctl(24, capability, 0, 0, 0) and os.geteuid() == 0:  # PR_CAPBSET_DROP (linux/prctl.h)
        raise OSError(ctypes.get_errno(), "prctl")
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="session")
def unprivileged():
    """Words before a command for which files' permissions count even if the tests run as root."""
    return sys.executable, "-c", _WITH_PERMISSIONS


_ON_SMALL_DISK = """
mount -t tmpfs -o "size=$1" none "$2" || exit 99
test -z "$3" || cat /dev/zero > "$2/filler" 2> /dev/null
folder=$2 listing=$4
shift 4
"$@"
code=$?
ls -A "$folder" > "$listing"
exit $code
"""


@pytest.fixture
def on_small_disk(own_mounts, tmp_path):
    """Make the words before a command that sees a small disk in the place of a folder; `left` tells what is on it."""

    def words(folder, size, *, fill=False):
        return *own_mounts, "sh", "-c", _ON_SMALL_DISK, "sh", size, folder, "fill" if fill else "", tmp_path / "left"

    words.left = lambda: [name for name in (tmp_path / "left").read_text().split() if name != "pilot.sqlite"]
    return words


@pytest.fixture
def own_server(tmp_path):
    """A server for this test alone, in a process of its own."""
    server = ServerProcess(tmp_path)
    yield server
    server.close()


@pytest.fixture
def own_site(own_server, tmp_path):
    """A queue of that server."""
    with a_site(own_server, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def panda(tmp_path_factory):
    """One development server for all tests, over TLS, in a thread of this process."""
    with DevServer(tmp_path_factory.mktemp("panda") / "state", adder_delay=0.0) as server:
        yield server


@pytest.fixture
def site(panda, tmp_path):
    """A queue of the test's own, and pilots for it."""
    with a_site(panda, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def module_site(panda, tmp_path_factory):
    """One for all tests of a module."""
    with a_site(panda, tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="session")
def slow_storage():
    """Have inputs of a site come from a storage that takes its time; returns the gate at which they wait."""
    return use_slow_stager
