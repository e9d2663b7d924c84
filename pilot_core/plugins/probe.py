"""Importing plugins each in a process of its own, so that nothing that one does at import reaches anything else.

The process gets its orders on standard input and answers on a pipe of its own, in lines that begin with a random
word from the orders; standard output and error lead nowhere. It leads its own session, all of which is killed as soon
as there is an answer, the process has ended, or the time is up: a child of it may hold the pipe open for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from io import FileIO
from typing import TYPE_CHECKING, Any, NoReturn

from pilot_core.api.clock import Event, SystemClock
from pilot_core.errors import HandledError
from pilot_core.plugins.discovery import block_hint
from pilot_core.plugins.places import CORE
from pilot_core.plugins.record import Offer, Record, Status

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.plugins.settings import PluginSettings

__all__ = ["answer", "probe_all"]

AT_ONCE = 3
"""Processes at a time."""
START_LIMIT = 60.0
"""Seconds that a process may take before it begins with the import."""
LONGEST_LINE = 1 << 20
"""Bytes of an answer; more is not one."""

# the running pilot_core, whatever else of that name is on the path; then the path as it is here
_BOOT = """
import json, sys
orders = json.load(sys.stdin)
sys.path[:] = [orders["home"], *orders["path"]]
import pilot_core
del sys.path[0]
from pilot_core.plugins.probe import answer
answer(orders)
"""


def probe_all(records: Sequence[Record], settings: PluginSettings, clock: Clock) -> list[Record]:
    """Return the records, those that were `found` now `ok` or `error`. Raises `HandledError` if no process starts."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe") as pool:
        return list(pool.map(lambda record: _probe(record, settings.import_timeout, clock), records))


def answer(orders: Mapping[str, Any]) -> NoReturn:
    """Import one plugin, say what came of it and end: the other side of the pipe."""
    from pilot_core.plugins.registry import Registry  # noqa: PLC0415  (the asking side needs neither)

    process = os.getpid()
    record = _record(orders["record"])
    _say(orders, "begin")
    try:
        record = Registry([record], clock=SystemClock()).probe(record)
    except BaseException as error:  # noqa: BLE001  (KeyboardInterrupt raised by the plugin: nobody is at the keyboard)
        reason = f"its import raised {type(error).__name__}"
        record = replace(record, status=Status.ERROR, reason=reason, next_step=block_hint(record.entry_point))
    if os.getpid() == process:  # and not a child that the plugin forked, which came back from the import too
        with contextlib.suppress(OSError):  # the plugin closed the pipe
            _say(orders, json.dumps(asdict(record)))
    os._exit(0)


def _say(orders: Mapping[str, Any], text: str) -> None:
    line = f"\n{orders['word']} {text}\n".encode()
    while line:
        line = line[os.write(orders["pipe"], line) :]


def _record(fields: Mapping[str, Any]) -> Record:
    """Return a record from its JSON form."""
    offers = fields["offers"]
    made = None if offers is None else tuple(Offer(**{k: _tuple(v) for k, v in offer.items()}) for offer in offers)
    values = {name: _tuple(value) for name, value in fields.items()}
    return Record(**{**values, "status": Status(fields["status"]), "offers": made})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _probe(record: Record, seconds: float, clock: Clock) -> Record:
    """Import one plugin in its own process."""
    if record.status is not Status.FOUND:
        return record
    inside, outside = os.pipe()
    with FileIO(inside, "rb") as pipe:
        try:
            process = _start(record, word := secrets.token_hex(16), outside)
        except OSError as error:
            raise HandledError(f"cannot start {sys.executable} for the check: {error.strerror}") from None
        finally:
            os.close(outside)
        ended = Event()
        waiter = threading.Thread(target=_await_end, args=(process, ended), daemon=True)
        waiter.start()
        try:
            result = _Listener(pipe, word, ended, clock).listen(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            waiter.join()
    if isinstance(result, Record):
        return result
    module = record.value.partition(":")[0]
    see = f"see what it does: {sys.executable} -c 'import {module}'; or {block_hint(record.entry_point)}"
    reason = {
        "time": f"its import took longer than {seconds:g} s ([plugins] import_timeout)",
        "start": f"the process for the check did not begin within {START_LIMIT:g} s; is this machine overloaded?",
        "ended": f"its import {_how_it_ended(process.returncode)}",
        "broken": f"the process for the check {_how_it_ended(process.returncode)} before the import",
    }[result]
    return replace(record, status=Status.ERROR, reason=reason, next_step=see)


def _start(record: Record, word: str, pipe: int) -> subprocess.Popen[bytes]:
    """Start the process and give it its orders."""
    orders = {
        "word": word,
        "pipe": pipe,
        "record": asdict(record),
        "home": str(CORE.parent),
        "path": [entry for entry in sys.path if entry],
    }
    options = ["-I", "-B"] if sys.dont_write_bytecode else ["-I"]
    process = subprocess.Popen(
        [sys.executable, *options, "-c", _BOOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(pipe,),
        start_new_session=True,
    )
    with contextlib.suppress(BrokenPipeError), process.stdin or contextlib.nullcontext() as stdin:
        if stdin is not None:
            stdin.write(json.dumps(orders).encode())
    return process


def _await_end(process: subprocess.Popen[bytes], ended: Event) -> None:
    process.wait()
    ended.set()


def _how_it_ended(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"ended the process without an answer (exit code {code})"
    try:
        return f"ended the process by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended the process by signal {-code}"


class _Listener:
    """Waits for what a process says."""

    def __init__(self, pipe: FileIO, word: str, ended: Event, clock: Clock) -> None:
        self._pipe = pipe
        self._word = word.encode() + b" "
        self._ended = ended
        self._clock = clock
        self._text = b""
        self._open = True
        os.set_blocking(pipe.fileno(), False)

    def listen(self, seconds: float) -> Record | str:
        """Return the answer; or `time`, `start`, `ended`, `broken` where there is none."""
        begun = False
        limit = self._clock.monotonic() + START_LIMIT
        while True:
            things = (self._pipe, self._ended) if self._open else (self._ended,)
            ready = self._clock.wait(*things, until=limit)
            over = self._ended.is_set()
            for line in self._lines():
                if line == b"begin":
                    begun = True
                    limit = self._clock.monotonic() + seconds
                else:
                    with contextlib.suppress(ValueError, TypeError, KeyError):
                        return _record(json.loads(line))
            if over:
                return "ended" if begun else "broken"
            if not ready:
                return "time" if begun else "start"

    def _lines(self) -> list[bytes]:
        """Return what was said in whole lines since the last time; anything else on the pipe is dropped."""
        while self._open:
            data = self._pipe.read(65536)
            if data is None:
                break
            self._open = bool(data)
            self._text = (self._text + data)[-LONGEST_LINE:]
        *lines, self._text = self._text.split(b"\n")
        return [line[len(self._word) :] for line in lines if line.startswith(self._word)]
