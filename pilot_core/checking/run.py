"""Running kits in a process of their own, and their verdicts as they come."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.errors import HandledError, PluginError
from pilot_core.places import scratch_directory

if TYPE_CHECKING:
    from pilot_core.checking.target import Target

__all__ = ["Checked", "Verdicts", "how_ended", "require_pytest", "run_kits"]

LEFT = 256
"""The exit code that stands for a run that ended with 0 before its end."""
Verdicts = Sequence[Mapping[str, Any]]
_ERROR = re.compile(r"^(E|INTERNALERROR)\W+\w+(\.\w+)*(Error|Exception|Warning): ")
"""pytest's line with the exception, in the report of something that could not begin."""


@dataclass(frozen=True)
class Checked:
    """What kits said."""

    verdicts: Verdicts
    """As `pilot_core.testing.plugin.Verdict` has them."""
    output: str
    """pytest's own output."""
    code: int
    """pytest's exit code."""

    def count(self) -> dict[str, int]:
        """Return how many clauses had which outcome."""
        counts: dict[str, int] = {}
        for verdict in self.verdicts:
            counts[verdict["outcome"]] = counts.get(verdict["outcome"], 0) + 1
        return counts

    @property
    def ok(self) -> bool:
        """Whether clauses were kept and none was broken: it is not enough to opt out of all."""
        counts = self.count()
        return self.code == 0 and "passed" in counts and not {"failed", "error"} & set(counts)


def require_pytest() -> None:
    """Raise `HandledError` if the kits cannot run in this Python."""
    if importlib.util.find_spec("pytest") is None:
        raise HandledError("pytest is not installed here; install pilot-core[testing], or use --isolated")


def run_kits(python: str, target: Target, tell: Callable[[Mapping[str, Any]], None]) -> Checked:
    """Run a target's kits with an interpreter; `tell` hears each verdict at once.

    Raises `PluginError` if they could not be run.
    """
    with scratch_directory("pilot-core-check-") as place, (place / "output").open("w+b") as output:
        folder, ended = str(place), place / "ended"
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [python, "-m", "pytest", *_options(target, folder, writing), *map(str, target.kits)],
            cwd=target.project or folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        verdicts = []
        try:
            for line in _lines(reading, process):
                with suppress(ValueError):  # half a line, of a process that was killed
                    verdicts.append(json.loads(line))
                    tell(verdicts[-1])
        finally:
            os.close(reading)
            # what is left of the kit's processes, and the kit itself if this was called off; it is waited for after it,
            # so that the number is still its own
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        if code == 0 and not ended.exists():
            code = LEFT
        output.seek(0)
        text = output.read().decode(errors="replace")
    if not verdicts:
        raise PluginError(f"the kits of {target.name} could not be run: {_why(text, code)}")
    return Checked(verdicts, text, code)


def _lines(reading: int, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield the lines that come out of a pipe until the process has ended.

    It does not wait for the pipe's end: processes that a plugin leaves behind may hold it open.
    """
    pidfd, poller, rest = os.pidfd_open(process.pid), select.poll(), b""
    try:
        poller.register(pidfd, select.POLLIN)
        poller.register(reading, select.POLLIN)
        os.set_blocking(reading, False)
        over = closed = False
        while not over:
            over = any(descriptor == pidfd for descriptor, _ in poller.poll())
            with suppress(BlockingIOError):
                while not closed:
                    data = os.read(reading, 1 << 16)
                    *lines, rest = (rest + data).split(b"\n")
                    yield from lines
                    if not data:
                        closed = True
                        poller.unregister(reading)
    finally:
        os.close(pidfd)


def _options(target: Target, folder: str, pipe: int) -> list[str]:
    """Return pytest's options: a project's own configuration counts, an installed distribution has none."""
    options = ["-q", "-p", "pilot_core.testing.plugin", "-p", "no:cacheprovider", "--kit-only", "--kit-whole"]
    options += ["--kit-report", f"/dev/fd/{pipe}", "--basetemp", str(Path(folder, "tmp"))]
    options += ["-p", "pilot_core.testing.ended", "--kit-ended", str(Path(folder, "ended"))]
    if target.project is None:
        options += ["-c", os.devnull, "--rootdir", folder, "--import-mode=importlib"]
    return options


def _why(text: str, code: int) -> str:
    """Return in one line why pytest ran no clause."""
    if code < 0 or code == LEFT:
        return how_ended(text, code)
    lines = [line for line in text.splitlines() if line.startswith(("E  ", "ERROR", "INTERNALERROR"))]
    errors = [line for line in lines if _ERROR.search(line)]
    told = (errors or lines or text.strip().splitlines()[-1:] or [""])[-1].removeprefix("E").strip()
    return f"{told or 'it said nothing'} (pytest's exit code {code})"


def how_ended(text: str, code: int) -> str:
    """Return in a few words how a run ended that did not come to its end; `text` is pytest's output."""
    if code == LEFT:
        return "it ended before everything was tried, as by os._exit(0) or pytest.exit()"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"{''.join(text.strip().splitlines()[-1:])} (pytest's exit code {code})"
