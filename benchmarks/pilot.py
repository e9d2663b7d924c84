"""What the pilot costs, measured as whole processes against the development server on loopback, over TLS.

`python benchmarks/pilot.py [--runs N] [--jobs N] [--sleep SECONDS] [--json FILE]` prints a table: this pilot, the floor
measured in the same run (`floor.py`), their ratio, and PanDA Pilot 3 where it was measured on the same work (3.11.5.1,
two cores, plain HTTP; it is not run here).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import tomli

HERE = Path(__file__).parent
QUEUE = "BENCH"
PILOT_CORE = [sys.executable, "-m", "pilot_core"]


@dataclass
class Run:
    """One finished process."""

    begun: float
    seconds: float
    cpu_seconds: float
    peak_mb: float
    work_dir: Path

    def journals(self) -> list[list[dict[str, Any]]]:
        files = sorted(self.work_dir.glob("job-*/journal.jsonl"))
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


class Bench:
    """A development server with one queue, and what is timed against it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        read, write = os.pipe()
        self.server = subprocess.Popen(
            [*PILOT_CORE, "serve", "--state-dir", self.state, "--queue", QUEUE, "--ready-fd", str(write)],
            pass_fds=[write],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "server.log").open("w"),
        )
        os.close(write)
        if not os.read(read, 1):
            sys.exit((folder / "server.log").read_text())
        os.close(read)

    def submit(self, count: int, transformation: str, parameters: str = "") -> None:
        # no files at all, not even a log: what Pilot 3 was measured with
        options = ["--transformation", transformation, f"--parameters={parameters}", "--count", str(count), "--no-log"]
        command = [*PILOT_CORE, "submit", "--state-dir", str(self.state), "--queue", QUEUE, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def time(self, command: list[str], work_dir: Path) -> Run:
        begun, start = time.time(), time.perf_counter()
        with (self.folder / "pilot.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{command} exited with {process.returncode}\n" + (self.folder / "pilot.log").read_text())
        return Run(begun, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, work_dir)

    def pilot(self, jobs: int, *, keep: bool = True) -> Run:
        work_dir = Path(tempfile.mkdtemp(prefix="work-", dir=self.folder))
        return self.time(self.command(jobs, work_dir, keep=keep), work_dir)

    def command(self, jobs: int, work_dir: Path, *, keep: bool = True) -> list[str]:
        options = ["--config", str(self.state / "pilot.toml"), "--queue", QUEUE, "--jobs", str(jobs)]
        kept = ["--keep-job-dirs"] if keep else []
        return [*PILOT_CORE, "run", *options, "--work-dir", str(work_dir), *kept]

    def floor(self) -> Run:
        own = tomli.loads((self.state / "pilot.toml").read_text())["pilot"]
        files = [str(self.state / own[name]) for name in ("ca_file", "cert")]
        return self.time([sys.executable, str(HERE / "floor.py"), own["server"], *files, QUEUE], self.folder)

    def close(self) -> None:
        self.server.terminate()
        self.server.wait()


def at(journal: list[dict[str, Any]], step: str) -> float:
    return next(entry["at"] for entry in journal if entry["step"] == step)


def one_job(bench: Bench, runs: int) -> dict[str, tuple[float, float | None]]:
    """Time one trivial job, interleaved with the floor."""
    pilots, floors = [], []
    bench.submit(2 * (runs + 1), "/bin/true")
    for number in range(runs + 1):
        pilot, floor = bench.pilot(1), bench.floor()
        if number:  # the first of each warms the caches
            pilots.append(pilot)
            floors.append(floor)
    ends = [journal for pilot in pilots for journal in pilot.journals()]
    median = statistics.median
    acquired = [at(run.journals()[0], "acquired") - run.begun for run in pilots]
    reported = [
        at(journal, "report-acknowledged")
        - next(entry["result"]["ended"] for entry in journal if entry["step"] == "payload-ended")
        for journal in ends
    ]
    least = median(run.seconds for run in floors)
    return {
        "start to first job acquired (s)": (median(acquired), None),
        "payload end to report acknowledged (s)": (median(reported), None),
        "one /bin/true job, start to exit (s)": (median(run.seconds for run in pilots), least),
        "CPU of that run, all processes waited for (s)": (
            median(run.cpu_seconds for run in pilots),
            median(run.cpu_seconds for run in floors),
        ),
        "peak RSS (MB)": (median(run.peak_mb for run in pilots), median(run.peak_mb for run in floors)),
    }


def many_jobs(bench: Bench, jobs: int) -> dict[str, tuple[float, float | None]]:
    """Time jobs in a row in one pilot."""
    bench.submit(jobs, "/bin/true")
    run = bench.pilot(jobs, keep=True)
    firsts = sorted(at(journal, "acquired") for journal in run.journals())
    steps = [later - sooner for sooner, later in pairwise(firsts)]
    return {
        f"{jobs} jobs in a row, per job (s)": (run.seconds / jobs, None),
        "  from one acquire to the next, median (s)": (statistics.median(steps), None),
    }


def idle(bench: Bench, seconds: float) -> dict[str, tuple[float, float | None]]:
    """Watch what the pilot and its helpers cost while a payload sleeps."""
    bench.submit(1, "/bin/sleep", str(seconds + 3))
    work_dir = Path(tempfile.mkdtemp(prefix="work-", dir=bench.folder))
    with (bench.folder / "pilot.log").open("w") as log:
        process = subprocess.Popen(bench.command(1, work_dir), stdout=log, stderr=log)
    time.sleep(2)
    family = [pid for pid in descendants(process.pid) if name_of(pid) != "sleep"]
    before = [cost(pid) for pid in family]
    time.sleep(seconds)
    after = [cost(pid) for pid in family]
    process.wait()
    wakeups = sum(late[0] - soon[0] for soon, late in zip(before, after, strict=True))
    cpu = sum(late[1] - soon[1] for soon, late in zip(before, after, strict=True))
    return {
        f"CPU while a payload sleeps {seconds:.0f} s (% of a core)": (100 * cpu / seconds, None),
        "wake-ups a second meanwhile": (wakeups / seconds, None),
    }


def descendants(top: int) -> list[int]:
    """Return a process, what it forked, and what those forked, supervisors in other sessions included."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [top]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def cost(pid: int) -> tuple[int, float]:
    """Return a process's voluntary context switches, over its threads, and its CPU seconds."""
    switches = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        line = next(line for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt_switches"))
        switches += int(line.split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return switches, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


PILOT3 = {
    "start to first job acquired (s)": 0.8,
    "payload end to report acknowledged (s)": 3.2,
    "one /bin/true job, start to exit (s)": 67.3,
    "CPU of that run, all processes waited for (s)": 0.39,
    "peak RSS (MB)": 40.5,
    "  from one acquire to the next, median (s)": 6.05,
    "CPU while a payload sleeps 60 s (% of a core)": 0.9,
    "wake-ups a second meanwhile": 43.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the pilot as whole processes.")
    parser.add_argument("--runs", type=int, default=9, help="counted runs of one trivial job")
    parser.add_argument("--jobs", type=int, default=100, help="jobs in a row in one pilot")
    parser.add_argument("--sleep", type=float, default=60.0, help="seconds that the idle payload sleeps")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            figures = {
                **one_job(bench, options.runs),
                **many_jobs(bench, options.jobs),
                **idle(bench, options.sleep),
            }
        finally:
            bench.close()
    print(f"{'':52}{'pilot-core':>12}{'floor':>10}{'ratio':>8}{'Pilot 3':>10}")
    for name, (value, floor) in figures.items():
        least = f"{floor:10.3f}{value / floor:8.2f}" if floor else " " * 18
        print(f"{name:52}{value:12.4f}{least}{PILOT3.get(name, ''):>10}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


main()
