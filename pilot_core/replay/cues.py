"""What a recording says of the order of things: which call is which, whose turn it is, when signals came."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pilot_core.errors import BadInput, Cancelled

if TYPE_CHECKING:
    from pilot_core.recording.reading import RecordedExchange, Recording
    from pilot_core.replay.script import Script

__all__ = ["Cues", "EndOfRecording"]

_Key = tuple[str, int, bool]


class EndOfRecording(BaseException):
    """The recording breaks off here, so the pilot's thread ends too; no error, and nothing that a job may catch."""


class Cues:
    """Follows a replayed pilot through its recording. Safe in several threads; made in the pilot's."""

    def __init__(self, recording: Recording, script: Script) -> None:
        self.signal: Callable[[int], None] = lambda _: None
        """Called with a signal that the recorded pilot got."""
        self._script = script
        self._pilot = threading.get_ident()
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._state: tuple[int, str] = (0, "")
        self._calls: defaultdict[_Key, deque[Mapping[str, Any]]] = defaultdict(deque)
        self._beats: Counter[tuple[int, str, bool]] = Counter()
        self._signals: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        try:
            self._answers = {int(event["call"]): event for event in recording.of("answer")}
            self._read(recording)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(
                f"{recording.folder}: an event lacks what it has to have ({type(error).__name__}: {error})"
            ) from None

    def _read(self, recording: Recording) -> None:
        """Sort the events."""
        state: tuple[int, str] = (0, "")
        for event in recording.events:
            if event["what"] == "call":
                key = _key(event["method"], event["request"])
                self._calls[key].append(event)
                if event["method"] == "update" and not key[2]:
                    update = event["request"]
                    self._beats[key[1], update["sub_state"], update["start_time"] is not None] += 1
            elif event["what"] == "state":
                state = (event["job"], event["new"])
            elif event["what"] == "signal":
                self._signals[state].append(int(event["number"]))

    # -- the pilot's thread ------------------------------------------------------------------------------------------

    def enter(self, job: int, state: str) -> None:
        """Note the state of the job that runs."""
        with self._lock:
            self._state = (job, state)

    def take_heartbeat(self, *, running: bool) -> bool:
        """Say whether one more update was sent in the present state, and count it as sent.

        While the payload is `running`, only those count that do not say yet when it began: they knew no result.
        """
        with self._lock:
            job, state = self._state
            for started in (False,) if running else (False, True):
                if self._beats[job, state, started] > 0:
                    self._beats[job, state, started] -= 1
                    return True
            return False

    def deliver_signals(self) -> None:
        """Give the pilot the signals that it got in the present state."""
        with self._lock:
            found = self._signals.pop(self._state, [])
        for number in found:
            self.signal(number)

    # -- calls of the communicator -----------------------------------------------------------------------------------

    def begin(self, method: str, request: Any) -> Mapping[str, Any] | None:
        """Note that a call begins in this thread; returns the recorded one, None if there is no such call.

        Ends the thread if the recording breaks off here.
        """
        if self._script.over:
            self.end_here()
        with self._lock:
            calls = self._calls[_key(method, request)]
            found = calls.popleft() if calls else None
        self._thread.call = int(found["call"]) if found else 0
        return found

    def end_here(self) -> None:
        """End this thread, because the recording does."""
        if threading.get_ident() == self._pilot:
            raise EndOfRecording
        raise Cancelled("the recording ends here")

    def answer_of(self, call: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return how a recorded call ended; None if the recording breaks off before."""
        return self._answers.get(int(call["call"]))

    def this_call_failed(self) -> bool:
        """Say whether this thread's call, as recorded, had no answer in the end."""
        answer = self._answers.get(getattr(self._thread, "call", 0))
        return answer is None or "error" in answer

    def next_of_this_call(self) -> RecordedExchange | None:
        """Return the exchange that comes next in this thread's call."""
        call = getattr(self._thread, "call", 0)
        return self._script.next_of(call) if call else None

    def next(self) -> RecordedExchange | None:
        """Return the exchange that comes next of all."""
        return self._script.next()


def _key(method: str, request: Any) -> _Key:
    """Return what calls are told apart by: updates by their job, and final ones from the others."""
    if method != "update":
        return (method, 0, False)
    return (method, int(request["job_id"]), request["state"] in {"finished", "failed"})
