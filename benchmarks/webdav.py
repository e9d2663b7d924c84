"""The stager `http` against curl, on a real nginx on loopback: one large file, many small ones, memory.

    python benchmarks/webdav.py [--megabytes N] [--pairs N] [--files N] [--tls] [--folder DIR]

It starts the server by itself (apt: nginx-light, curl) with its files below `--folder`, by
itself memory (/dev/shm): the wire is measured, not a disk. Medians of interleaved runs in random order, with the CPU
seconds of the client beside them; contents are compared outside the timing. Ours computes the adler32 of what passes,
and asks for the size of what was stored; curl verifies nothing. The server runs on the same cores. `memory` is the
growth of the peak of a fresh process that moves the large file both ways.
"""

from __future__ import annotations

import argparse
import filecmp
import logging
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pilot_stager_http.settings import Settings
from pilot_stager_http.stager import HttpStager

from pilot_core import CancelToken, Context, Deadline, FetchRequest, StoreRequest, SystemClock
from pilot_core.testing.servers.nginx import NginxServer
from pilot_core.testing.tls import TestAuthority

SMALL = 64 << 10
LEAST = 0.95
"""How many times curl's rate ours has to have with a large file."""
MOST_MEMORY = 64 << 10
"""KiB by which the peak may grow."""


@dataclass
class Way:
    """One way to move files, and what its runs took."""

    name: str
    run: Callable[[], object]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def timed(self) -> None:
        cpu, begun = sum(os.times()[:4]), time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - begun)
        self.cpu.append(sum(os.times()[:4]) - cpu)


def limits() -> dict:
    return {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 3600)}


def made(folder: Path, ca_file: Path | None) -> HttpStager:
    context = Context(clock=SystemClock(), log=logging.getLogger("benchmark"), work_dir=folder)
    return HttpStager(Settings(ca_file=ca_file), context)


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


def told(what: str, ways: list[Way], amount: float, unit: str) -> float:
    """Print a table of the ways, ours first, and return ours in terms of the second."""
    ours = statistics.median(ways[0].seconds)
    for way in ways:
        rate = sorted(amount / seconds for seconds in way.seconds)
        ratio = "" if way is ways[0] else f"ours = {statistics.median(way.seconds) / ours:.2f} x"
        print(
            f"{what:16} {way.name:12} {statistics.median(rate):7.0f} [{rate[0]:6.0f} - {rate[-1]:6.0f}] {unit:8}"
            f" cpu {statistics.median(way.cpu):5.2f} s  {ratio}"
        )
    return statistics.median(ways[1].seconds) / ours


def same(one: Path, other: Path) -> None:
    if not filecmp.cmp(one, other, shallow=False):
        sys.exit(f"{one} is not {other}")


