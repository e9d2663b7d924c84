"""What the demo shows: progress while it works, tables at its end; colourful on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, final

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from pilot_devserver.demo.jobs import DemoJob
    from pilot_devserver.demo.verify import JobResult

__all__ = ["PlainView", "TerminalView", "stdout_view", "tables"]

PHASES = ("get-job", "stage-in", "payload", "stage-out", "log")
WIDTHS = {"PandaID": 7, "job": 13, "state": 9}
GREEN, RED, DIM = "green", "red", "dim"
COLOURS = {"finished": GREEN, "failed": RED, "cancelled": RED, "activated": DIM}


@final
class PlainView:
    """Prints one line for each change of a job."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._seen: dict[int, int] = {}
        self._start: float | None = None

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take down."""

    def say(self, text: str) -> None:
        """Print a line of its own."""
        print(text, file=self._stream, flush=True)

    def update(self, job: Mapping[str, Any]) -> None:
        """Show what is new in a job."""
        for when, status in job["history"][self._seen.get(job["id"], 0) :]:
            if self._start is None:
                self._start = when
            self.say(f"{when - self._start:7.3f} s  job {job['id']} {job['name']}: {status}")
        self._seen[job["id"]] = len(job["history"])


@final
class TerminalView:
    """Keeps one table on the terminal up to date; it is drawn again when a job changes and at no other time."""

    def __init__(self, stream: TextIO, jobs: Sequence[DemoJob]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._about = {job.name: job.about for job in jobs}
        self._jobs: dict[int, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        self._console = Console(file=stream)
        self._live: Live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> TerminalView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, job: Mapping[str, Any]) -> None:
        """Show a job as it is now."""
        with self._lock:
            self._jobs[job["id"]] = job
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("PandaID", "job", "what it does", "state"):
            # the description gives way where the terminal is narrow
            table.add_column(column, no_wrap=True, min_width=WIDTHS.get(column))
        for _, job in sorted(self._jobs.items()):
            state = Text(job["status"], style=COLOURS.get(job["status"], "yellow"))
            table.add_row(str(job["id"]), job["name"], self._about.get(job["name"], ""), state)
        return table


def tables(results: Sequence[JobResult], stream: TextIO) -> None:
    """Print what became of the jobs, and every file."""
    jobs: list[tuple[str, ...]] = [("id", "job", "state", *PHASES, "ok")]
    files = [("job", "file", "bytes", "adler32", "ok")]
    for result in results:
        seconds = (_seconds(result.phases.get(name)) for name in PHASES)
        jobs.append((str(result.id), result.name, _state(result), *seconds, "yes" if result.ok else "NO"))
        for file in result.files:
            size = "" if file.size is None else str(file.size)
            files.append((result.name, file.lfn, size, file.adler32, file.problem or "yes"))
    show = _rich_table if stream.isatty() else _plain_table
    show("Jobs: state on the server, seconds of each phase", jobs, range(3, 3 + len(PHASES)), stream)
    show("Files: as reported, found and verified", files, range(2, 3), stream)


def _state(result: JobResult) -> str:
    """Return the state, and whether it is the expected one where that is not plain."""
    if result.expected == "failed" == result.status:
        return "failed (expected)"
    return result.status if result.status == result.expected else f"{result.status} (should be {result.expected})"


def _seconds(value: float | None) -> str:
    """Return seconds, or a dash for what is not known."""
    return "-" if value is None else f"{value:.3f}"


def _plain_table(title: str, rows: Sequence[tuple[str, ...]], right: range, stream: TextIO) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{title}:", file=stream)
    for row in rows:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip(), file=stream)


def _rich_table(title: str, rows: Sequence[tuple[str, ...]], right: range, stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # without lines, so that it fits into 80 columns
    table = Table(title=f"\n{title}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if column in right else "left", overflow="fold")
    for row in rows[1:]:
        style = GREEN if row[-1] == "yes" else RED
        table.add_row(*row[:-1], Text(row[-1], style=style))
    Console(file=stream).print(table)


def stdout_view(jobs: Sequence[DemoJob], stream: TextIO | None = None) -> PlainView | TerminalView:
    """Return the view that suits the stream."""
    stream = stream or sys.stdout
    if stream.isatty():
        from rich.console import Console

        if not Console(file=stream).is_dumb_terminal:
            return TerminalView(stream, jobs)
    return PlainView(stream)
