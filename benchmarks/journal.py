"""What the journal adds to a job: every write of a plain job with one output and a log, as the pilot makes them.

    python benchmarks/journal.py [--jobs 40] [--rounds 5] [--folder DIR]

The journal lies in a new directory below `--folder` (a disk, for a number that means something), and beside it, in
turn, on /dev/shm, where nothing waits for a disk: its CPU there is the journal's own work. Milliseconds a job, the
medians of the rounds; and how long the disk takes for one flush (fdatasync of 4 kB). On a disk whose flush takes 0.2 ms
a job then costs the journal's own work and 0.2 ms for each write that is made durable: exit code 1 beyond 3 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from pilot_core import Job, OutputFile, SystemClock
from pilot_core.journal.points import DURABLE, point_of
from pilot_core.journal.records import Identity, Taken
from pilot_core.journal.store import PilotJournal

FLUSH_MS = 0.2
"""Milliseconds that a flush takes on the disk of the promise."""
MOST_MS = 3.0
"""Milliseconds that the journal may add to a job there."""

RESULT = {"exit_code": 0, "signal": None, "started": 1.0, "ended": 2.0, "user_seconds": 0.1, "system_seconds": 0.1}
FILE = {"lfn": "user.out", "guid": "0" * 36, "size": 1000, "checksum": "adler32:00000001", "surl": "file:///s/user.out"}
ATTEMPT = {"activity": "write", "lfn": "user.out", "url": "file:///s/user.out", "outcome": "ok", "seconds": 0.01}
REPORT = {"update": {"state": "finished", "files": [FILE] * 2, "metadata": {"pilot": {"attempts": [ATTEMPT] * 3}}}}
PHASES = {"get-job": 0.01, "stage-in": 0.1, "payload": 1.0, "stage-out": 0.1}
STEPS = (
    ("state", {"old": "acquired", "new": "stage-in", "phases": PHASES, "failures": []}),
    ("state", {"old": "stage-in", "new": "start", "phases": PHASES, "failures": []}),
    ("payload-starting", {"argv": ["/bin/sh", "-c", "x" * 200], "shell": False}),
    ("payload-started", {"handle": {"executor": "process", "version": 1, "data": {"pid": 1, "boot_id": "0" * 36}}}),
    ("state", {"old": "start", "new": "running", "phases": PHASES, "failures": []}),
    ("payload-ended", {"result": RESULT}),
    ("state", {"old": "running", "new": "stage-out", "phases": PHASES, "failures": []}),
    ("stored", {"lfn": "user.out", "report": FILE, "elsewhere": False}),
    ("stored", {"lfn": "log.tgz", "report": FILE, "elsewhere": False}),
    ("state", {"old": "stage-out", "new": "report", "phases": PHASES, "failures": []}),
    ("report-ready", {"report": REPORT}),
    ("report-acknowledged", {"commands": []}),
    ("state", {"old": "report", "new": "done", "phases": PHASES, "failures": []}),
    ("closed", {}),
)
DURABLE_WRITES = 1 + sum(point_of(step, details) in DURABLE for step, details in STEPS)
"""Those of a job: that it was taken, and of its steps."""


def milliseconds_a_job(folder: Path, jobs: int) -> tuple[float, float]:
    """Return what a journal in a folder takes for a job: milliseconds, and those of CPU in them."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        journal = PilotJournal.open(Path(work), SystemClock())
        begun, cpu = time.perf_counter(), time.process_time()
        for number in range(jobs):
            job = Job(id=number, attempt=1, transformation="/bin/sh", log=OutputFile(lfn="log.tgz"))
            taken = Taken(job=job, job_dir=Path(work) / f"job-{number}")
            journal.known(job, "https://panda")
            ask = journal.asking("https://panda", "Q")
            (one,) = journal.acquired(ask, [taken], server="https://panda", queue="Q", identity=Identity())
            for step, details in STEPS:
                one.record(step, **details)
        seconds, used = time.perf_counter() - begun, time.process_time() - cpu
        journal.close()
    return seconds * 1000 / jobs, used * 1000 / jobs


def flush_ms(folder: Path) -> float:
    """Return how long a flush takes: an fdatasync of 4 kB over what was there before."""
    found = []
    with tempfile.TemporaryFile(dir=folder) as file:
        os.pwrite(file.fileno(), bytes(4096), 0)
        os.fsync(file.fileno())
        for _ in range(20):
            os.pwrite(file.fileno(), os.urandom(4096), 0)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - begun)
    return statistics.median(found) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path())
    arguments = parser.parse_args()
    milliseconds_a_job(Path("/dev/shm"), 2)
    flushes, disk, memory = [], [], []
    for _ in range(arguments.rounds):
        flushes.append(flush_ms(arguments.folder))
        disk.append(milliseconds_a_job(arguments.folder, arguments.jobs))
        memory.append(milliseconds_a_job(Path("/dev/shm"), arguments.jobs))
    own = statistics.median(used for _, used in memory)
    promised = own + DURABLE_WRITES * FLUSH_MS
    print(f"{'':34}{'ms a job':>10}{'CPU ms':>10}")
    for name, found in ((f"on {arguments.folder.absolute()}", disk), ("on /dev/shm", memory)):
        total, used = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name[-32:]:34}{total:10.2f}{used:10.2f}")
    print(
        f"a flush of the disk takes {statistics.median(flushes):.2f} ms; {DURABLE_WRITES} writes of a job are durable"
    )
    print(f"on a disk whose flush takes {FLUSH_MS} ms: {promised:.2f} ms a job (at most {MOST_MS})")
    return 1 if promised > MOST_MS else 0


if __name__ == "__main__":
    sys.exit(main())
