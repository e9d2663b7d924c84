"""What a local copy with its checksum costs, against `cp`: one large file, many small ones, and memory.

`python benchmarks/local_copies.py [--megabytes N] [--pairs N] [--files N] [--gigabytes N] [--without LIBRARY] ...`
prints medians of interleaved pairs in random order, of files that are in the page cache, the target new each time; and
how much the peak of the resident memory grows for a file of `--gigabytes`, dense and sparse, and for 10,000 files.
Contents are compared outside the timing. `cp` copies in the kernel and computes nothing.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core import CancelToken, Deadline, FetchRequest, SystemClock
from pilot_core.api.checksums import adler32_library
from pilot_core.builtin.file_stager import FileStager

SMALL = 64 << 10
MANY = 10_000


@dataclass
class Way:
    """One way to copy, and what its runs took."""

    name: str
    run: Callable[[], None]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def timed(self) -> None:
        cpu, begun = cpu_seconds(), time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - begun)
        self.cpu.append(cpu_seconds() - cpu)


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def asked(source: Path, target: Path) -> FetchRequest:
    """Return what the engine asks a stager for."""
    root = source.parent.as_uri()
    return FetchRequest(url=source.as_uri(), destination=target, size=source.stat().st_size, root=root)


def fetch(source: Path, target: Path) -> str:
    """Fetch a file as the engine does; return its checksum."""
    limits = {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 3600)}
    return FileStager().fetch(asked(source, target), **limits).checksum


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", source, target], check=True)


def interleaved(ways: list[Way], pairs: int, *, after: Callable[[], None]) -> None:
    """Time each way `pairs` times, in a random order each time."""
    for _ in range(pairs):
        for way in random.sample(ways, len(ways)):
            way.timed()
            after()


def dense(path: Path, size: int) -> None:
    """Write a file without holes; its blocks differ."""
    block = os.urandom(min(size, 8 << 20))
    with path.open("wb") as file:
        for done in range(0, size, len(block)):
            start = done // len(block) % len(block)
            file.write((block[start:] + block[:start])[: size - done])


def large(folder: Path, size: int, pairs: int) -> dict[str, object]:
    """Compare copies of one file."""
    source, target = folder / "large", folder / "copy"
    dense(source, size)
    expected = fetch(source, target)  # also warms the page cache
    target.unlink()
    ways = [
        Way("cp", lambda: copy(source, target)),
        Way(f"fetch, adler32 by {adler32_library()}", lambda: same(fetch(source, target), expected)),
    ]

    def after() -> None:
        if not filecmp.cmp(source, target, shallow=False):
            sys.exit("the copy differs")
        target.unlink()

    interleaved(ways, pairs, after=after)
    source.unlink()
    print(f"\n{size / 1e6:.0f} MB, warm, medians of {pairs} pairs")
    return table(ways, lambda seconds: f"{size / 1e6 / seconds:7.0f} MB/s")


def small(folder: Path, count: int, pairs: int) -> dict[str, object]:
    """Compare copies of many files of 64 KiB.

    Nothing is removed in between: ext4 without a journal passes over inodes that were freed in the last seconds, which
    makes new files ten times as dear.
    """
    source, targets = folder / "small", [folder / "copies0"]
    source.mkdir()
    names = [f"file{number:05}" for number in range(count)]
    for name in names:
        dense(source / name, SMALL)

    requests = [asked(source / name, folder / "in" / name) for name in names]
    stager = FileStager()
    limits = {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 3600)}

    def fetch_all() -> None:
        (folder / "in").mkdir()
        for request in requests:
            stager.fetch(request, **limits)
        (folder / "in").rename(targets[-1])

    def after() -> None:
        if filecmp.cmpfiles(source, targets[-1], names, shallow=False)[0] != names:
            sys.exit("a copy differs")
        targets.append(folder / f"copies{len(targets)}")

    ways = [Way("cp -r", lambda: copy(source, targets[-1])), Way("fetch, adler32", fetch_all)]
    interleaved(ways, pairs, after=after)
    for path in (source, *targets[:-1]):
        shutil.rmtree(path)
    print(f"\n{count} files of 64 KiB, warm, medians of {pairs} pairs")
    return table(ways, lambda seconds: f"{1000 * seconds / count:6.3f} ms a file")


def same(found: str, expected: str) -> None:
    if found != expected:
        sys.exit(f"checksum {found}, not {expected}")


def table(ways: list[Way], shown: Callable[[float], str]) -> dict[str, object]:
    """Print a row for each way, with the ratio of its rate to the first one's; return the numbers."""
    control = statistics.median(ways[0].seconds)
    found: dict[str, object] = {}
    for way in ways:
        median, cpu = statistics.median(way.seconds), statistics.median(way.cpu)
        spread = f"[{shown(max(way.seconds)).strip()} - {shown(min(way.seconds)).strip()}]"
        print(f"{way.name:28} {shown(median)}  {control / median:5.2f} x {ways[0].name}  cpu {cpu:6.3f} s  {spread}")
        found[way.name] = {"seconds": way.seconds, "cpu": way.cpu, "ratio": control / median}
    return found


def peak_kb() -> int:
    """Return the peak of this process's resident memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def grown(name: str, source: Path, target: Path, times: int) -> float:
    """Fetch in a process of its own; print and return by how many MB its peak grew after a first small file."""
    command = [sys.executable, __file__, "--child", str(times), str(source), str(target)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    megabytes = int(done.stdout) / 1000
    print(f"{name:28} {megabytes:7.1f} MB")
    target.unlink()
    return megabytes


def child(times: int, source: Path, target: Path) -> None:
    """Print by how many kB the peak grows while a file is fetched so many times."""
    first = target.with_name("first")
    first.write_bytes(b"x" * SMALL)
    fetch(first, target)
    before = peak_kb()
    for _ in range(times):
        fetch(source, target)
    print(peak_kb() - before)


def memory(folder: Path, size: int) -> dict[str, float]:
    """Measure how much memory long and many files take."""
    source, target = folder / "file", folder / "copy"
    print("\npeak resident memory grows by")
    found = {}
    dense(source, SMALL)
    found["many"] = grown(f"{MANY} files of 64 KiB", source, target, MANY)
    with source.open("wb") as file:
        file.truncate(size)
    found["sparse"] = grown(f"{size / 1e9:.0f} GB, a hole", source, target, 1)
    dense(source, size)
    found["dense"] = grown(f"{size / 1e9:.0f} GB, dense", source, target, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=2000, help="of the large file [2000]")
    parser.add_argument("--pairs", type=int, default=5, help="[5]")
    parser.add_argument("--files", type=int, default=1000, help="of 64 KiB [1000]")
    parser.add_argument("--gigabytes", type=int, default=10, help="of the file for memory; 0 = leave that out [10]")
    parser.add_argument("--folder", type=Path, help="where to copy [a temporary directory]")
    parser.add_argument("--without", action="append", default=[], help="checksum libraries to pass over: zlib_ng, isal")
    parser.add_argument("--json", type=Path, help="also write every number there")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(int(options.child[0]), *map(Path, options.child[1:]))
        return
    sys.modules.update(dict.fromkeys(options.without))
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if options.megabytes:
            found["large"] = large(folder, options.megabytes * 1_000_000, options.pairs)
        if options.files:
            found["small"] = small(folder, options.files, options.pairs)
        if options.gigabytes:
            found["memory"] = memory(folder, options.gigabytes * 10**9)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
