"""The stager `xrootd` against xrdcp, on a real server on loopback: one large file, many small ones, memory.

    python benchmarks/xrootd.py [--megabytes N] [--pairs N] [--files N] [--threads N] [--folder DIR]

It starts the server by itself (apt: xrootd-server xrootd-client) with its files below `--folder`, by itself memory
(/dev/shm): the wire is measured, not a disk. Medians of interleaved runs in random order, with the CPU seconds of the
client and its processes; contents are compared outside the timing. Ours computes the adler32 of what passes, and has
the storage tell that of what was stored; `ours, bare` leaves that out, and the flush. `xrdcp` is without checksums of
pages (XRD_CPUSEPGWRTRD=0), as ours, and with nothing that is end to end; `xrdcp +sum` has it compare adler32, too;
`default` is xrdcp as it comes. The server runs on the same cores.
"""

from __future__ import annotations

import argparse
import filecmp
import logging
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pilot_stager_xrootd.settings import Settings
from pilot_stager_xrootd.stager import XrootdStager

from pilot_core import CancelToken, Context, Deadline, FetchRequest, StoreRequest, SystemClock
from pilot_core.testing.servers.xrootd import XrootdServer

SMALL = 64 << 10
TICKS = os.sysconf("SC_CLK_TCK")
PLAIN = {"XRD_CPUSEPGWRTRD": "0"}
LEAST = {"xrdcp": 0.95, "default": 3.0}
"""How many times the rate of each xrdcp a download has to have."""


@dataclass
class Way:
    """One way to move files, and what its runs took."""

    name: str
    run: Callable[[], object]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def timed(self) -> None:
        cpu, begun = cpu_seconds(), time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - begun)
        self.cpu.append(cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, of what it waited for, and of its worker processes."""
    total = sum(os.times()[:4])
    for pid in children():
        if b"pilot_stager_xrootd" in Path(f"/proc/{pid}/cmdline").read_bytes():
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(words[11]) + int(words[12])) / TICKS
    return total


def children() -> list[int]:
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for text in lists for pid in text.split()]


def limits() -> dict:
    return {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 3600)}


def xrdcp(source: str, target: str, *options: str, **environment: str) -> None:
    command = ["xrdcp", "--force", "--silent", "--nopbar", *options, source, target]
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)


def interleaved(ways: list[Way], pairs: int, *, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Time each way `pairs` times, in a random order each time, after one run of each that is not counted."""
    for number in range(pairs + 1):
        for way in random.sample(ways, len(ways)):
            before()
            way.timed()
            after()
            if not number:
                way.seconds.clear()
                way.cpu.clear()


def told(what: str, ways: list[Way], amount: float, unit: str) -> dict[str, float]:
    """Print a table of the ways, ours first, and return ours in terms of each other one."""
    ours = statistics.median(ways[0].seconds)
    ratios = {way.name: statistics.median(way.seconds) / ours for way in ways[1:]}
    for way in ways:
        rate = sorted(amount / seconds for seconds in way.seconds)
        ratio = f"ours = {ratios[way.name]:.2f} x" if way.name in ratios else ""
        print(
            f"{what:20} {way.name:12} {statistics.median(rate):7.0f} [{rate[0]:6.0f} - {rate[-1]:6.0f}] {unit:8}"
            f" cpu {statistics.median(way.cpu):5.2f} s  {ratio}"
        )
    return ratios


def same(one: Path, other: Path) -> None:
    if not filecmp.cmp(one, other, shallow=False):
        sys.exit(f"{one} is not {other}")


def large(stager: XrootdStager, server: XrootdServer, top: Path, source: Path, pairs: int) -> bool:
    """Move one large file both ways; say whether the downloads are as quick as they have to be."""
    size, target = source.stat().st_size / 1e6, top / "down.dat"
    up, down = f"{server.url}/up.dat", f"{server.url}/down.dat"
    stored, lies = server.folder / "up.dat", server.folder / "down.dat"
    os.link(source, lies)
    fetch = FetchRequest(url=down, destination=target)
    ways = [
        Way("ours", lambda: stager.fetch(fetch, **limits())),
        Way("xrdcp", lambda: xrdcp(down, str(target), **PLAIN)),
        Way("xrdcp +sum", lambda: xrdcp(down, str(target), "--cksum", "adler32:source", **PLAIN)),
        Way("default", lambda: xrdcp(down, str(target))),
    ]
    interleaved(ways, pairs, before=lambda: target.unlink(missing_ok=True), after=lambda: same(source, target))
    ratios = told("download", ways, size, "MB/s")
    target.unlink()
    quick = XrootdStager(Settings(verify_stored=False, flush=False), stager._context)
    store = StoreRequest(url=up, source=source)
    ways = [
        Way("ours", lambda: stager.store(store, **limits())),
        Way("ours, bare", lambda: quick.store(store, **limits())),
        Way("xrdcp", lambda: xrdcp(str(source), up, **PLAIN)),
        Way("xrdcp +sum", lambda: xrdcp(str(source), up, "--cksum", "adler32:source", **PLAIN)),
        Way("default", lambda: xrdcp(str(source), up)),
    ]
    interleaved(ways, pairs, before=lambda: stored.unlink(missing_ok=True), after=lambda: same(source, stored))
    told("upload", ways, size, "MB/s")
    stored.unlink()
    return all(ratios[name] >= least for name, least in LEAST.items())


def small(stager: XrootdStager, server: XrootdServer, top: Path, arguments: argparse.Namespace) -> None:
    """Move many small files both ways."""
    files, pairs, threads = arguments.files, arguments.pairs, arguments.threads
    source, folder, down = top / "small.dat", server.folder / "small", top / "small"
    source.write_bytes(os.urandom(SMALL))
    folder.mkdir()
    down.mkdir()
    server.give(folder)
    names = [f"{number}.dat" for number in range(files)]

    def store(name: str) -> None:
        stager.store(StoreRequest(url=f"{server.url}/small/{name}", source=source), **limits())

    def fetch(name: str) -> None:
        stager.fetch(FetchRequest(url=f"{server.url}/small/{name}", destination=down / name), **limits())

    def each(call: Callable[[str], object]) -> Callable[[], None]:
        def run() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(call, names))

        return run

    def emptied() -> None:
        for path in down.iterdir():
            path.unlink()

    ways = [Way("ours", each(store))]
    interleaved(ways, pairs, before=lambda: None, after=lambda: None)
    told(f"upload 64 KiB x{threads}", ways, files, "files/s")
    ways = [
        Way("ours", each(fetch)),
        Way("xrdcp -r", lambda: xrdcp(f"{server.url}/small", str(top), "--recursive", "--parallel", "4", **PLAIN)),
    ]
    interleaved(ways, pairs, before=emptied, after=lambda: [same(source, down / name) for name in names])
    told(f"download 64 KiB x{threads}", ways, files, "files/s")


