"""`pilot-core report`: the story of one job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.cli.jobs import add_work_dir, utc
from pilot_core.errors import BadInput
from pilot_core.history import Story, read_history, said

if TYPE_CHECKING:
    import argparse

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Show how one job went: its phases, transfers, failures, and who should act."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("job", metavar="ID", type=int, help="the job's PandaID")
    add_work_dir(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page with a drawn timeline")


def run(arguments: argparse.Namespace) -> int:
    """Print the story; returns the exit code."""
    story = read_history(arguments.work_dir, SystemClock()).story(arguments.job)
    if arguments.html:
        from pilot_core.cli.report_page import page

        try:
            arguments.html.write_text(page(story), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"--html {arguments.html}: cannot be written: {error.strerror}") from None
    if arguments.json:
        print(json.dumps(story.to_json(), indent=1))
    elif not arguments.html:
        print("\n".join(_plain(line) for line in _lines(story)))
    return 0


def _lines(story: Story) -> list[str]:
    record = story.record
    attempt = "" if record.attempt is None else f", attempt {record.attempt}"
    lines = [f"job {record.job_id}{attempt}: {story.state}"]
    lines.append(f"queue     {record.queue} at {record.server}")
    lines.append(
        f"taken     {utc(record.taken)}, {'took' if record.ended else 'since then'} {story.end - record.taken:.3f} s"
    )
    for number, failure in enumerate(story.failures):
        lines.append(
            f"{'and' if number else 'cause':9} {failure['task']}: {failure['message']} (code {failure['code']})"
        )
        lines.append(f"          to act: {failure['who']}")
    pilots = list(dict.fromkeys(step.pilot for step in record.steps))
    if len(pilots) > 1:
        lines.append(f"pilots    {len(pilots)}, one after the other")
    lines.append("timeline")
    events = [(step.at, 0, said(step)) for step in record.steps]
    for span in story.spans:
        if span.lane == "transfer":
            what = "ok" if span.outcome == "ok" else span.outcome
            events.append((span.begin, 1, f"{span.name}: {what} in {span.seconds:.3f} s, {span.details}"))
    lines += [f"{at - record.taken:10.3f}  {text}" for at, _, text in sorted(events)]
    return lines


def _plain(line: str) -> str:
    return "".join(char if char.isprintable() else " " for char in line)
