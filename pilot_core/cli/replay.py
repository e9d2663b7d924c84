"""`pilot-core replay`: run the pilot offline against a recording and say where it diverges."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.errors import BadInput

if TYPE_CHECKING:
    import argparse

    from pilot_core.api.clock import Clock
    from pilot_core.logs import Redactor
    from pilot_core.replay import ReplayResult

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Run the pilot offline against what 'pilot-core run --record DIR' recorded, and say where it diverges."
DIVERGED = 1
MOST_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recording", metavar="DIR", type=Path, nargs="?", help="the recording")
    parser.add_argument(
        "--any-order", action="store_true", help="the exchanges may come in another order than the recorded one"
    )
    parser.add_argument(
        "--real",
        action="store_true",
        help="run the payloads and move the files; without it their recorded results are played",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--save-test",
        metavar="FILE",
        type=Path,
        help="write a test for pytest that replays a copy of the recording, which is put beside it",
    )
    parser.add_argument(
        "--list-volatile", action="store_true", help="print what is compared by its kind only, and why; nothing else"
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        choices=("off", "debug", "info", "warning", "error"),
        default="off",
        help="least level of the replayed pilot's log on standard error: debug, info, warning, error, off "
        "[default: off]",
    )
    parser.epilog = (
        "Exit code 0: everything was as recorded, 1: it diverged, 2: the recording is damaged or of another version. "
        "Waits of the recorded pilot are not waited for."
    )


def run(arguments: argparse.Namespace) -> int:
    """Replay, and print the result."""
    if arguments.list_volatile:
        return _list_volatile()
    if arguments.recording is None:
        raise BadInput("no recording: give the directory that 'pilot-core run --record DIR' made")
    if arguments.save_test:
        from pilot_core.replay.saving import save_test

        made = save_test(arguments.recording, arguments.save_test, strict=not arguments.any_order, real=arguments.real)
        print(f"{arguments.save_test} and {made}: try it with 'pytest {arguments.save_test}'")
        return 0
    from pilot_core.logs import set_up_logging
    from pilot_core.replay import replay
    from pilot_core.signals import tidy_end

    def watch(clock: Clock, redactor: Redactor) -> None:
        level = "critical" if arguments.log_level == "off" else arguments.log_level
        set_up_logging(sys.stderr, level, clock, redactor)

    with tidy_end():
        result = replay(arguments.recording, strict=not arguments.any_order, real=arguments.real, watch=watch)
    if arguments.json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        _tell(result)
    return 0 if result.same else DIVERGED


def _tell(result: ReplayResult) -> None:
    """Print the result for people: the first divergence is the one that counts."""
    jobs = f"{result.jobs} job{'' if result.jobs == 1 else 's'}"
    played = f"{result.exchanges} of {result.of} exchanges, {jobs}"
    if result.same:
        more = "; the recording breaks off there" if result.broke_off else f", exit code {result.exit_code}"
        print(f"as recorded: {played}{more}")
        return
    first, *rest = result.divergences
    print(f"diverged at {first.place} ({first.about})")
    print(f"  {first.field}")
    print(f"    recorded  {first.recorded}")
    print(f"    now       {first.now}")
    for divergence in rest[:MOST_SHOWN]:
        print(f"  then {divergence}")
    if len(rest) > MOST_SHOWN:
        print(f"  and {len(rest) - MOST_SHOWN} more")
    print(f"{len(result.divergences)} divergence{'s' if rest else ''} in {played}")
    print(f"recorded with {', '.join(f'{name} {version}' for name, version in sorted(result.made_with.items()))}")


def _list_volatile() -> int:
    """Print the table of what is volatile."""
    from pilot_core.replay.volatile import VOLATILE, VOLATILE_HEADERS, VOLATILE_WHEN_REAL

    for title, table in (("compared by kind", VOLATILE), ("with --real besides", VOLATILE_WHEN_REAL)):
        print(f"{title}:")
        for item in table:
            where = f" (only in {item.where})" if item.where else ""
            print(f"  {item.why}{where}: {', '.join(item.fields.split())}")
    print(f"headers that are not compared: {', '.join(sorted(VOLATILE_HEADERS))}")
    return 0
