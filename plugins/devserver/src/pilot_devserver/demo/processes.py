"""The demo's two processes: the development server and the pilot, each started as a user would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilot_core.errors import HandledError

__all__ = ["PilotProcess", "Places", "ServerProcess", "tail"]

TAIL_LINES = 25
COMMAND = (sys.executable, "-m", "pilot_core")


class Places:
    """Where a demo keeps what, below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.state = self.root / "server"
        self.storage = self.root / "storage"
        self.work = self.root / "work"
        self.server_log = self.root / "server.log"
        self.pilot_log = self.root / "pilot.log"
        self.result = self.root / "demo.json"


def tail(file: Path) -> str:
    """Return the last lines of a log, or nothing."""
    try:
        return "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""


class _Process:
    """A child in a session of its own, so that the terminal's Ctrl-C reaches us alone and we end things in order."""

    def __init__(self, arguments: Sequence[str], places: Places, log: Path, *, pass_fds: Sequence[int] = ()) -> None:
        self.arguments = arguments
        with log.open("wb") as stream:
            # in a directory of the demo: `python -m` looks for modules where it is started
            self._process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=places.root,
                env=_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    def wait(self) -> int:
        """Wait for its end; returns the exit code, negative for a signal."""
        return self._process.wait()

    def end(self) -> int:
        """Ask it to end, and wait."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait()


class ServerProcess(_Process):
    """`pilot-core serve` on loopback, with one protocol. It ends when this process does, however that comes about."""

    def __init__(self, places: Places, queue: str, protocol: str) -> None:
        ready, ready_end = os.pipe()
        lifeline, self._lifeline = os.pipe()
        try:
            # fmt: off
            super().__init__(
                ["serve", "--state-dir", str(places.state), "--storage", str(places.storage), "--queue", queue,
                 "--protocol", protocol, "--adder-delay", "0",
                 "--ready-fd", str(ready_end), "--lifeline-fd", str(lifeline)],
                places, places.server_log, pass_fds=(ready_end, lifeline),
            )
            # fmt: on
        finally:
            os.close(ready_end)
            os.close(lifeline)
        with os.fdopen(ready, encoding="utf-8") as stream:
            # at its end without a word if the server could not start
            line = stream.read()
        if not line:
            code = self.end()
            raise HandledError(
                f"the development server did not start (exit code {code}): {_last_line(places.server_log)}"
            )
        self.facts: Mapping[str, Any] = json.loads(line)

    def end(self) -> int:
        """Ask it to end, and wait."""
        code = super().end()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        return code


class PilotProcess(_Process):
    """`pilot-core run` until the server has no more jobs."""

    def __init__(self, places: Places, facts: Mapping[str, Any], communicator: str) -> None:
        # fmt: off
        super().__init__(
            ["run", "--config", facts["config"], "--server", facts["url"], "--queue", facts["queue"],
             "--ca-file", facts["ca_file"], "--cert", facts["proxy"],
             "--communicator", communicator, "--jobs", "0", "--work-dir", str(places.work)],
            places, places.pilot_log,
        )
        # fmt: on

    @property
    def command(self) -> str:
        """Return the command as a user would type it."""
        return " ".join(["pilot-core", *self.arguments])


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for both: ours, without settings for some other pilot."""
    return {name: value for name, value in own.items() if not name.startswith("PILOT_CORE_")}


def _last_line(log: Path) -> str:
    lines = tail(log).splitlines()
    return lines[-1] if lines else f"see {log}"
