"""How pilots are started elsewhere, asked about, and ended.

Elsewhere is this machine here: each pilot has a directory, and a small process of its own, the keeper, that outlives
the launcher. With a batch system, its commands take the place of both: hand it argv as a list, never through a shell.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core import ExecutorError, LaunchedPilot

from {{ cookiecutter.__module }} import keeper

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, LaunchRequest

    from {{ cookiecutter.__module }}.settings import Settings

ID = re.compile(r"[0-9a-f]{16}")
"""A pilot's id is the name of its directory. Whoever asks may ask for anything: nothing else becomes a path."""


class {{ cookiecutter.__class }}:
    """The launcher. All that it knows of pilots is in their directories, so that any instance can go on with them."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._directory = settings.directory
        self._grace = settings.grace
        self._log = context.log

    def launch(self, request: LaunchRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[LaunchedPilot]:
        """Start pilots and return all of them, or none if one cannot be started."""
        started: list[str] = []
        try:
            for _ in range(request.count):
                cancel.raise_if_cancelled()
                deadline.raise_if_passed("launching pilots")
                started.append(self._launch(request))
        except BaseException:
            self._end(started)
            raise
        self._log.info("launched %d pilots in %s", len(started), self._directory)
        return [LaunchedPilot(id=each, state="running") for each in started]

    def status(self, ids: Sequence[str], *, cancel: CancelToken, deadline: Deadline) -> Sequence[LaunchedPilot]:
        """Return what became of pilots."""
        cancel.raise_if_cancelled()
        deadline.raise_if_passed("asking about pilots")
        # YOUR CODE: ask the batch system, about all of them in one call
        return [LaunchedPilot(id=each, state=self._state(each)) for each in ids]

    def stop(self, ids: Sequence[str], *, cancel: CancelToken, deadline: Deadline) -> None:
        """Ask pilots to end; what is left of them after the grace is killed."""
        cancel.raise_if_cancelled()
        deadline.raise_if_passed("ending pilots")
        self._end(ids)

    def _launch(self, request: LaunchRequest) -> str:
        """Start one pilot and return its id."""
        # YOUR CODE: submit it to the batch system, with request.cores and request.memory_mb, and return its job id
        name = secrets.token_hex(8)
        folder = self._directory / name
        words = [str(Path(keeper.__file__)), str(folder), str(request.wall_seconds), str(self._grace), *request.argv]
        try:
            folder.mkdir(mode=0o700, parents=True)
            with (folder / "pilot.log").open("wb") as output:
                # the keeper leaves at once for a session of its own, and has written its record by then
                subprocess.run(  # noqa: S603
                    [sys.executable, "-I", "-S", *words],
                    env={"PATH": os.defpath, **request.environment},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    check=True,
                )
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "strerror", "") or type(error).__name__
            raise ExecutorError(f"{folder}: the pilot cannot be started: {reason}; see pilot.log there") from None
        return name

    def _state(self, name: str) -> str:
        """Return what became of one pilot."""
        if not ID.fullmatch(name) or not (self._directory / name).is_dir():
            return "unknown"
        folder = self._directory / name
        # before the exit code is looked for: a pilot that ends in between has left one
        running = keeper.running(folder)
        with suppress(OSError):
            return "done" if (folder / keeper.EXIT).read_text() == "0" else "failed"
        return "failed" if running is None else "running"

    def _end(self, names: Sequence[str]) -> None:
        """Tell the keepers of pilots that run."""
        # YOUR CODE: cancel them in the batch system
        for name in names:
            keeper_id = keeper.running(self._directory / name) if ID.fullmatch(name) else None
            if keeper_id is not None:
                with suppress(ProcessLookupError):
                    os.kill(keeper_id, signal.SIGTERM)
