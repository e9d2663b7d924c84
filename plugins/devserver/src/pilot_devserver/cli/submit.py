"""`pilot-core submit`: give jobs to a development server."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.api.server import StoreUnavailable
from pilot_core.errors import BadInput, ConfigError
from pilot_devserver.cli.common import add_state_dir
from pilot_devserver.jobfile import InputTemplate, JobTemplate, Preparation, read_job_file
from pilot_devserver.site import Site, SiteQueue
from pilot_devserver.statedir import StateDir

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pilot_devserver.store_jobs import JobSpec

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Give jobs to a development server; prints their PandaIDs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", nargs="*", type=Path, help="TOML or JSON file with [[jobs]]")
    add_state_dir(parser)
    what = parser.add_argument_group("one job by options")
    what.add_argument("--transformation", metavar="T", help="program: a path, a name on PATH, or a URL")
    what.add_argument("--script", type=Path, metavar="F", help="instead: a file that the server is to offer")
    what.add_argument("--parameters", default="", metavar="P", help="its arguments, in one text")
    what.add_argument(
        "--input", action="append", default=[], type=Path, metavar="F", help="input file; may be repeated"
    )
    what.add_argument("--output", action="append", default=[], metavar="LFN", help="output file; may be repeated")
    what.add_argument("--no-log", action="store_true", help="the job has no log file")
    what.add_argument("--queue", default="", metavar="NAME", help="queue [default: the server's first]")
    what.add_argument("--label", default="managed", metavar="L", help="prodSourceLabel [default: %(default)s]")
    what.add_argument("--name", default="", help="the job's name")
    what.add_argument("--count", type=int, default=1, metavar="N", help="copies; {n} becomes the copy's number")
    parser.add_argument("--no-copy", action="store_true", help="inputs are on the storage already")
    parser.add_argument("--database", type=Path, metavar="F", help="write into this SQLite file, past any server")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Submit; to the running server if there is one, else into its database."""
    templates = [template for file in arguments.file for template in read_job_file(file)]
    if arguments.transformation or arguments.script:
        templates.append(_from_options(arguments))
    if not templates:
        raise BadInput("no job: name a file, or give --transformation or --script (see 'pilot-core submit --help')")
    state = StateDir(arguments.state_dir, SystemClock())
    if arguments.database is None and state.running() is not None:
        ids = _over_http(state, templates, copy=not arguments.no_copy)
    else:
        ids = _into_database(state, arguments.database or state.database, templates, copy=not arguments.no_copy)
    print(json.dumps({"ids": ids}) if arguments.json else "\n".join(map(str, ids)))
    return 0


def _from_options(arguments: argparse.Namespace) -> JobTemplate:
    return JobTemplate(
        transformation=arguments.transformation or "",
        script=arguments.script,
        parameters=arguments.parameters,
        inputs=tuple(InputTemplate(path=path) for path in arguments.input),
        outputs=tuple(arguments.output),
        log=not arguments.no_log,
        queue=arguments.queue,
        label=arguments.label,
        name=arguments.name,
        count=arguments.count,
    )


def _over_http(state: StateDir, templates: Sequence[JobTemplate], *, copy: bool) -> list[int]:
    """Submit through the server's own interface."""
    from pilot_devserver.client import running_server

    client = running_server(state)
    queues = [SiteQueue(queue["name"], Path(queue["storage"])) for queue in client.get("site")["queues"]]
    preparation = Preparation(queues, state.transformations, client.url, copy=copy)
    jobs = [asdict(spec) for spec in _specs(preparation, templates)]
    return list(client.post("jobs", {"jobs": jobs})["ids"])


def _into_database(state: StateDir, database: Path, templates: Sequence[JobTemplate], *, copy: bool) -> list[int]:
    """Submit to a server that does not run."""
    from contextlib import closing

    from pilot_devserver.store import SqliteStore

    if not database.is_file():
        raise ConfigError(f"{database} does not exist, and no server runs; start one (pilot-core serve) first")
    try:
        with closing(SqliteStore(database, clock=SystemClock(), adder_delay=None)) as store:
            site = Site(store.queues(), state.storage)
            site.prepare()
            return store.submit(
                _specs(Preparation(site.queues.values(), state.transformations, "", copy=copy), templates)
            )
    except (StoreUnavailable, sqlite3.Error) as error:
        raise ConfigError(f"{database}: {error}") from None


def _specs(preparation: Preparation, templates: Sequence[JobTemplate]) -> list[JobSpec]:
    return [spec for template in templates for spec in preparation.specs(template)]
