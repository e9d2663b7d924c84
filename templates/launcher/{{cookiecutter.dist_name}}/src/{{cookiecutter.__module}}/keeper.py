"""A pilot's keeper: starts it, waits for its end, writes down how it ended, and ends it when it is told to.

It is run as a program: `keeper.py FOLDER WALL_SECONDS GRACE WORD...`, and needs the standard library only.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

RECORD = "keeper"
"""File with the keeper's process id and start time."""
EXIT = "exit"
"""File with the pilot's exit code, or minus the signal that ended it."""
CANNOT_START = 127


def running(folder: Path) -> int | None:
    """Return the process id of a folder's keeper, None if it is not there any more."""
    try:
        pid, start = (folder / RECORD).read_text().split()
        # the number alone could be another process's by now
        return int(pid) if start_time(int(pid)) == start else None
    except (OSError, ValueError):
        return None


def start_time(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty for a zombie. Raises `OSError` if there is none."""
    state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def write(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def keep(folder: Path, wall_seconds: int, grace: int, argv: list[str]) -> None:
    """Run a pilot to its end and write down how it ended."""
    try:
        pilot = os.posix_spawnp(argv[0], argv, os.environ, setpgroup=0, setsigmask=(), setsigdef=(signal.SIGTERM,))
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        write(folder / EXIT, str(CANNOT_START))
        return
    asked: list[int] = []

    def end(number: int, _: object) -> None:
        """Ask the pilot to end, with all that it started, and kill what is left after the grace."""
        if number == signal.SIGALRM or not asked:
            with suppress(ProcessLookupError):
                os.killpg(pilot, signal.SIGKILL if asked else signal.SIGTERM)
            if not asked:
                signal.alarm(grace)
            asked.append(number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
    signal.alarm(wall_seconds)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    _, status = os.waitpid(pilot, 0)
    signal.alarm(0)
    if asked:
        with suppress(ProcessLookupError):
            os.killpg(pilot, signal.SIGKILL)
    write(folder / EXIT, str(os.waitstatus_to_exitcode(status)))


def main() -> None:
    """Leave for a session of its own, and keep the pilot."""
    folder, wall_seconds, grace = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # whoever is told to end a pilot right after its start is heard once the pilot is there
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    child = os.fork()
    if child:
        write(folder / RECORD, f"{child} {start_time(child)}")
        return
    os.setsid()
    keep(folder, wall_seconds, grace, sys.argv[4:])


if __name__ == "__main__":
    main()
