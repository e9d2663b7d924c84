"""What importing a plugin does, seen from a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ImportReport", "import_of"]

_CODE = """
import json, os, signal, sys, threading, time
orders = json.loads(sys.argv[1])
sys.path[:] = orders["path"]
import pilot_core, pilot_core.api.provider, pilot_core.hookspecs  # the core is there already, in a pilot
did, out = [], os.dup(1)
os.dup2(2, 1)
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        did.append("used the network")
    elif event in ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"):
        did.append("started a process")
    elif event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        if "__pycache__" not in arguments[0] and arguments[0] != os.devnull:
            did.append("wrote the file " + arguments[0])
    elif event in ("os.putenv", "os.unsetenv"):
        did.append("changed the environment")
sys.addaudithook(watch)
def state():
    mask = os.umask(0o77)
    os.umask(mask)
    handlers = [repr(signal.getsignal(n)) for n in signal.valid_signals()]
    return {"changed the environment": dict(os.environ), "changed the working directory": os.getcwd(),
            "changed the umask": mask, "changed signal handlers": handlers,
            "started a thread": threading.active_count(), "changed the recursion limit": sys.getrecursionlimit()}
class Tell:
    def write(self, text):
        did.append("printed something") if text.strip() else None
        return len(text)
    def flush(self):
        pass
before = state()
sys.stdout = Tell()
sys.stderr = Tell()
begun = time.process_time()
try:
    __import__(orders["module"])
    error = ""
except BaseException as failure:
    error = f"{type(failure).__name__}: {failure}"
seconds = time.process_time() - begun
sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
after = state()
did += [what for what in before if before[what] != after[what]]
os.write(out, json.dumps({"seconds": seconds, "did": sorted(set(did)), "error": error}).encode())
os._exit(0)
"""


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    seconds: float
    """CPU time that it took in a fresh process that has imported the core's interfaces before."""
    did: tuple[str, ...]
    """What an import must not do: each in a few words."""
    error: str
    """Why it failed; empty if it did not."""


def import_of(module: str, folder: Path) -> ImportReport:
    """Import a module in a fresh interpreter, in `folder`, and return what that did."""
    orders = json.dumps({"module": module, "path": [entry for entry in sys.path if entry]})
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", _CODE, orders], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout:
        return ImportReport(
            0.0, (), f"the process ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}"
        )
    told = json.loads(done.stdout)
    return ImportReport(told["seconds"], tuple(told["did"]), told["error"])
