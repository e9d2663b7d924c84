"""What the staging engine costs: many small local files against `cp -r`, the memory that ten thousand of them take.

    python benchmarks/staging.py [--files 1000] [--size 65536] [--pairs 5] [--many 10000] [--folder DIR]

Everything that a job's stage-in does is in the time, and nothing of the pilot's start: planning, selection, the file
stager with its checksum, the ledger as a list and as a file, two logs. Contents are verified outside the timing. Ratios
are of medians of pairs that take turns; CPU seconds, children's included, stand beside them.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pilot_core import CancelToken, Context, InputFile, Queue, Storage, SystemClock
from pilot_core.logs import JobLog, Redactor, job_logger, set_up_logging
from pilot_core.plugins import PluginSettings, Registry
from pilot_core.staging import AttemptFile, Backends, Limits, Mover, Space

MOST_MS = 0.3
"""Milliseconds that a small file may take."""
MOST_MB = 64
"""Megabytes by which memory may grow."""


def make_files(folder: Path, count: int, size: int) -> list[InputFile]:
    """Make the storage's files and describe them as a catalogue would."""
    folder.mkdir()
    files = []
    for number in range(count):
        data = os.urandom(16) * (size // 16) + bytes(size % 16)
        (folder / f"file-{number:05}.root").write_bytes(data)
        checksum = f"adler32:{zlib.adler32(data):08x}"
        files.append(InputFile(lfn=f"file-{number:05}.root", size=size, checksum=checksum))
    return files


def queue_of(storage: Path) -> Queue:
    """Return a queue that reads from a folder."""
    return Queue(name="BENCH", storages={"S": Storage(rse="S", url=storage.as_uri())}, read=("S",))


def backends_of(queue: Queue) -> Backends:
    """Return the stagers of a pilot: made once, before its first job."""
    registry = Registry.discover(PluginSettings())

    def make(kind: str, name: str, hook: str) -> object:
        provider = registry.provider(kind, name, hook).provider
        context = Context(clock=SystemClock(), log=logging.getLogger("pilot_core.plugin"), work_dir=Path())
        return provider.factory(provider.settings(), context)

    backends = Backends(registry, queue, make)
    backends.load()
    return backends


def stage_in(queue: Queue, backends: Backends, files: list[InputFile], folder: Path, transfers: int) -> None:
    """Bring all files in, as a job does."""
    clock, redactor = SystemClock(), Redactor()
    folder.mkdir()
    payload = folder / "payload"
    payload.mkdir()
    with ExitStack() as stack:
        stream = stack.enter_context(open(os.devnull, "w"))
        set_up_logging(stream, "info", clock, redactor)
        stack.callback(JobLog(folder / "pilot.log", 1, clock, redactor).close)
        ledger = AttemptFile(folder / "transfers.jsonl", redactor.clean)
        stack.callback(ledger.close)
        mover = Mover(
            queue=queue,
            backends=backends,
            clock=clock,
            log=job_logger(1, "staging"),
            listener=ledger.write,
            limits=Limits(transfers=transfers),
            space=Space(),
        )
        mover.bring_all_in([(file, payload / file.lfn) for file in files], cancel=CancelToken())


def timed(what: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    before, begun = os.times(), time.perf_counter()
    what()
    wall, after = time.perf_counter() - begun, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


def verify(folder: Path, files: list[InputFile]) -> None:
    """Make sure that all files are there, whole."""
    for file in files:
        data = (folder / file.lfn).read_bytes()
        if len(data) != file.size or f"adler32:{zlib.adler32(data):08x}" != file.checksum:
            sys.exit(f"{folder / file.lfn} is not what the storage has")


def small_files(arguments: argparse.Namespace, top: Path) -> bool:
    """Compare the engine with `cp -r`."""
    storage = top / "storage"
    files = make_files(storage, arguments.files, arguments.size)
    queue = queue_of(storage)
    backends = backends_of(queue)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for number in range(arguments.pairs + 1):
        job, copy = top / f"job-{number}", top / f"copy-{number}"
        mine = timed(partial(stage_in, queue, backends, files, job, arguments.transfers))
        native = timed(partial(subprocess.run, ["cp", "-r", storage, copy], check=True))
        verify(job / "payload", files)
        shutil.rmtree(job)
        shutil.rmtree(copy)
        if number:  # the first pair warms up
            ours.append(mine)
            theirs.append(native)
    rows = []
    for name, times in (("pilot-core", ours), ("cp -r", theirs)):
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        rows.append((name, wall, cpu, wall / arguments.files * 1000))
    print(f"{arguments.files} files of {arguments.size} bytes, medians of {arguments.pairs} pairs")
    print(f"{'':12} {'wall s':>8} {'CPU s':>8} {'ms a file':>10}")
    for name, wall, cpu, each in rows:
        print(f"{name:12} {wall:8.3f} {cpu:8.3f} {each:10.3f}")
    print(
        f"ratio of wall times, pilot-core to cp -r: {rows[0][1] / rows[1][1]:.2f}; at most {MOST_MS} ms a file wanted"
    )
    shutil.rmtree(storage)
    return bool(rows[0][3] <= MOST_MS)


def memory(arguments: argparse.Namespace, top: Path) -> bool:
    """Say by how much the peak of memory grows with many files."""
    storage = top / "many"
    files = make_files(storage, arguments.many, 1024)
    queue = queue_of(storage)
    backends = backends_of(queue)
    stage_in(queue, backends, files[:10], top / "job-few", arguments.transfers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = timed(lambda: stage_in(queue, backends, files, top / "job-many", arguments.transfers))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    verify(top / "job-many/payload", files)
    each = wall / arguments.many * 1000
    print(f"{arguments.many} files of 1024 bytes: {wall:.2f} s, CPU {cpu:.2f} s, {each:.3f} ms a file")
    print(f"peak of memory grows by {grown:.1f} MB; at most {MOST_MB} MB wanted")
    return grown <= MOST_MB


def main() -> int:
    """Run both, and fail if one is beyond its limit."""
    parser = argparse.ArgumentParser(description="what the staging engine costs")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--size", type=int, default=64 * 1024)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--transfers", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where to work; a file system in memory shows the engine best")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pilot-core-staging-", dir=arguments.folder) as top:
        good = small_files(arguments, Path(top))
        return 0 if memory(arguments, Path(top)) and good else 1


if __name__ == "__main__":
    sys.exit(main())
