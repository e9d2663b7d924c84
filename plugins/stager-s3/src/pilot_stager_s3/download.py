"""Reading an object: in one stream, and on from where it broke off as long as it is the same object."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilot_core import HandledError, TransferTimeout, TransientError
from pilot_core.api.web import ConnectionLost
from pilot_stager_s3.problems import Problem, error_of
from pilot_stager_s3.session import Call

if TYPE_CHECKING:
    from pilot_core import Incoming
    from pilot_core.api.web import WebAnswer
    from pilot_stager_s3.location import Location
    from pilot_stager_s3.session import Limits, Session

__all__ = ["Download"]

BLOCK = 1 << 20
PAUSE = 0.25
"""Seconds before a read that broke off goes on; doubled each time that it gets nowhere."""
LONGEST_PAUSE = 30.0
"""Seconds that a service may ask for; with a longer pause another storage is the better choice."""
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class Download:
    """One object on its way in."""

    def __init__(self, session: Session, location: Location, incoming: Incoming, limits: Limits, *, tries: int) -> None:
        self._session = session
        self._location = location
        self._incoming = incoming
        self._limits = limits
        self._tries = tries
        self._etag = ""
        self._size: int | None = None
        self._asking = False

    def run(self) -> None:
        """Read the object to its end. Raises what `Incoming.write` does, and the errors of the service."""
        buffer = memoryview(bytearray(BLOCK))
        failures = 0
        while True:
            before = self._incoming.received
            try:
                with self._opened() as answer:
                    for block in answer.blocks(buffer):
                        self._incoming.write(block)
                return
            except (TransientError, TransferTimeout) as error:
                failures = 1 if self._incoming.received - before >= BLOCK else failures + 1
                if failures >= self._tries or not self._goes_on(error):
                    raise
                self._pause(error, failures)

    def _goes_on(self, error: HandledError) -> bool:
        """Say whether to go on where it broke off: not if the trouble is this machine's, or the time is up."""
        # nothing came yet, or the object cannot be known again: whoever asked may do better elsewhere
        if not self._incoming.received or not self._etag or self._limits.deadline.passed:
            return False
        return not isinstance(error, _Changed) and (
            self._asking or isinstance(error, (ConnectionLost, TransferTimeout))
        )

    def _pause(self, error: HandledError, failures: int) -> None:
        asked_for = getattr(error, "retry_after", None)
        seconds = PAUSE * 2 ** (failures - 1) if asked_for is None else asked_for
        if seconds > LONGEST_PAUSE:
            raise error
        self._limits.pause(seconds, self._incoming.what)

    def _opened(self) -> WebAnswer:
        """Ask for what is still missing."""
        self._asking = True
        offset, what = self._incoming.received, self._incoming.what
        headers = {"range": f"bytes={offset}-", "if-match": self._etag} if offset else {}
        call = Call(method="GET", location=self._location, what=what, headers=headers, presigned=True)
        answer = self._session.ask(call, self._limits)
        if isinstance(answer, Problem):
            if offset and answer.status in {412, 416}:
                raise _Changed(f"{what}: changed on the storage while it was read")
            raise error_of(answer, what)
        try:
            self._begin(answer, offset)
        except BaseException:
            answer.close()
            raise
        self._asking = False
        return answer

    def _begin(self, answer: WebAnswer, offset: int) -> None:
        """Look at what an answer announces."""
        if answer.status == 206:
            found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if not offset or found is None or (int(found[1]), int(found[2])) != (offset, self._size):
                raise TransientError(f"{self._incoming.what}: the service sent another part than the one asked for")
            return
        if offset:
            self._incoming.restart()  # the service does not know Range
        # a weak one does not say that the bytes are the same
        etag = answer.headers.get("etag", "")
        self._etag = "" if etag.startswith("W/") else etag
        self._size = answer.length
        if answer.length is not None:
            self._incoming.expect(answer.length)


class _Changed(TransientError):
    """The object is not the one any more of which a part was read."""
