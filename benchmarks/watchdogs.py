"""What the built-in watchdogs cost: all of them at their default intervals over a payload of many processes and files.

    python benchmarks/watchdogs.py [--processes 50] [--files 2000] [--megabytes 20] [--rounds 5]

A real payload of that many processes, each with memory of its own, runs in a directory of that many files. Every
watchdog is asked once in a round, as the pilot asks: what several of them measure is measured once. CPU seconds of a
round, and what they come to over the watchdog's interval, in per cent of a core; beside it what adding up the memory by
smaps_rollup takes, which is only done beyond a limit. Exit code 1 if all together take more than 0.1 % of a core.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from pilot_core import Context, Job, PayloadHandle, ProcessTree, Queue, SystemClock, Watched
from pilot_core.plugins import PluginSettings, Registry

MOST_PERCENT = 0.1
"""Of a core, that all watchdogs together may take."""

PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
PAYLOAD = """
import os, signal, sys
for number in range(int(sys.argv[1]) - 1):
    if not os.fork():
        break
held = bytearray(os.urandom(1 << 20)) * int(sys.argv[2])
os.write(1, b"x")
signal.pause()
"""


def cpu_of(call) -> float:
    """Return the CPU seconds that a call takes."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def dogs_of(folder: Path):
    """Yield the built-in watchdogs, by name."""
    registry = Registry.discover(PluginSettings())
    context = Context(clock=SystemClock(), log=logging.getLogger("benchmark"), work_dir=folder)
    for record in registry.records:
        if record.kind == "watchdog" and record.distribution == "pilot-core":
            provider = registry.provider("watchdog", record.name).provider
            yield record.name, provider.factory(provider.settings(), context)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--megabytes", type=int, default=20, help="memory of each process")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="watchdogs-") as work:
        folder = Path(work)
        for number in range(options.files):
            place = folder / f"folder-{number // 100}"
            place.mkdir(exist_ok=True)
            (place / f"file-{number}").write_bytes(b"x" * 1000)
        argv = [sys.executable, "-S", "-c", PAYLOAD, str(options.processes), str(options.megabytes)]
        with subprocess.Popen(["/bin/sh", "-c", '"$@"; exit', "sh", *argv], **PIPES) as payload:
            try:
                assert len(payload.stdout.read(options.processes)) == options.processes
                return measure(options, folder, payload.pid)
            finally:
                (top,) = [each for each in tree_of(payload.pid).below if each.parent == payload.pid]
                for each in tree_of(payload.pid).below:
                    if each.pid != top.pid:
                        subprocess.run(["kill", "-9", str(each.pid)], check=False)
                subprocess.run(["kill", "-9", str(top.pid)], check=False)


def tree_of(pid: int) -> ProcessTree:
    start = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return ProcessTree.of(pid, start)


def measure(options: argparse.Namespace, folder: Path, pid: int) -> int:
    job = Job(id=1, memory_mb=2000, disk_mb=1000, max_cpu_seconds=3600, max_wall_seconds=3600)
    watched = Watched(
        job=job,
        handle=PayloadHandle(executor="benchmark", version=1, data={}),
        job_dir=folder,
        started=0.0,
        now=60.0,
        queue=Queue(name="BENCHMARK", max_memory_mb=64_000, max_disk_mb=64_000),
        process=(pid, tree_of(pid).root.start_time),
    )
    assert len(watched.processes.below) == options.processes
    spent: dict[str, list[float]] = {}
    dogs = dict(dogs_of(folder))
    for number in range(options.rounds + 1):
        moment = replace(watched, now=60.0 * (number + 1))
        for name, dog in dogs.items():
            found: list[object] = []
            seconds = cpu_of(lambda dog=dog, moment=moment, found=found: found.append(dog.check(moment)))
            assert found == [None], (name, found)
            if number:  # the first round imports
                spent.setdefault(name, []).append(seconds)
    print(f"{options.processes} processes of {options.megabytes} MB, {options.files} files; CPU, medians")
    print(f"{'watchdog':<14}{'interval s':>11}{'a look ms':>12}{'% of a core':>14}")
    percent = 0.0
    for name, dog in dogs.items():
        seconds = statistics.median(spent[name])
        percent += 100 * seconds / dog.interval
        print(f"{name:<14}{dog.interval:>11.0f}{seconds * 1000:>12.2f}{100 * seconds / dog.interval:>14.4f}")
    print(f"{'together':<14}{'':>11}{'':>12}{percent:>14.4f}")
    tree = tree_of(pid)
    pss = statistics.median(cpu_of(tree.pss_kb) for _ in range(options.rounds))
    print(
        f"beyond a limit of memory, PSS by smaps_rollup: {pss * 1000:.1f} ms ({pss / 0.6:.3f} % of a core, each minute)"
    )
    return 0 if percent <= MOST_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