class Bench:
    """The server, the stager, curl, and where files lie."""

    def __init__(self, server: NginxServer, top: Path, ca_file: Path | None) -> None:
        self.server = server
        self.top = top
        self.stager = made(top, ca_file)
        self._curl = ["curl", "--silent", "--show-error", "--fail", *(["--cacert", str(ca_file)] if ca_file else [])]

    def curl(self, *arguments: str) -> None:
        subprocess.run([*self._curl, *arguments], check=True, stdout=subprocess.DEVNULL)

    def large(self, source: Path, pairs: int) -> bool:
        """Move one large file both ways; say whether ours is as quick as it has to be."""
        size, target, stored = source.stat().st_size / 1e6, self.top / "down.dat", self.server.folder / "up.dat"
        os.link(source, self.server.folder / "down.dat")
        up, down = f"{self.server.url}/up.dat", f"{self.server.url}/down.dat"
        fetch, store = FetchRequest(url=down, destination=target), StoreRequest(url=up, source=source)
        ways = [
            Way("ours", lambda: self.stager.fetch(fetch, **limits())),
            Way("curl", lambda: self.curl("-o", str(target), down)),
        ]
        interleaved(ways, pairs, before=lambda: target.unlink(missing_ok=True), after=lambda: same(source, target))
        good = told("download", ways, size, "MB/s") >= LEAST
        target.unlink()
        ways = [
            Way("ours", lambda: self.stager.store(store, **limits())),
            Way("curl", lambda: self.curl("-T", str(source), up)),
        ]
        interleaved(ways, pairs, before=lambda: stored.unlink(missing_ok=True), after=lambda: same(source, stored))
        good = told("upload", ways, size, "MB/s") >= LEAST and good
        stored.unlink()
        return good

    def small(self, files: int, pairs: int) -> None:
        """Move many small files both ways, one after the other; curl does it in one process, on one connection."""
        source, folder, down = self.top / "small.dat", self.server.folder / "small", self.top / "small"
        source.write_bytes(os.urandom(SMALL))
        folder.mkdir()
        down.mkdir()
        names = [f"{number}.dat" for number in range(files)]
        for name in names:
            os.link(source, folder / name)
        url = f"{self.server.url}/small"

        def fetch() -> None:
            for name in names:
                self.stager.fetch(FetchRequest(url=f"{url}/{name}", destination=down / name, size=SMALL), **limits())

        def curl_get() -> None:
            self.curl("--output-dir", str(down), "--remote-name", f"{url}/[0-{files - 1}].dat")

        def compared(there: Path) -> None:
            for name in names:
                same(source, there / name)
                (there / name).unlink()

        ways = [Way("ours", fetch), Way("curl", curl_get)]
        interleaved(ways, pairs, before=lambda: None, after=lambda: compared(down))
        told("64 KiB down", ways, files, "files/s")
        for name in names:
            (folder / name).unlink()

        def store() -> None:
            for name in names:
                self.stager.store(StoreRequest(source=source, url=f"{url}/{name}"), **limits())

        config = self.top / "curl.cfg"
        config.write_text("".join(f'upload-file = "{source}"\nurl = "{url}/{name}"\n' for name in names))
        ways = [Way("ours", store), Way("curl", lambda: self.curl("-K", str(config)))]
        interleaved(ways, pairs, before=lambda: None, after=lambda: compared(folder))
        told("64 KiB up", ways, files, "files/s")


def memory(url: str, ca_file: str, source: Path, top: Path) -> None:
    """Move the large file in a fresh process, and tell by how much its peak grows."""
    code = [sys.executable, __file__, "--child", url, ca_file, str(source), str(top / "child.dat")]
    grown = int(subprocess.run(code, check=True, capture_output=True, text=True).stdout)
    print(
        f"{'memory':16} {'ours':12} {grown / 1024:7.1f} MiB more at its peak for {source.stat().st_size / 1e6:.0f} MB"
    )
    if grown > MOST_MEMORY:
        sys.exit("memory is not flat")


def child(url: str, ca_file: str, source: str, target: str) -> None:
    stager = made(Path(target).parent, Path(ca_file) if ca_file else None)
    small = Path(target).with_name("tiny.dat")
    small.write_bytes(b"x" * (2 << 20))

    def both(file: Path) -> None:
        stager.store(StoreRequest(source=file, url=f"{url}/child.dat"), **limits())
        stager.fetch(FetchRequest(url=f"{url}/child.dat", destination=Path(target)), **limits())
        Path(target).unlink()

    both(small)
    before = peak()
    both(Path(source))
    print(peak() - before)


def peak() -> int:
    """Return this program's peak in KiB; `ru_maxrss` begins with that of the process that started it."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="http-", dir=options.folder) as name:
        top = Path(name)
        authority = TestAuthority(top) if options.tls else None
        certificate, ca_file = (authority.server_file(), authority.ca_file) if authority else (None, None)
        source = top / "source.dat"
        block = os.urandom(1 << 20)
        with source.open("wb") as file:
            for number in range(options.megabytes):
                file.write(number.to_bytes(8, "big") + block[8:])
        with NginxServer(top / "nginx", certificate=certificate) as server:
            bench = Bench(server, top, ca_file)
            good = bench.large(source, options.pairs)
            bench.small(options.files, options.pairs)
            memory(server.url, str(ca_file or ""), source, top)
    if not good:
        sys.exit(f"slower than {LEAST} x curl")


main()
