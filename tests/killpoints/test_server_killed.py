"""A server that is killed at every request of a job, and comes back with what it has on disk.

It is killed as it gets the request, when it has carried it out and sent nothing, and when it has sent the answer.
The pilot goes on all the same: one run of the payload, one final report, all outputs once and whole.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from e2e_processes import PATIENCE, ServerProcess, environment
from e2e_site import a_site

INPUT = b"of the input\n" * 1000
REQUESTS = ("acquire_jobs", "update_job", "update_job", "update_job")
"""What a pilot asks the server for, from a job to its end; a test sees that this is all."""
MOMENTS = ("before", "after", "answered")
ACQUIRE = 1
"""The number of the request for a job."""


class KilledServer(ServerProcess):
    """A server that kills itself at a request; started again it does not."""

    def __init__(self, folder, where):
        self.where, self.told = where, folder / "requests"
        super().__init__(folder)

    def start(self):
        read, write = os.pipe()
        words = [Path(__file__).parent / "killed_server.py", self.where, "serve", "--state-dir", self.state.path]
        words += ["--port", self.port, "--adder-delay", 0, "--log-level", "error", "--no-web", "--ready-fd", write]
        surroundings = {**environment(), "KILLED_SERVER_TOLD": str(self.told)}
        self.process = subprocess.Popen(
            [sys.executable, *map(str, words)], env=surroundings, pass_fds=[write], stdout=subprocess.DEVNULL
        )
        os.close(write)
        with os.fdopen(read) as stream:
            ready = stream.readline()
        assert ready, "the server does not start"
        self.url = json.loads(ready)["url"]
        self.port = int(self.url.rpartition(":")[2])

    @property
    def requests(self):
        """The methods that were called, from the first start on."""
        return self.told.read_text().split()

    def revive(self):
        """Wait until the server has killed itself, and start it again at the same port."""
        assert self.process.wait(PATIENCE) == -signal.SIGKILL
        self.where = "none"
        self.start()


@pytest.fixture
def killed_site(tmp_path, where):
    """A queue of a server that is killed somewhere."""
    server = KilledServer(tmp_path, where)
    try:
        with a_site(server, tmp_path) as site:
            (site.storage / "in.dat").write_bytes(INPUT)
            yield site
    finally:
        server.close()


def submit(site, first="true"):
    """Submit a job that does something first."""
    text = f"{first}; echo run >> {site.folder}/runs; cat in.dat > a.out; echo said"
    return site.script(text, inputs=["in.dat"], outputs=["a.out"])


def check(site, job):
    found = site.job(job)
    assert (site.folder / "runs").read_text().split() == ["run"]
    assert [status for _, status in found.history if status in {"finished", "failed"}] == ["finished"]
    assert json.loads(found.report)["a.out"]["adler32"] == f"{zlib.adler32(INPUT):08x}"
    assert (site.storage / "a.out").read_bytes() == INPUT
    archives = [path for path in site.storage.iterdir() if path.name not in {"in.dat", "a.out"}]
    assert len(archives) == 1, archives
    assert site.log_of(job)["payload.stdout"] == b"said\n"
    site.check_clean()


@pytest.mark.parametrize("where", ["none"])
def test_these_are_all_requests_of_a_job(killed_site):
    job = submit(killed_site)
    assert killed_site.run("--jobs", 1).code == 0
    check(killed_site, job)
    assert tuple(killed_site.server.requests) == REQUESTS


def kill_points(numbers, moments=MOMENTS):
    """Return what parametrizes a test with these moments of these requests."""
    return [
        pytest.param(f"{number}:{moment}", id=f"{number}-{REQUESTS[number - 1]}-{moment}")
        for number in numbers
        for moment in moments
    ]


@pytest.mark.parametrize(
    "where", [*kill_points([ACQUIRE], ["answered"]), *kill_points(range(ACQUIRE + 1, len(REQUESTS) + 1))]
)
def test_server_killed_at(killed_site):
    """An update is repeated until somebody answers, and does no harm where it was carried out the first time."""
    job = submit(killed_site)
    pilot = killed_site.start("--jobs", 1)
    killed_site.server.revive()
    ended = pilot.wait()
    print(ended.text)
    assert ended.code == 0
    check(killed_site, job)


@pytest.mark.parametrize("where", kill_points([ACQUIRE], ["before", "after"]))
def test_server_killed_at_the_request_for_a_job(killed_site, where):
    """No answer may have been a job: the pilot says so and ends, and the next one gets whatever there still is."""
    job = submit(killed_site)
    pilot = killed_site.start("--jobs", 1)
    killed_site.server.revive()
    ended = pilot.wait()
    assert ended.code == 4
    assert ended.says("may have been given to this pilot all the same")
    killed_site.check_clean()
    if where.endswith("after"):
        assert killed_site.job(job).status == "sent"
        lost, job = job, submit(killed_site)
    assert killed_site.run("--jobs", 1).code == 0
    check(killed_site, job)
    if where.endswith("after"):
        assert [found.id for found in killed_site.jobs() if found.status == "sent"] == [lost]


@pytest.mark.parametrize("where", [f"4:{moment}" for moment in MOMENTS])
def test_server_killed_at_a_heartbeat(killed_site):
    killed_site.settings["heartbeat_seconds"] = 0.2
    gate = killed_site.gate()
    job = submit(killed_site, gate.script)
    pilot = killed_site.start("--jobs", 1)
    gate.wait()
    killed_site.server.revive()
    gate.open()
    ended = pilot.wait()
    print(ended.text)
    assert ended.code == 0
    check(killed_site, job)
