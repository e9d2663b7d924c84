"""The stager `s3` against boto3's transfer manager on a real Ceph gateway on loopback: one large file, many small ones.

`python benchmarks/s3.py [--megabytes N] [--pairs N] [--files N] [--endpoint URL --keys FILE --bucket NAME]`
starts a gateway by itself (apt: ceph-mon ceph-osd radosgw ceph-common), or takes one that runs. It prints medians of
interleaved pairs in random order, seconds of CPU of this process beside them, and how much the peak of the resident
memory grows. Ours computes adler32 both ways, has the service verify each part's MD5, and compares its ETags; boto3
has its defaults (CRC32 on the way up). Contents are compared outside the timing. The gateway runs on the same cores.
"""

from __future__ import annotations

import argparse
import configparser
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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pilot_stager_s3 import make
from pilot_stager_s3.settings import Settings

from pilot_core import CancelToken, Context, Deadline, FetchRequest, StoreRequest, SystemClock

SMALL = 64 << 10


@dataclass
class Way:
    """One way to move files, and what its runs took."""

    name: str
    run: Callable[[], None]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def timed(self) -> None:
        cpu, begun = time.process_time(), time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - begun)
        self.cpu.append(time.process_time() - cpu)


@dataclass
class Site:
    """Where both clients move files to and from."""

    endpoint: str
    keys: Path
    bucket: str
    folder: Path

    def stager(self):
        settings = Settings(endpoint=self.endpoint, credentials_file=self.keys, plain_http=True)
        return make(settings, Context(clock=SystemClock(), log=logging.getLogger("s3"), work_dir=self.folder))

    def client(self):
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.keys)
        names = {name: parser["default"][name] for name in ("aws_access_key_id", "aws_secret_access_key")}
        config = Config(s3={"addressing_style": "path"}, max_pool_connections=32)
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", config=config, **names)


def limits() -> dict:
    return {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 3600)}


def fetch(stager, bucket: str, name: str, to: Path) -> None:
    stager.fetch(FetchRequest(url=f"s3://{bucket}/{name}", destination=to), **limits())


def store(stager, bucket: str, name: str, source: Path) -> None:
    stager.store(StoreRequest(url=f"s3://{bucket}/{name}", source=source), **limits())


