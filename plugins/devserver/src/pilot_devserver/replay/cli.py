"""Replay recorded exchanges: against the protocols themselves, or against a running server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pilot_core.errors import HandledError
from pilot_devserver.replay.recording import load
from pilot_devserver.replay.runner import Outcome, report
from pilot_devserver.replay.stages import replay_in_process, replay_over_sockets

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 only if nothing differs."""
    parser = argparse.ArgumentParser(
        prog="python -m pilot_devserver.replay",
        description="Replay recorded exchanges with PanDA servers and compare the answers. Without --state-dir the"
        " protocols are asked directly; with it, the running server of that directory is asked over TLS. Its database"
        " must have no jobs yet.",
    )
    parser.add_argument("files", nargs="+", type=Path, help="recordings (JSON lines); several are merged")
    parser.add_argument("--state-dir", type=Path, help="directory of a running `pilot-core serve`")
    parser.add_argument("--quiet", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    try:
        exchanges = load(options.files)
        outcomes = (
            replay_over_sockets(exchanges, options.state_dir) if options.state_dir else replay_in_process(exchanges)
        )
    except HandledError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return _show(outcomes, quiet=options.quiet)


def _show(outcomes: Sequence[Outcome], *, quiet: bool) -> int:
    lines = report(outcomes)
    for line in lines[-1:] if quiet else lines:
        print(line)  # noqa: T201
    return 1 if any(item.differences for item in outcomes) else 0
