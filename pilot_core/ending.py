"""How a process that runs jobs is told to end: by a signal, in order; by a second one, at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken
from pilot_core.errors import PilotErrorCode
from pilot_core.signals import listen

if TYPE_CHECKING:
    from pilot_core.jobrun import JobRun

__all__ = ["Ending"]

SIGNALS = {
    signal.SIGTERM: PilotErrorCode.SIGTERM,
    signal.SIGINT: PilotErrorCode.SIGINT,
    signal.SIGQUIT: PilotErrorCode.SIGQUIT,
    signal.SIGUSR1: PilotErrorCode.SIGUSR1,
    signal.SIGXCPU: PilotErrorCode.SIGXCPU,
    signal.SIGHUP: PilotErrorCode.KILLSIGNAL,
}
"""The signals by which batch systems end a pilot, with the code that a job is then reported with."""


class Ending:
    """Hears the signals and passes them on to the job that runs."""

    def __init__(self) -> None:
        self.stop = CancelToken()
        """Cancelled by the first signal."""
        self.now = CancelToken()
        """Cancelled by the second."""
        self.signal = 0
        """The first signal's number; 0 while there was none."""
        self._job: JobRun | None = None

    def listen(self, told: Callable[[int], None] | None = None) -> None:
        """End in order on the first of the batch system's signals, and at once on the second.

        Call it in the main thread. Under nohup the end of a terminal is none of the pilot's. `told` is called with each
        signal's number before it takes effect, in a thread of its own.
        """
        unwanted = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()

        def heard(number: int) -> None:
            if told:
                told(number)
            self.heard(number)

        listen(SIGNALS.keys() - unwanted, heard)

    @contextmanager
    def reaching(self, job: JobRun) -> Iterator[None]:
        """Pass signals on to a job while it runs, those included that came before."""
        self._job = job
        if self.stop.cancelled:
            job.stop(self.stop.reason, SIGNALS.get(signal.Signals(self.signal), PilotErrorCode.KILLSIGNAL))
        if self.now.cancelled:
            job.hurry(self.now.reason)
        try:
            yield
        finally:
            self._job = None

    def exit_code(self, code: int) -> int:
        """Return the process's exit code: 128 and the signal, unless `code` says that something else went wrong."""
        return 128 + self.signal if self.signal and not code else code

    def heard(self, number: int) -> None:
        """Hear of a signal, in any thread."""
        name = signal.Signals(number).name
        again = self.stop.cancelled
        if again:
            self.now.cancel(f"the pilot got {name} again")
        self.signal = self.signal or number
        self.stop.cancel(f"the pilot got {name}")
        job = self._job
        if job:
            job.stop(f"the pilot got {name}", SIGNALS[signal.Signals(number)])
            if again:
                job.hurry(f"the pilot got {name} again")
