"""Situations that are recorded and replayed: by the tests, afresh, and once for the recordings that lie beside them.

`python tests/e2e/e2e_recordings.py tests/e2e/recordings` makes the latter anew.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FAST = ("-m", "pilot_core.testing.pilot", "--clock-scale", "100", "run")
"""The pilot's command with a clock by which pauses between tries pass."""


@dataclass(frozen=True)
class Situation:
    """What a pilot meets."""

    jobs: Callable[[Any], object]
    """Called with the site: submits the jobs."""
    fault: Mapping[str, Any] | None = None
    options: tuple[object, ...] = ()
    communicator: str = "panda"
    exit_code: int = 0
    queue: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False
    """Whether a recording of it lies beside the tests."""


def with_files(site):
    (site.storage / "in.dat").write_bytes(bytes(range(200)) * 20)
    site.script("cat in.dat in.dat > doubled.out; echo done", inputs=["in.dat"], outputs=["doubled.out"])


def failing(site):
    site.script("exit 3")


def both(site):
    with_files(site)
    failing(site)


def quick(site):
    site.submit()


REFUSED = {"fault": "refuse", "count": 2}
SITUATIONS = {
    "finished": Situation(with_files, kept=True),
    "failed": Situation(failing, kept=True),
    "two-jobs": Situation(both, options=("--jobs", 0), kept=True),
    "lost-reply": Situation(
        quick, {"fault": "reset-after", "endpoint": "update_job", "state": "finished", "count": 2}, kept=True
    ),
    "legacy": Situation(both, options=("--jobs", 0), communicator="panda-legacy", kept=True),
    "no-job": Situation(lambda _: None),
    "refused-connections": Situation(quick, REFUSED),
    "busy-server": Situation(quick, {"fault": "retry-after", "endpoint": "acquire_jobs", "seconds": 20.0}),
    "broken-answer": Situation(quick, {"fault": "truncate", "endpoint": "update_job"}),
    "page-of-a-portal": Situation(quick, {"fault": "html", "endpoint": "update_job"}),
    "silent-server": Situation(quick, {"fault": "hang", "endpoint": "update_job", "state": "finished"}),
    "silent-to-a-heartbeat": Situation(quick, {"fault": "hang", "endpoint": "update_job", "state": "running"}),
    "lost-acquisition": Situation(quick, {"fault": "reset-after", "endpoint": "acquire_jobs"}, exit_code=4),
    "never-reported": Situation(
        quick,
        {"fault": "status", "endpoint": "update_job", "state": "finished", "count": 0},
        ("--report-budget", 60),
        exit_code=4,
    ),
    "killed-by-the-server": Situation(
        lambda site: site.script("sleep 30"),
        {"fault": "tobekilled", "endpoint": "update_job", "after": 2},
        queue={"heartbeat_seconds": 60.0},
    ),
    "heartbeats": Situation(lambda site: site.script("sleep 1"), queue={"heartbeat_seconds": 20.0}),
    "limit-passed": Situation(
        lambda site: site.script("sleep 1000"),
        queue={"heartbeat_seconds": 20.0, "watchdogs": {"wall-time": {"interval": 5.0, "limit_seconds": 50}}},
    ),
    "looked-at": Situation(
        lambda site: site.script("echo hello; sleep 1", special="debug"), queue={"heartbeat_seconds": 20.0}
    ),
    "missing-output": Situation(lambda site: site.submit(outputs=["never.out"])),
    "missing-input": Situation(
        lambda site: ((site.storage / "in.dat").touch(), quick_with_input(site), (site.storage / "in.dat").unlink())
    ),
    "bad-description": Situation(lambda site: site.submit("/bin/echo", "'unbalanced")),
    "no-such-program": Situation(lambda site: site.submit("/no/such/program")),
    "sent-by-harvester": Situation(
        quick, options=("--harvester-id", "harvester", "--worker-id", 7, "--report-node", "--node", "slot1@here")
    ),
}


def quick_with_input(site):
    site.submit(inputs=["in.dat"])


def record(site, situation, folder):
    """Run a pilot in a situation and record it; returns what it ended with."""
    site.pilot["communicator"] = situation.communicator
    site.settings |= situation.queue
    situation.jobs(site)
    # a server is shared by many tests; faults are this queue's, but for the one that meets connections
    own = {} if situation.fault == REFUSED else {"queue": site.queue}
    fault = situation.fault and site.server.fault(**situation.fault, **own)
    try:
        return site.start(*situation.options, "--record", folder, command=FAST).wait()
    finally:
        if fault:
            site.server.clear_faults()


def main(target: Path) -> None:
    """Make the recordings that lie beside the tests."""
    from e2e_site import a_site
    from pilot_devserver.devserver import DevServer

    with tempfile.TemporaryDirectory(prefix="recordings-") as work:
        folder = Path(work)
        with DevServer(folder / "state", adder_delay=0.0) as server:
            for name, situation in SITUATIONS.items():
                if situation.kept:
                    shutil.rmtree(target / name, ignore_errors=True)
                    (folder / name).mkdir()
                    with a_site(server, folder / name) as site:
                        site.pilot |= {"node": "node.example", "batch_id": "7.example"}
                        record(site, situation, target / name)
                    for file in (target / name).iterdir():
                        # nothing of the machine that it was made on
                        text = file.read_text().replace(work, "/srv/example")
                        file.write_text(text.replace(f'"host": "{socket.gethostname()}"', '"host": "node.example"'))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
