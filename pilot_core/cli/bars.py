"""How far transfers are, as bars on a terminal, below the log that goes there too. Elsewhere the log's lines say it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, cast

from pilot_core.staging import TASKS, in_words

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from pilot_core.api.clock import Clock
    from pilot_core.api.staging import StagingProgress

__all__ = ["Bars", "shown_progress"]

LONGEST_NAME = 32
"""Characters of a file's name that are shown: its end, which tells files apart."""


@contextmanager
def shown_progress(stream: TextIO, clock: Clock) -> Iterator[tuple[TextIO, Callable[[StagingProgress], None] | None]]:
    """Yield where the log is to go, and what is to hear of progress: None where `stream` is no terminal."""
    if not stream.isatty():
        yield stream, None
        return
    bars = Bars(stream, clock)
    try:
        yield bars.stream, bars.hear
    finally:
        bars.stop()


class Bars(io.TextIOBase):
    """Shows bars while transfers last, and is the stream for the log: its lines scroll by above them."""

    def __init__(self, terminal: TextIO, clock: Clock) -> None:
        self._terminal = terminal
        self._clock = clock
        self._shown: Progress | None = None
        self._tasks: dict[tuple[int, str], TaskID] = {}
        self._lock = threading.RLock()

    @property
    def stream(self) -> TextIO:
        """This, as what the log writes to."""
        return cast("TextIO", self)

    def hear(self, progress: StagingProgress) -> None:
        """Show how far a job's transfers are; what is over before it could be shown is not."""
        with self._lock:
            if progress.ended:
                self._drop(progress.job_id, set())
                if not self._tasks:
                    self.stop()
                return
            files = f"{progress.files_done} of {progress.files} files"
            rows = [(TASKS[progress.activity], files, progress.bytes, progress.size, progress.seconds)]
            rows += [
                (_short(each.lfn), each.backend, each.bytes, each.size, each.seconds) for each in progress.under_way
            ]
            shown = self._shown or self._start()
            self._drop(progress.job_id, {name for name, *_ in rows})
            for name, what, done, size, seconds in rows:
                task = self._tasks.get((progress.job_id, name))
                if task is None:
                    task = self._tasks[progress.job_id, name] = shown.add_task(name, total=size, what="", rate="")
                rate = f"{in_words(done / max(seconds, 1e-3))}/s"
                shown.update(task, completed=done, total=size, what=what, rate=rate)
            shown.refresh()

    def stop(self) -> None:
        """Take the bars away."""
        with self._lock:
            if self._shown is not None:
                self._shown.stop()
                self._shown = None
            self._tasks.clear()

    def write(self, text: str) -> int:
        """Write a part of the log, above the bars if there are some."""
        with self._lock:
            if self._shown is None:
                return self._terminal.write(text)
            from rich.text import Text

            self._shown.console.print(Text(text.rstrip("\n")), soft_wrap=True)
            return len(text)

    def flush(self) -> None:
        """Have everything on the terminal."""
        self._terminal.flush()

    def _start(self) -> Progress:
        """Begin to show bars."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._shown = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TextColumn("{task.fields[what]}", markup=False),
            console=Console(file=self._terminal, highlight=False),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            get_time=self._clock.monotonic,
        )
        self._shown.start()
        return self._shown

    def _drop(self, job_id: int, kept: set[str]) -> None:
        """Take away a job's bars, but for those named."""
        for job, name in [key for key in self._tasks if key[0] == job_id and key[1] not in kept]:
            task = self._tasks.pop((job, name))
            if self._shown is not None:
                self._shown.remove_task(task)


def _short(name: str) -> str:
    """Return a name as it may be shown: nothing in it moves the cursor."""
    plain = "".join(char if char.isprintable() else "?" for char in name)
    return plain if len(plain) <= LONGEST_NAME else f"...{plain[3 - LONGEST_NAME :]}"