def memory(stager: XrootdStager, server: XrootdServer, top: Path, gigabytes: int) -> None:
    """Print how much the memory of this process and of its workers grows for a very large file; it is a hole."""
    hole, target = server.folder / "hole.dat", top / "hole.dat"
    hole.touch()
    server.give(hole)
    os.truncate(hole, gigabytes << 30)
    before, workers = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, peaks()
    stager.fetch(FetchRequest(url=f"{server.url}/hole.dat", destination=target), **limits())
    same_size = target.stat().st_size == gigabytes << 30
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    theirs = (max(peaks(), default=0) - max(workers, default=0)) / 1024
    print(
        f"memory               fetch of {gigabytes} GiB ({same_size}): {grown:.1f} MB more, its worker {theirs:.1f} MB"
    )
    target.unlink()


def peaks() -> list[int]:
    lines = [Path(f"/proc/{pid}/status").read_text() for pid in children()]
    texts = [text for text in lines if "python" in text.splitlines()[0]]
    return [int(text.partition("VmHWM:")[2].split()[0]) for text in texts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--gigabytes", type=int, default=0, help="also fetch a file of so many GiB, and look at memory")
    parser.add_argument(
        "--lenient", action="store_true", help="do not fail if the downloads are slower than they should be"
    )
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="xrootd-bench-") as name:
        top = Path(name)
        top.chmod(0o755)
        with XrootdServer(data=top / "data") as server:
            context = Context(clock=SystemClock(), log=logging.getLogger("xrootd"), work_dir=top)
            stager = XrootdStager(Settings(), context)
            source = top / "source.dat"
            with source.open("wb") as file:
                for _ in range(arguments.megabytes):
                    file.write(os.urandom(10**6))
            source.chmod(0o644)
            good = large(stager, server, top, source, arguments.pairs) if arguments.megabytes else True
            if arguments.files:
                small(stager, server, top, arguments)
            if arguments.gigabytes:
                memory(stager, server, top, arguments.gigabytes)
    if not good and not arguments.lenient:
        sys.exit(f"a download has to have so many times the rate of each xrdcp: {LEAST}")


main()
