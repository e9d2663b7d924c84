"""`pilot-core serve`: start a development server."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.errors import BadInput
from pilot_devserver.cli.common import add_state_dir, log_to_stderr
from pilot_devserver.devserver import DEFAULT_QUEUE, DevServer
from pilot_devserver.files import write_secret
from pilot_devserver.statedir import TOKEN_ORIGIN

if TYPE_CHECKING:
    import argparse

    from pilot_devserver.faults.scenario import Scenario

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Start a development server that speaks the real PanDA protocols; it ends with SIGINT or SIGTERM."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_state_dir(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on [default: %(default)s]")
    parser.add_argument("--port", type=int, default=0, help="port for TLS, 0 = any that is free [default: %(default)s]")
    parser.add_argument("--plain-port", type=int, metavar="PORT", help="also serve plain HTTP there; 0 = any free port")
    pages = parser.add_mutually_exclusive_group()
    pages.add_argument(
        "--web-port",
        type=int,
        default=0,
        metavar="PORT",
        help="port of 127.0.0.1 for the pages for people, 0 = any that is free [default: %(default)s]",
    )
    pages.add_argument("--no-web", action="store_true", help="serve no pages for people")
    parser.add_argument(
        "--queue", action="append", metavar="NAME", help=f"a queue; may be repeated [default: {DEFAULT_QUEUE}]"
    )
    parser.add_argument(
        "--protocol", action="append", metavar="NAME", help="serve this plugin only; may be repeated [default: all]"
    )
    parser.add_argument("--database", type=Path, metavar="F", help="SQLite file [default: jobs.sqlite in --state-dir]")
    parser.add_argument(
        "--storage", type=Path, metavar="D", help="directory for the queues' files [default: storage in --state-dir]"
    )
    parser.add_argument(
        "--adder-delay",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds between a pilot's final update and the server's own verdict [default: %(default)s]",
    )
    parser.add_argument(
        "--scenario", type=Path, metavar="F", help="TOML file with the faults to do to clients (see the README)"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of text")
    parser.add_argument(
        "--print-env", action="store_true", help="print environment variables for 'pilot-core run' in shell syntax"
    )
    parser.add_argument("--ready-fd", type=int, metavar="N", help="write the JSON line to this descriptor when ready")
    parser.add_argument("--ready-file", type=Path, metavar="F", help="write the JSON line to this file when ready")
    parser.add_argument("--lifeline-fd", type=int, metavar="N", help="end as soon as this descriptor is at its end")
    parser.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="least level of the log on standard error [default: %(default)s]",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    for option in ("ready_fd", "lifeline_fd"):
        _check_descriptor(option, getattr(arguments, option))
    # before there is a directory or a log: nothing is begun with a scenario that makes no sense
    scenario = _scenario(arguments.scenario)
    clock = SystemClock()
    log_to_stderr(arguments.log_level, clock)
    server = DevServer(
        arguments.state_dir,
        queues=arguments.queue or (DEFAULT_QUEUE,),
        host=arguments.host,
        port=arguments.port,
        plain_port=arguments.plain_port,
        web_port=None if arguments.no_web else arguments.web_port,
        database=arguments.database,
        storage=arguments.storage,
        protocols=arguments.protocol,
        adder_delay=arguments.adder_delay,
        scenario=scenario,
        clock=clock,
    )
    ends = (signal.SIGINT, signal.SIGTERM)
    server.run(lambda: _announce(server, arguments), signals=ends, lifeline=arguments.lifeline_fd)
    return 0


def _scenario(path: Path | None) -> Scenario | None:
    """Read the faults, if there are any to read; raises `ConfigError`."""
    if path is None:
        return None
    from pilot_devserver.faults.scenario import read_scenario

    return read_scenario(path)


def _check_descriptor(option: str, descriptor: int | None) -> None:
    """Raise `BadInput` for a descriptor that was not handed down or cannot be waited for."""
    if descriptor is None:
        return
    try:
        mode = os.fstat(descriptor).st_mode
    except (OSError, OverflowError):
        mode = 0
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISREG(mode) and option == "ready_fd")):
        raise BadInput(f"--{option.replace('_', '-')} {descriptor}: not an open pipe or socket")


def _announce(server: DevServer, arguments: argparse.Namespace) -> None:
    """Say how the server is reached, first to people, then to whoever waits for it."""
    facts = _facts(server)
    line = json.dumps(facts)
    if arguments.print_env:
        print(_environment(server))
    elif arguments.json:
        print(line)
    else:
        print("\n".join(f"{name + ':':13} {value}" for name, value in facts.items() if value))
        print(f"\ntry:          pilot-core run --config {shlex.quote(str(server.state.config_file))} --jobs 0")
    sys.stdout.flush()
    if arguments.ready_file:
        try:
            write_secret(arguments.ready_file, line + "\n")
        except OSError as error:
            raise BadInput(f"--ready-file {arguments.ready_file}: {error.strerror}") from None
    if arguments.ready_fd is not None:
        try:
            with os.fdopen(arguments.ready_fd, "w", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise BadInput(f"--ready-fd {arguments.ready_fd}: {error.strerror}") from None


def _facts(server: DevServer) -> dict[str, str]:
    """Return what clients have to know; files by their paths. The only secret is the key in the pages' address."""
    state = server.state
    return {
        "url": server.url,
        "plain_url": server.plain_url,
        "web": server.web_url,
        "queue": ", ".join(server.site.queues),
        "ca_file": str(state.ca_file),
        "cert": str(state.pilot_cert),
        "key": str(state.pilot_key),
        "proxy": str(state.pilot_proxy),
        "token_file": str(state.token_file),
        "token_origin": TOKEN_ORIGIN,
        "config": str(state.config_file),
        "state_dir": str(state.path),
    }


def _environment(server: DevServer) -> str:
    """Return shell commands that tell `pilot-core run` of this server."""
    variables = {
        "PILOT_CORE_SERVER": server.url,
        "PILOT_CORE_QUEUE": next(iter(server.site.queues)),
        "PILOT_CORE_CA_FILE": str(server.state.ca_file),
        "PILOT_CORE_CERT": str(server.state.pilot_proxy),
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
