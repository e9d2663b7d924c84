"""A real pilot process whose clock runs faster, or elsewhere, than the world's, or that is killed where one wants.

`python -m pilot_core.testing.pilot --clock-scale 600 --wall-step 3600 run --server ...`: everything after these
options is what `pilot-core` takes. `--kill-at stored:after` has the pilot killed (SIGKILL) at that point of its
journal; `--points` prints all of them. The production command has no such options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pilot_core.api.clock import SystemClock
from pilot_core.cli import guarded, parser_of
from pilot_core.cli import run as run_command
from pilot_core.journal.points import POINTS
from pilot_core.testing.killing import kill_at

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pilot-core run` with another clock; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pilot_core.testing.pilot", allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clock-scale", type=float, default=1.0, help="how many times faster time passes")
    parser.add_argument("--wall-step", type=float, default=0.0, help="seconds by which the wall clock is ahead")
    parser.add_argument("--kill-at", metavar="POINT:MOMENT[:N]", help="where to be killed: before, after or effect")
    parser.add_argument(
        "--points", action="version", version="\n".join(POINTS), help="print the points of the journal, and end"
    )
    parser.add_argument("command", choices=["run"], help="the pilot-core command")
    own, rest = parser.parse_known_args(argv)
    clock = SystemClock(scale=own.clock_scale, wall_step=own.wall_step)

    def run() -> int:
        hook = kill_at(own.kill_at) if own.kill_at else None
        return run_command.run(parser_of("run", run_command).parse_args(rest), clock, hook=hook)

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
