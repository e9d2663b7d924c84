"""Parts of a file that are sent by threads at the same time, in a few buffers that are used again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pilot_core import CancelToken, TransientError
from pilot_stager_s3.bell import Bell

if TYPE_CHECKING:
    from pilot_stager_s3.session import Limits

__all__ = ["PartSenders", "Shares"]


class Shares:
    """Shares out the parts that are sent at once among the files that are sent at once, for each part is memory."""

    def __init__(self, at_once: int, memory: int) -> None:
        """Share `at_once` parts among files, with `memory` bytes of buffers each; each file gets at least one part."""
        self._at_once = at_once
        self._memory = memory
        self._lock = threading.Lock()
        self._files = 0

    @contextmanager
    def share(self, size: int) -> Iterator[int]:
        """Say how many parts of `size` bytes one more file may send at once, as long as the block lasts."""
        with self._lock:
            self._files += 1
            files = self._files
        try:
            yield max(1, min(self._at_once // files, self._memory // size - 1))
        finally:
            with self._lock:
                self._files -= 1


class PartSenders:
    """Sends parts, each in a thread of its own. A context manager: at its end no thread runs any more.

    There is one buffer more than parts that are sent at once: it is filled meanwhile.
    """

    def __init__(self, send: Callable[[int, memoryview, CancelToken], None], *, size: int, at_once: int) -> None:
        """`send` gets a part's number, its bytes, and a token that is cancelled when the bytes are no longer wanted."""
        self._send = send
        self._size = size
        self._spare = at_once + 1
        self._stop = CancelToken()
        self._bell = Bell()
        self._lock = threading.Lock()
        self._buffers: list[bytearray] = []
        self._running: set[threading.Thread] = set()
        self._errors: list[BaseException] = []

    def send_all(self, blocks: Iterable[memoryview], limits: Limits, what: str) -> None:
        """Send a file's blocks, joined to parts; raises what `send` raised first, and what the blocks raise."""
        number, buffer, filled = 1, self._buffer(limits, what), 0
        for block in blocks:
            left = block
            while left:
                taken = left[: self._size - filled]
                buffer[filled : filled + len(taken)] = taken
                filled += len(taken)
                left = left[len(taken) :]
                if filled == self._size:
                    self._begin(number, buffer, filled, what)
                    number, buffer, filled = number + 1, self._buffer(limits, what), 0
        if filled:
            self._begin(number, buffer, filled, what)
        while self._waiting():
            self._wait(limits, what)

    def _buffer(self, limits: Limits, what: str) -> bytearray:
        """Return a buffer that nobody uses, as soon as there is one."""
        while True:
            self._waiting()
            with self._lock:
                if self._buffers:
                    return self._buffers.pop()
            if self._spare:
                self._spare -= 1
                return bytearray(self._size)
            self._wait(limits, what)

    def _waiting(self) -> bool:
        """Say whether parts are on their way; raises what went wrong with one."""
        with self._lock:
            if self._errors:
                raise self._errors[0]
            return bool(self._running)

    def _wait(self, limits: Limits, what: str) -> None:
        """Wait until a part is done, or it is time to stop."""
        limits.deadline.wait(self._bell, limits.cancel)
        limits.check(what)
        self._bell.hear()

    def _begin(self, number: int, buffer: bytearray, length: int, what: str) -> None:
        """Send a part, in a thread; raises `TransientError` if none can be had."""

        def run() -> None:
            try:
                self._send(number, memoryview(buffer)[:length], self._stop)
            except BaseException as error:  # noqa: BLE001  (raised again where it is waited for)
                with self._lock:
                    self._errors.append(error)
            finally:
                with self._lock:
                    self._buffers.append(buffer)
                    self._running.discard(thread)
                    self._bell.ring()  # not later: the bell is closed when no thread runs any more

        thread = threading.Thread(target=run, name="s3-part", daemon=True)
        with self._lock:
            self._running.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                self._running.discard(thread)
            raise TransientError(
                f"{what}: a part cannot be sent: {error}; raise the limit of threads here, or lower parts_at_once"
            ) from None

    def __enter__(self) -> PartSenders:  # noqa: PYI034  (typing.Self needs Python 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.cancel("the file's other parts are not wanted any more")
        with self._lock:
            threads = list(self._running)
        for thread in threads:
            thread.join()
        self._bell.close()
