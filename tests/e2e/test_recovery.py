"""Pilots that are killed, and the next one in the same work directory."""

from __future__ import annotations

import signal

import pytest

OUTPUT = b"of the payload\n"


def killed_at(site, where, *options):
    """Run a pilot that is killed at a point of its journal."""
    pilot = site.start(*options, command=("-m", "pilot_core.testing.pilot", "--kill-at", where, "run"))
    ended = pilot.wait()
    print(ended.text)
    assert ended.code == -signal.SIGKILL, ended.text
    return ended


@pytest.fixture
def job(site):
    """A job with an input and an output, whose runs are counted outside of the work directory."""
    (site.storage / "in.dat").write_bytes(OUTPUT)
    text = f"echo run >> {site.folder}/runs; cat in.dat > x.out; echo said"
    return site.script(text, inputs=["in.dat"], outputs=["x.out"])


def runs(site):
    file = site.folder / "runs"
    return file.read_text().count("run") if file.exists() else 0


def check_whole(site, job):
    """See that one payload ran, one report came, and everything is where it belongs."""
    assert runs(site) == 1
    found = site.job(job)
    assert found.status == "finished"
    assert [status for _, status in found.history].count("finished") == 1
    assert (site.storage / "x.out").read_bytes() == OUTPUT
    files = site.log_of(job)
    assert files["payload.stdout"] == b"said\n"
    return files


POINTS = [
    "acquired",
    "state-stage-in",
    "state-start",
    "payload-starting",
    "payload-started",
    "state-running",
    "payload-ended",
    "state-stage-out",
    "stored",
    "state-report",
    "report-ready",
    "report-acknowledged",
    "state-done",
    "closed",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_pilots_job_is_brought_to_its_end_by_the_next(site, job, point):
    killed_at(site, f"{point}:after")
    ended = site.run()
    assert ended.code == 0
    check_whole(site, job)
