"""`pilot-core run-job`: run one job out of a file, or single phases of it, with no server."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pilot_core.api.clock import SystemClock
from pilot_core.errors import BadInput, Cancelled, HandledError
from pilot_core.pilot_settings import PilotSettings
from pilot_core.settings import Config, add_options, given_options

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.assembly import Assembly
    from pilot_core.onejob import OneJob, Order
    from pilot_core.supervision import Spawner

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Run one job out of a file, or single phases of it, with no server: as a pilot runs it, and the verdict here."
OPTIONS = (
    "queue",
    "queue_sources",
    "work_dir",
    "communicator",
    "cert",
    "key",
    "token_file",
    "token_origin",
    "credential",
    "ca_file",
    "proxy",
    "transfers",
    "stall_seconds",
    "log_level",
)
"""Those of the pilot's settings that mean something without a server."""
EPILOG = """\
FILE is a job in TOML or JSON with the names of pilot_core.Job:

  transformation = "sort"                      # the least is a program and its parameters
  parameters = "-o sorted.txt words.txt"
  inputs = ["words.txt"]                       # or {lfn = "words.txt", size = 12, checksum = "adler32:1a2b3c4d"},
                                               # with scope = "..." where storages or a catalogue are Rucio's
  outputs = ["sorted.txt"]
  log = "job.log.tgz"

or a server's description of a job as JSON (PanDA's dictionary, alone or in the server's answer), which the plugin of
--communicator translates. JSON is taken for a server's if it has PandaID, jobPars, StatusCode, success, data or jobs
at its top, or if --communicator is given.

Without --queue, inputs are files in --storage and outputs are put into --output. With it, storages, stagers and
executor are those of that queue, as in 'pilot-core run'.

phases: stage-in, payload, stage-out (outputs and log). To debug a payload:

  pilot-core run-job job.toml --only stage-in --keep      prints the job's directory
  pilot-core run-job job.toml --from payload --in DIR     again and again; DIR stays

exit codes: 0 the job finished, 1 it failed (with --explain: it would fail), 2 wrong input or configuration (the job's
description included), 3 a plugin, 5 a credential, 128+n ended by signal n. The result is on standard output, the log on
standard error. Ctrl-C ends the payload."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; some are of the pilot's settings."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("file", metavar="FILE", type=Path, help="the job's description, TOML or JSON")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--only",
        metavar="PHASE",
        action="append",
        help="run these phases only: stage-in, payload, stage-out; may be repeated, or a list with commas",
    )
    which.add_argument("--from", metavar="PHASE", dest="first", help="run this phase and those after it")
    parser.add_argument(
        "--in", metavar="DIR", dest="job_dir", type=Path, help="go on in a job's directory that was kept; it stays"
    )
    parser.add_argument("--keep", action="store_true", help="keep the job's directory, and print where it is")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print what would be run, and why: stagers and replicas of each file in order, command, environment, "
        "limits, plugins; nothing is run or made",
    )
    parser.add_argument("--json", action="store_true", help="print the result, or the explanation, as JSON")
    parser.add_argument(
        "--storage", metavar="DIR", type=Path, help="directory with the inputs, without --queue [default: .]"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="directory for outputs and log, without --queue; made if needed [default: ./run-job-output]",
    )
    parser.add_argument(
        "--config", metavar="F", type=Path, help="TOML file with settings and queues, as of 'pilot-core run'"
    )
    parser.add_argument(
        "--set",
        metavar="A.B.C=V",
        action="append",
        default=[],
        help="one setting of a plugin or of the pilot, e.g. stager.http.timeout=5; may be repeated",
    )
    add_options(parser, PilotSettings, only=OPTIONS)


def run(arguments: argparse.Namespace, clock: Clock | None = None) -> int:
    """Run or explain the job; `clock` is another one than the system's in tests only."""
    if sys.platform != "linux" and not arguments.explain:
        raise HandledError("'pilot-core run-job' needs Linux 5.4 or newer; with --explain it works here too")
    clock = clock or SystemClock()
    from pilot_core.cli.bars import shown_progress
    from pilot_core.onejob import OneJob

    order = _order(arguments)
    config = Config.read(arguments.config, arguments.set)
    settings = config.section("pilot", PilotSettings, given_options(arguments, PilotSettings))
    settings.check_credential()
    if arguments.explain:
        return _explain(OneJob(_assembly(settings, config, clock, None, sys.stderr), order), as_json=arguments.json)
    # forked before threads exist and while this process is small: it forks the job's supervisor
    from pilot_core.supervision import Spawner

    spawner = Spawner.start(clock)
    try:
        with shown_progress(sys.stderr, clock) as (stream, progress):
            assembly = _assembly(settings, config, clock, spawner, stream)
            assembly.progress = progress
            return _run(OneJob(assembly, order), as_json=arguments.json)
    finally:
        spawner.close()


def _order(arguments: argparse.Namespace) -> Order:
    """Return what is asked for; raises `BadInput`."""
    from pilot_core.onejob import Order
    from pilot_core.phases import Plan, phases_from, phases_named

    plan = Plan(job_dir=arguments.job_dir.absolute() if arguments.job_dir else None)
    if arguments.only:
        plan = Plan(phases_named(arguments.only), plan.job_dir)
    elif arguments.first:
        plan = Plan(phases_from(arguments.first), plan.job_dir)
    if arguments.explain and arguments.keep:
        raise BadInput("--keep keeps what a run made, and --explain makes nothing; leave one of them out")
    return Order(
        file=arguments.file,
        plan=plan,
        keep=arguments.keep,
        storage=arguments.storage,
        output=arguments.output,
        servers=arguments.communicator is not None,
    )


def _assembly(
    settings: PilotSettings, config: Config, clock: Clock, spawner: Spawner | None, stream: TextIO
) -> Assembly:
    """Put together what runs the job, with the log on `stream`."""
    from pilot_core.assembly import Assembly
    from pilot_core.logs import Redactor, set_up_logging

    redactor = Redactor()
    set_up_logging(stream, settings.log_level, clock, redactor)
    return Assembly(settings, config, clock=clock, spawner=spawner, environment=os.environ, redactor=redactor)


def _explain(job: OneJob, *, as_json: bool) -> int:
    """Print what would be run; returns 1 if it is known that it would fail."""
    from pilot_core.cli.run_job_text import explanation_text

    found = job.explain()
    print(json.dumps(found.to_json(), indent=2) if as_json else explanation_text(found))
    return 1 if found.problems else 0


def _run(job: OneJob, *, as_json: bool) -> int:
    """Run the job and print what became of it; returns the exit code."""
    from pilot_core.cli.run_job_text import result_text

    job.ending.listen()
    try:
        result = job.run()
    except Cancelled as error:
        if not job.ending.signal:
            raise
        print(f"pilot-core: ended before the job began: {error}", file=sys.stderr)
        return 128 + job.ending.signal
    print(json.dumps(result.to_json(), indent=2) if as_json else result_text(result))
    return job.ending.exit_code(0) or (0 if result.finished else 1)
