"""Running kits in a process of their own, and their verdicts as they come."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.errors import HandledError, PluginError

if TYPE_CHECKING:
    from pilot_core.checking.target import Target

__all__ = ["Checked", "Verdicts", "require_pytest", "run_kits"]

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
        """Whether there were clauses and none was broken."""
        return self.code == 0 and bool(self.verdicts) and not {"failed", "error"} & set(self.count())


def require_pytest() -> None:
    """Raise `HandledError` if the kits cannot run in this Python."""
    if importlib.util.find_spec("pytest") is None:
        raise HandledError("pytest is not installed here; install pilot-core[testing], or use --isolated")


def run_kits(python: str, target: Target, tell: Callable[[Mapping[str, Any]], None]) -> Checked:
    """Run a target's kits with an interpreter; `tell` hears each verdict at once.

    Raises `PluginError` if they could not be run.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="pilot-core-check-") as folder, tempfile.TemporaryFile() as output:
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
            with os.fdopen(reading, encoding="utf-8") as stream:
                for line in stream:
                    verdicts.append(json.loads(line))
                    tell(verdicts[-1])
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output.seek(0)
        text = output.read().decode(errors="replace")
    if not verdicts:
        raise PluginError(f"the kits of {target.name} could not be run: {_why(text, code)}")
    return Checked(verdicts, text, code)


def _options(target: Target, folder: str, pipe: int) -> list[str]:
    """Return pytest's options: a project's own configuration counts, an installed distribution has none."""
    options = ["-q", "-p", "pilot_core.testing.plugin", "-p", "no:cacheprovider", "--kit-only"]
    options += ["--kit-report", f"/dev/fd/{pipe}", "--basetemp", str(Path(folder, "tmp"))]
    if target.project is None:
        options += ["-c", os.devnull, "--rootdir", folder, "--import-mode=importlib"]
    return options


def _why(text: str, code: int) -> str:
    """Return in one line why pytest ran no clause."""
    lines = [line for line in text.splitlines() if line.startswith(("E  ", "ERROR", "INTERNALERROR"))]
    errors = [line for line in lines if _ERROR.search(line)]
    told = (errors or lines or text.strip().splitlines()[-1:] or [""])[-1].removeprefix("E").strip()
    return f"{told or 'it said nothing'} (pytest's exit code {code})"
