"""`pilot-core flush`: deliver what earlier pilots could not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.cli.run import add_settings
from pilot_core.errors import CommunicationError
from pilot_core.pilot_settings import PilotSettings
from pilot_core.settings import Config, given_options

if TYPE_CHECKING:
    import argparse

    from pilot_core.api.clock import Clock
    from pilot_core.supervision import Spawner

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Deliver the final reports that earlier pilots of a work directory could not; takes no job."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: those of `pilot-core run`."""
    add_settings(parser)
    parser.epilog = "Exit code 0: nothing waits any more; 4: something does."


def run(arguments: argparse.Namespace) -> int:
    """Deliver; returns the exit code."""
    clock = SystemClock()
    config = Config.read(arguments.config, arguments.set)
    settings = config.section("pilot", PilotSettings, given_options(arguments, PilotSettings))
    settings.check_server()
    # forked before threads exist, for a queue's executor; it runs nothing here
    from pilot_core.supervision import Spawner

    spawner = Spawner.start(clock) if settings.queue else None
    try:
        return _flush(settings, config, clock, spawner)
    finally:
        if spawner:
            spawner.close()


def _flush(settings: PilotSettings, config: Config, clock: Clock, spawner: Spawner | None) -> int:
    """Deliver with these settings; returns the exit code."""
    from pilot_core.assembly import Assembly
    from pilot_core.ending import Ending
    from pilot_core.flushing import flush
    from pilot_core.keeping import open_journal
    from pilot_core.logs import Redactor, set_up_logging

    redactor = Redactor()
    set_up_logging(sys.stderr, settings.log_level, clock, redactor)
    ending = Ending()
    ending.listen()
    assembly = Assembly(settings, config, clock=clock, spawner=spawner, environment=os.environ, redactor=redactor)
    with open_journal(settings.work_dir.absolute(), clock, clean=redactor.clean) as journal:
        done = flush(assembly, journal, ending)
    print(f"{done.delivered} delivered, {done.left} left")
    return CommunicationError.exit_code if done.left else 0
