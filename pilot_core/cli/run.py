"""`pilot-core run`: take jobs from a PanDA server and run them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.errors import HandledError
from pilot_core.pilot_settings import PilotSettings
from pilot_core.settings import Config, add_options, given_options

if TYPE_CHECKING:
    import argparse

    from pilot_core.api.clock import Clock
    from pilot_core.journal import Hook
    from pilot_core.supervision import Spawner

__all__ = ["SUMMARY", "add_arguments", "add_settings", "run"]

SUMMARY = "Take jobs from a PanDA server and run them, one after the other."


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare the options by which settings are given; those of the pilot's come from `PilotSettings`."""
    parser.add_argument(
        "--config", metavar="F", type=Path, help="TOML file with settings: [pilot] has the names of these options"
    )
    parser.add_argument(
        "--set",
        metavar="A.B.C=V",
        action="append",
        default=[],
        help="one setting of a plugin or of the pilot, e.g. stager.http.timeout=5; may be repeated",
    )
    add_options(parser, PilotSettings)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--record",
        metavar="DIR",
        type=Path,
        help="record all traffic with the server and the jobs' events in a new directory, without secrets; "
        "'pilot-core replay DIR' runs the pilot against it",
    )
    add_settings(parser)
    parser.epilog = (
        "Order of precedence: defaults < file < environment < command line. Exit code 0: every job that was taken "
        "was reported, whether it finished or failed."
    )


def run(arguments: argparse.Namespace, clock: Clock | None = None, *, hook: Hook | None = None) -> int:
    """Run the pilot; in tests only `clock` is another one than the system's, and `hook` hears of its journal."""
    if sys.platform != "linux":
        raise HandledError("'pilot-core run' needs Linux 5.4 or newer; the other commands work here too")
    clock = clock or SystemClock()
    config = Config.read(arguments.config, arguments.set)
    settings = config.section("pilot", PilotSettings, given_options(arguments, PilotSettings))
    settings.check()
    # forked before threads exist and while this process is small: it forks every job's supervisor
    from pilot_core.supervision import Spawner

    spawner = Spawner.start(clock)
    try:
        from pilot_core.cli.bars import shown_progress
        from pilot_core.logs import Redactor, set_up_logging
        from pilot_core.pilot import Pilot

        if arguments.record:
            return _recorded(arguments.record, settings, config, clock, spawner)
        redactor = Redactor()
        with shown_progress(sys.stderr, clock) as (stream, progress):
            set_up_logging(stream, settings.log_level, clock, redactor)
            pilot = Pilot(
                settings,
                config,
                clock=clock,
                spawner=spawner,
                environment=os.environ,
                redactor=redactor,
                progress=progress,
                hook=hook,
            )
            pilot.handle_signals()
            return pilot.run()
    finally:
        spawner.close()


def _recorded(folder: Path, settings: PilotSettings, config: Config, clock: Clock, spawner: Spawner) -> int:
    """Run the pilot with a recorder around it; returns the exit code."""
    from functools import partial

    from pilot_core.cli.bars import shown_progress
    from pilot_core.logs import set_up_logging
    from pilot_core.pilot import Pilot
    from pilot_core.recording import RecordedAssembly, Recorder

    recorder = Recorder(folder, clock)
    redactor = recorder.redactor()
    code: int | None = HandledError.exit_code
    try:
        with shown_progress(sys.stderr, clock) as (stream, progress):
            set_up_logging(stream, settings.log_level, clock, redactor)
            pilot = Pilot(
                settings,
                config,
                clock=clock,
                spawner=spawner,
                environment=os.environ,
                redactor=redactor,
                assemble=partial(RecordedAssembly, recorder),
                progress=progress,
            )
            pilot.handle_signals()
            code = pilot.run()
    except HandledError as error:
        code = error.exit_code
        raise
    finally:
        recorder.close(code)
    return code
