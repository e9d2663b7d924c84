"""The catalogue `rucio` against Rucio's own client, on a real Rucio server on loopback.

    python benchmarks/catalog_rucio.py [--files N] [--pairs N]

It starts the server by itself (`rucio-admin` on the PATH says where Rucio is installed). Each run is a fresh process,
as a pilot is one; the runs are interleaved in random order, and what they found is compared outside the timing.
`import` is what it costs to have the client, `first` a login and the look-up of all files, `again` one more look-up,
`CPU` that of the client's process in all. The server runs on the same cores and answers one request at a time, so
`again` is mostly its time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pilot_core.testing.servers.rucio import KnownFile, RucioServer, rucio_python

SCHEMES = ["root", "davs"]
OURS = """
import time; started = time.perf_counter()
import json, logging, sys
from pathlib import Path
from pilot_core import CancelToken, Context, Deadline, InputFile, SystemClock
from pilot_catalog_rucio import Settings, make
told = json.loads(sys.argv[1]); clock = SystemClock()
settings = Settings(url=told["url"], account=told["account"], username=told["user"],
    password_file=Path(told["password_file"]), ca_file=Path(told["ca_file"]), schemes=tuple(told["schemes"]))
catalog = make(settings, Context(clock=clock, log=logging.getLogger("x"), work_dir=Path(".")))
files = [InputFile(scope="bench", lfn=name) for name in told["names"]]
def look():
    found = catalog.replicas(files, cancel=CancelToken(), deadline=Deadline.after(clock, 600))
    return {name: [each.url for each in replicas] for name, replicas in found.items()}
"""
THEIRS = """
import time; started = time.perf_counter()
import json, sys
from rucio.client import Client
told = json.loads(sys.argv[1])
def look():
    global client
    client = globals().get("client") or Client()
    dids = [{"scope": "bench", "name": name} for name in told["names"]]
    return {row["name"]: list(row["pfns"]) for row in client.list_replicas(dids, schemes=told["schemes"])}
"""
MEASURE = """
times = {"import": time.perf_counter() - started}
for what in ("first", "again"):
    begun = time.perf_counter(); found = look(); times[what] = time.perf_counter() - begun
times["CPU"] = time.process_time()
print(json.dumps({"times": times, "found": found}))
"""


def run(server: RucioServer, names: list[str], *, ours: bool) -> dict[str, dict[str, float]]:
    """Run one client in a fresh process; return its times and what it found."""
    (server.folder / "native-token").unlink(missing_ok=True)
    told = {
        "url": server.url,
        "account": server.account,
        "user": server.user,
        "password_file": str(server.folder / "password"),
        "ca_file": str(server.authority.ca_file),
        "schemes": SCHEMES,
        "names": names,
    }
    python, program = (sys.executable, OURS) if ours else (str(rucio_python()), THEIRS)
    environment = {**os.environ, "RUCIO_CONFIG": str(server.folder / "rucio.cfg"), "HOME": str(server.folder)}
    command = [python, "-c", program + MEASURE, json.dumps(told)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    times: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder, RucioServer(Path(folder)) as server:
        (server.folder / "password").write_text(server.password)
        for number in range(3):
            prefixes = (f"davs://s{number}.example.org:443/data", f"root://s{number}.example.org:1094//data")
            server.rse(f"BENCH{number}_DISK", *prefixes)
        names = [f"{number}.root" for number in range(options.files)]
        for name in names:
            places = [(f"BENCH{number}_DISK", "") for number in range(3)]
            server.file(KnownFile(scope="bench", lfn=name, size=1, places=places))
        for _ in range(options.pairs):
            found = {}
            for ours in random.sample((True, False), 2):
                done = run(server, names, ours=ours)
                times[ours].append(done["times"])
                found[ours] = done["found"]
            if found[True] != found[False] or len(found[True]) != len(names):
                print("the two found different replicas", file=sys.stderr)
                return 1
    print(f"{options.files} files, 3 storages, 2 protocols; medians of {options.pairs} pairs, seconds\n")
    print(f"{'':8}{'rucio':>10}{'ours':>10}{'ratio':>10}")
    for what in ("import", "first", "again", "CPU"):
        theirs, ours_ = (statistics.median(each[what] for each in times[mine]) for mine in (False, True))
        print(f"{what:8}{theirs:10.3f}{ours_:10.3f}{theirs / ours_:9.1f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
