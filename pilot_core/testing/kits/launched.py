"""Pilots for launchers to start: small programs that tell in files what they got, and end when they are told to."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilot_core.api.launcher import LaunchedPilot, LaunchRequest
from pilot_core.testing.kits.judging import eventually

__all__ = ["LIVE", "OVER", "STATES", "Pilots"]

LIVE = ("queued", "running")
OVER = ("done", "failed")
STATES = (*LIVE, *OVER, "unknown")

_PILOT = r"""
import json, os, signal, socket, subprocess, sys
folder, code, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
def identity(pid):
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return [pid, int(stream.read().rpartition(b")")[2].split()[19])]
def tell(name, **what):
    path = os.path.join(folder, f"{name}-{socket.gethostname()}-{os.getpid()}")
    with open(path + ".part", "w") as stream:
        json.dump(what, stream)
    os.rename(path + ".part", path + ".json")
def ended(number, frame):
    tell("signal", number=number)
    sys.exit(90)
signal.signal(signal.SIGTERM, ended)
child = subprocess.Popen(["/bin/sleep", "1000"]) if code < 0 else None
descriptors = {}
for name in os.listdir("/proc/self/fd"):
    try:
        descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        pass
tell("begun", words=words, environment=dict(os.environ), descriptors=descriptors, stdin=sys.stdin.read(),
     session=os.getsid(0), process=identity(os.getpid()), child=identity(child.pid) if child else None)
if code < 0:
    signal.pause()
    signal.pause()
sys.exit(code)
"""


class Pilots:
    """Pilots that tell what they got in files of one folder, which they must be able to reach."""

    def __init__(self, folder: Path, patience: float) -> None:
        folder.mkdir()
        self.folder = folder
        self.patience = patience
        """Real seconds in which the batch system has to have started or ended a pilot."""
        self.script = folder / "pilot.py"
        self.script.write_text(_PILOT)

    def request(
        self, *words: str, code: int = -1, count: int = 1, environment: dict[str, str] | None = None
    ) -> LaunchRequest:
        """Return a request for pilots that end with an exit code, or, without one, run with a child until stopped."""
        argv = (sys.executable, "-I", "-S", str(self.script), str(self.folder), str(code), *words)
        return LaunchRequest(argv=argv, count=count, environment=environment or {})

    def told(self, what: str) -> list[dict[str, Any]]:
        """Return what the pilots have told so far: `begun` or `signal`."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob(f"{what}-*.json"))]

    def begun(self, count: int) -> list[dict[str, Any]]:
        """Return what this many pilots got, once all of them run."""
        eventually(lambda: len(self.told("begun")) >= count, f"{count} pilots run", seconds=self.patience)
        told = self.told("begun")
        assert len(told) == count, f"{len(told)} pilots run, where {count} were to be launched"
        return told

    @staticmethod
    def lives(process: Sequence[int]) -> bool:
        """Say whether a process of this machine lives, given its id and start time."""
        pid, start = process
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return False
        return int(fields[19]) == start and fields[0] != b"Z"

    @staticmethod
    def ids(launched: Sequence[LaunchedPilot]) -> list[str]:
        """Return the ids of pilots, which must be such."""
        found: list[Any] = [pilot.id for pilot in launched]
        for each in found:
            assert isinstance(each, str), f"a pilot's id is {each!r}, not a text"
            assert each.strip(), "a pilot's id is empty"
            assert each.isprintable(), f"a pilot's id is not one line: {each!r}"
        assert len(set(found)) == len(found), f"two pilots have one id: {sorted(found)}"
        return found
