"""Running a real pilot against a recording."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilot_core.errors import BadInput, ConfigError, HandledError, PluginError
from pilot_core.logs import HIDDEN, Redactor
from pilot_core.pilot import Pilot
from pilot_core.pilot_settings import PilotSettings
from pilot_core.places import scratch_directory
from pilot_core.recording.reading import Recording
from pilot_core.replay.assembly import ReplayAssembly, Stage
from pilot_core.replay.clock import ReplayClock
from pilot_core.replay.compare import Comparison
from pilot_core.replay.cues import Cues, EndOfRecording
from pilot_core.replay.script import Divergence, Script
from pilot_core.replay.server import ReplayServer
from pilot_core.settings import Config

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.supervision import Spawner

__all__ = ["ReplayResult", "replay"]

_NOT_TAKEN = frozenset(
    {
        "server",
        "ca_file",
        "cert",
        "key",
        "token_file",
        "token_origin",
        "credential",
        "proxy",
        "work_dir",
        "keep_job_dirs",
        "min_free_mb",
        "log_level",
        "queue_sources",
    }
)
"""Settings of the recorded pilot that are its machine's, or that a replay has no use for."""
_KINDS_TAKEN = frozenset({"communicator", "stager", "executor"})
"""Kinds of plugin whose recorded settings count."""
_ON_MACHINE = {"log_level": "debug", "min_free_mb": 0}


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """What came of a replay."""

    divergences: tuple[Divergence, ...]
    """In the order in which they were met; empty = everything was as recorded."""
    exchanges: int
    """Exchanges that took place."""
    of: int
    """Exchanges of the recording."""
    jobs: int
    """Jobs of the recording."""
    made_with: Mapping[str, str]
    """Distributions that took part when it was recorded, with their versions."""
    exit_code: int | None
    """What the pilot ended with; None if the recording breaks off."""
    broke_off: bool = False
    """Whether the recording is one of a pilot that was killed, and was replayed up to there."""

    @property
    def same(self) -> bool:
        """Whether everything was as recorded."""
        return not self.divergences

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "same": self.same,
            "exchanges": {"played": self.exchanges, "recorded": self.of},
            "jobs": self.jobs,
            "made_with": dict(self.made_with),
            "exit_code": self.exit_code,
            "broke_off": self.broke_off,
            "divergences": [divergence.to_json() for divergence in self.divergences],
        }


def replay(
    folder: Path, *, strict: bool = True, real: bool = False, watch: Callable[[Clock, Redactor], None] | None = None
) -> ReplayResult:
    """Run a pilot against a recording and say where it leaves it.

    `strict` = the exchanges have to come in the recorded order; `real` = payloads are run and files moved instead of
    played. `watch` is called with the replay's clock and redactor before the pilot starts: to set up a log. Raises
    `BadInput` for a recording that cannot be replayed.
    """
    recording = Recording.read(folder)
    with scratch_directory("pilot-core-replay-") as work:
        machine = _same_machine(recording, work)
        script = Script(recording, Comparison(real=real, same=machine), strict=strict)
        cues = Cues(recording, script)
        clock = ReplayClock(recording.manifest.started, cues)
        stage = Stage(recording=recording, script=script, cues=cues, clock=clock, real=real)
        server = ReplayServer(script, clock)

        def changed() -> None:
            server.attend()
            clock.stir()

        script.changed = changed
        redactor = Redactor()
        if watch:
            watch(clock, redactor)
        try:
            code = _run(stage, _settings(recording, server.port, work, real=real), redactor)
        finally:
            clock.close()
            server.close()
        if code is not None:
            script.end()
            script.differs("the end", "pilot", recording.manifest.exit_code, code, "exit code")
    return ReplayResult(
        divergences=tuple(script.divergences),
        exchanges=script.played,
        of=len(recording.exchanges),
        jobs=len({event["job"] for event in recording.of("state")}),
        made_with={
            "pilot-core": recording.manifest.pilot_core,
            **{plugin.distribution: plugin.version for plugin in recording.manifest.plugins.values()},
        },
        exit_code=code,
        broke_off=code is None,
    )


def _run(stage: Stage, made: tuple[PilotSettings, Config], redactor: Redactor) -> int | None:
    """Run the pilot; returns its exit code, or None where the recording breaks off."""
    recorded = stage.recording.manifest.exit_code
    spawner: Spawner | None = None
    if stage.real:
        from pilot_core.supervision import Spawner as RealSpawner  # noqa: PLC0415

        spawner = RealSpawner.start()
    try:
        pilot = Pilot(
            *made,
            clock=stage.clock,
            spawner=spawner,
            environment=os.environ if stage.real else {},
            redactor=redactor,
            assemble=partial(ReplayAssembly, stage),
        )
        stage.cues.signal = pilot.signalled
        return pilot.run()
    except EndOfRecording:
        return None
    except HandledError as error:
        if isinstance(error, (BadInput, ConfigError, PluginError)) and error.exit_code != recorded:
            raise  # of this machine, not of the recording: a communicator that is not installed
        return error.exit_code
    finally:
        if spawner is not None:
            spawner.close()


def _settings(recording: Recording, port: int, work: Path, *, real: bool) -> tuple[PilotSettings, Config]:
    """Return the pilot's settings and its configuration for a replay."""
    manifest = recording.manifest
    try:
        prefix = urlsplit(str(manifest.settings.get("server", ""))).path.rstrip("/")
    except ValueError as error:
        raise BadInput(f"recording {recording.folder}: its settings cannot be used: server: {error}") from None
    if not prefix.startswith("/"):
        prefix = ""  # it must not lead anywhere else than to the port
    taken = {name: value for name, value in manifest.settings.items() if name not in _NOT_TAKEN and value is not None}
    data: dict[str, Any] = {
        "pilot": {
            **taken,
            "server": f"http://127.0.0.1:{port}{prefix}",
            "work_dir": str(work),
            **_ON_MACHINE,
        }
    }
    for entry_point, plugin in manifest.plugins.items():
        kind, _, name = entry_point.partition(".")
        # where the communicator is played, it need not be installed
        if kind in _KINDS_TAKEN and (real or (kind == "communicator" and recording.exchanges)):
            values = {key: value for key, value in plugin.settings.items() if value not in (None, HIDDEN)}
            data.setdefault(kind, {})[name] = values
    config = Config(None, data, {}, {})
    try:
        settings = config.section("pilot", PilotSettings)
        settings.check()
    except ConfigError as error:
        raise BadInput(f"recording {recording.folder}: its settings cannot be used: {error}") from None
    return settings, config


def _same_machine(recording: Recording, work: Path) -> Callable[[str], str]:
    """Return what makes texts of the recorded machine and of this one the same: directories and names."""
    manifest = recording.manifest
    names: Mapping[str, str] = {
        manifest.work_dir: "<work-dir>",
        str(work): "<work-dir>",
        manifest.host: "<host>",
        socket.gethostname(): "<host>",
    }
    pairs = sorted(((name, text) for name, text in names.items() if name), key=lambda pair: -len(pair[0]))

    def same(text: str) -> str:
        for name, other in pairs:
            text = text.replace(name, other)
        return text

    return same