def interleaved(ways: list[Way], pairs: int, *, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Time each way `pairs` times, in a random order each time, after one run of each that is not counted."""
    for number in range(pairs + 1):
        for way in random.sample(ways, len(ways)):
            before()
            way.timed()
            after()
            if not number:
                way.seconds.clear()
                way.cpu.clear()


def told(what: str, ways: list[Way], amount: float, unit: str) -> None:
    """Print a table of two ways, ours first, and their ratio."""
    for way in ways:
        rate = sorted(amount / seconds for seconds in way.seconds)
        middle = statistics.median(rate)
        cpu = statistics.median(way.cpu)
        print(f"{what:22} {way.name:8} {middle:8.0f} [{rate[0]:6.0f} - {rate[-1]:6.0f}] {unit}  cpu {cpu:6.2f} s")
    ours, theirs = (statistics.median(way.seconds) for way in ways)
    print(f"{what:22} ours / boto3 = {theirs / ours:.2f}")


def large(site: Site, source: Path, pairs: int) -> None:
    """Move one large file both ways."""
    stager, client, bucket = site.stager(), site.client(), site.bucket
    size = source.stat().st_size / 1e6
    target = site.folder / "down.dat"

    def removed() -> None:
        client.delete_object(Bucket=bucket, Key="up.dat")

    def compared() -> None:
        client.download_file(bucket, "up.dat", str(target))
        assert filecmp.cmp(source, target, shallow=False)

    ways = [
        Way("ours", lambda: store(stager, bucket, "up.dat", source)),
        Way("boto3", lambda: client.upload_file(str(source), bucket, "up.dat")),
    ]
    interleaved(ways, pairs, before=removed, after=compared)
    told("upload", ways, size, "MB/s")
    ways = [
        Way("ours", lambda: fetch(stager, bucket, "up.dat", target)),
        Way("boto3", lambda: client.download_file(bucket, "up.dat", str(target))),
    ]
    interleaved(
        ways,
        pairs,
        before=lambda: target.unlink(missing_ok=True),
        after=lambda: None if filecmp.cmp(source, target, shallow=False) else sys.exit("the content differs"),
    )
    told("download", ways, size, "MB/s")


def small(site: Site, files: int, pairs: int, threads: int) -> None:
    """Move many small files both ways."""
    stager, client, bucket = site.stager(), site.client(), site.bucket
    source = site.folder / "small.dat"
    source.write_bytes(os.urandom(SMALL))
    names = [f"small/{number}.dat" for number in range(files)]

    def each(call: Callable[[str], object]) -> Callable[[], None]:
        def run() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(call, names))

        return run

    down = site.folder / "small"
    down.mkdir(exist_ok=True)
    up = [
        Way("ours", each(lambda name: store(stager, bucket, name, source))),
        Way("boto3", each(lambda name: client.upload_file(str(source), bucket, name))),
    ]
    interleaved(up, pairs, before=lambda: None, after=lambda: None)
    told(f"upload 64 KiB x{threads}", up, files, "files/s")
    ways = [
        Way("ours", each(lambda name: fetch(stager, bucket, name, down / Path(name).name))),
        Way("boto3", each(lambda name: client.download_file(bucket, name, str(down / Path(name).name)))),
    ]
    interleaved(ways, pairs, before=lambda: None, after=lambda: None)
    assert all(filecmp.cmp(source, down / Path(name).name, shallow=False) for name in names)
    told(f"download 64 KiB x{threads}", ways, files, "files/s")


def memory(site: Site, source: Path) -> None:
    """Print how much memory one large file takes, in a process of its own."""
    argv = [sys.executable, __file__, "--endpoint", site.endpoint, "--keys", str(site.keys), "--bucket", site.bucket]
    done = subprocess.run([*argv, "--grow", str(source)], check=True, capture_output=True, text=True)
    print(done.stdout, end="")


def grow(site: Site, source: Path) -> None:
    stager = site.stager()
    tiny = site.folder / "tiny.dat"
    tiny.write_bytes(b"x")
    store(stager, site.bucket, "tiny.dat", tiny)
    fetch(stager, site.bucket, "tiny.dat", tiny)
    for what, call in (
        ("fetch", lambda: fetch(stager, site.bucket, "up.dat", site.folder / "grown.dat")),
        ("store", lambda: store(stager, site.bucket, "grown.dat", source)),
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"memory                 {what} of {source.stat().st_size / 1e6:.0f} MB: {grown:.1f} MB more")


def started(stack: ExitStack, folder: Path) -> Site:
    """Start a gateway with an empty bucket."""
    from pilot_core.testing.servers.ceph import CephGateway  # noqa: PLC0415

    gateway = stack.enter_context(CephGateway(folder / "ceph"))
    keys = folder / "credentials"
    keys.touch(mode=0o600)
    text = f"[default]\naws_access_key_id = {gateway.access_key}\naws_secret_access_key = {gateway.secret_key}\n"
    keys.write_text(text)
    site = Site(gateway.endpoint, keys, "benchmark", folder)
    site.client().create_bucket(Bucket=site.bucket)
    return site


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--bucket", default="benchmark")
    parser.add_argument("--folder", type=Path, help="where files lie, best a file system in memory [a temporary one]")
    parser.add_argument("--grow", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.folder)))
        site = Site(given.endpoint, given.keys, given.bucket, folder) if given.endpoint else started(stack, folder)
        if given.grow:
            grow(site, given.grow)
            return
        source = folder / "source.dat"
        with source.open("wb") as file:
            for _ in range(given.megabytes):
                file.write(os.urandom(1_000_000))
        large(site, source, given.pairs)
        for threads in (1, 8):
            small(site, given.files, given.pairs, threads)
        memory(site, source)


main()
