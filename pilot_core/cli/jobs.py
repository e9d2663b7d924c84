"""`pilot-core jobs`: what the pilots of a work directory did."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.history import History, read_history

if TYPE_CHECKING:
    import argparse

__all__ = ["SUMMARY", "add_arguments", "add_work_dir", "run", "utc"]

SUMMARY = "List the jobs that the pilots of a work directory took, and what became of them."


def add_work_dir(parser: argparse.ArgumentParser) -> None:
    """Declare the option that names the work directory."""
    parser.add_argument(
        "--work-dir",
        metavar="D",
        type=Path,
        default=Path(os.environ.get("PILOT_CORE_WORK_DIR") or "."),
        help="the pilots' work directory (PILOT_CORE_WORK_DIR; by itself the current one)",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_work_dir(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the jobs; returns the exit code."""
    history = read_history(arguments.work_dir, SystemClock())
    if arguments.json:
        print(json.dumps(history.to_json(), indent=1))
    else:
        print("\n".join(_lines(history)))
    return 0


def utc(at: float) -> str:
    """Return a time as text."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def _lines(history: History) -> list[str]:
    rows = [("job", "attempt", "queue", "taken", "seconds", "state", "cause")]
    for story in history.jobs:
        record = story.record
        cause = next((f"{each['task']}: {each['message']}" for each in story.failures), "")
        attempt = "" if record.attempt is None else str(record.attempt)
        seconds = f"{story.end - record.taken:.1f}"
        shown = "".join(char if char.isprintable() else " " for char in cause)
        row = (str(record.job_id), attempt, record.queue, utc(record.taken), seconds, story.state, shown[:100])
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows] if history.jobs else ["no jobs"]
    for ask in history.asks:
        why = ask.outcome or "the pilot died before there was an answer"
        shown = "".join(char if char.isprintable() else " " for char in why)
        lines.append(f"{utc(ask.at)}: a job may have been given for queue {ask.queue} and lost: {shown}")
    return lines
