"""The kits of communicators and server protocols themselves: what is missing is told, sides may be of any sort."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MUTANTS = Path(__file__).resolve().parents[1] / "mutants"
KIT = """
import pytest
from communicator.reference import reference
from server_protocol.reference import reference as protocol
from pilot_core.testing import CommunicatorKit, ProtocolServer, ServerProtocolKit
"""


@pytest.fixture
def run(tmp_path):
    """Run a test file with a kit; return its output."""

    def run(text, *options):
        file = tmp_path / "test_it.py"
        file.write_text(KIT + text, encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            *options,
            str(file),
        ]
        environment = {**os.environ, "PYTHONPATH": str(MUTANTS)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.stdout

    return run


def test_a_missing_server_is_told(run):
    told = run("class TestIt(CommunicatorKit):\n    plugin = pytest.fixture(lambda self: reference())\n", "-k", "alive")
    assert "override the fixture `server` in TestIt: yield the other side" in told
    assert "passed" not in told


def test_a_missing_dialect_is_told(run):
    told = run(
        "class TestIt(ServerProtocolKit):\n    plugin = pytest.fixture(lambda self: protocol())\n", "-k", "no_job"
    )
    assert "override the fixture `dialect` in TestIt: return an object with the methods" in told
    assert "passed" not in told


def test_a_side_that_can_do_nothing_but_answer_is_enough(run):
    """Plain http, no fault, no broken description, no header to look at: what then remains is kept."""
    told = run(
        """
class Simple:
    def __init__(self, server):
        self.server = server
        self.url, self.ca_file, self.faults, self.broken = server.url, None, frozenset(), frozenset()

    def __getattr__(self, name):
        return getattr(self.server, name)


class TestIt(CommunicatorKit):
    dropped = {"JobRequest.job_type": "the store takes no such wish", "WorkerNode.*": "for this test"}
    plugin = pytest.fixture(lambda self: reference())

    @pytest.fixture
    def server(self, tmp_path):
        with ProtocolServer(protocol(), tmp_path, tls=False) as server:
            yield Simple(server)
""",
        "-k",
        "arrive or handed or alive or twice or mix or called_off or repeated or closed or listed or secrets",
    )
    assert "failed" not in told and "error" not in told, told[-3000:]  # noqa: PT018
    assert int(told.rpartition(" passed")[0].split()[-1]) > 100
