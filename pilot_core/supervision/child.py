"""The moments between fork and exec: a child of the supervisor becomes the payload.

It is forked before there is a payload, so that no fork delays one, and waits for its order.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from pilot_core.supervision.procfs import ProcessId, process_id
from pilot_core.supervision.rehearsal import rehearse
from pilot_core.supervision.signals import block_all, restore_defaults, set_mask
from pilot_core.supervision.wire import Order

__all__ = ["Failure", "Unborn"]

_GO = b"go"


@dataclass(frozen=True)
class Failure:
    """Why a payload could not be started."""

    error: str
    """For the reader, in one line."""
    errno: int = 0
    """The system's number, or 0 if the system was not even asked."""

    def to_bytes(self) -> bytes:
        """Return it for a pipe."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Failure:
        """Make it from what `to_bytes` returned."""
        return cls(**json.loads(text))


class Unborn:
    """A child that waits to become the payload; seen from its parent."""

    def __init__(self, parents: int) -> None:
        """Fork it; `parents` is a descriptor of the parent's that it closes."""
        order, self._order = os.pipe()
        self._failures, failed = os.pipe()
        held_back = block_all()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._order)
            os.close(parents)
            _become(order, failed)
        set_mask(held_back)
        os.close(order)
        os.close(failed)
        self.id = process_id(self.pid)

    def has_ended(self) -> bool:
        """Say whether it was ended while it waited; it is forgotten then."""
        if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            return False
        os.close(self._order)
        os.close(self._failures)
        return True

    def dismiss(self) -> None:
        """Let it end without ever having been the payload."""
        os.close(self._order)
        os.waitpid(self.pid, 0)

    def tell(self, order: bytes) -> None:
        """Tell it what it is to become: an `Order`. That it has ended meanwhile is not noticed here."""
        self._write(order + b"\n")

    def go(self) -> None:
        """Let it become that."""
        self._write(_GO)
        os.close(self._order)

    def _write(self, text: bytes) -> None:
        left = memoryview(text)
        with suppress(BrokenPipeError):
            while left:
                left = left[os.write(self._order, left) :]

    def failure(self) -> Failure | None:
        """Return why it could not become the payload, or None if it did; call it once it has ended."""
        text = os.read(self._failures, 65536)  # does not wait: the other end was closed by exec or by exit
        return Failure.from_bytes(text) if text else None


def _become(order: int, failures: int) -> NoReturn:
    """Wait for the order, and to go; turn this process into the payload; if that fails write a `Failure` and exit.

    Signals are blocked on entry. All descriptors but 0, 1 and 2 close themselves on exec: Python makes them so, and
    those that the pilot inherited were closed by the fork server.
    """
    try:
        os.setsid()
        restore_defaults()
        set_mask(())
        rehearse(ProcessId(0, 0))
        with os.fdopen(order, "rb", closefd=False) as pipe:
            text = pipe.readline()
            spec = Order.from_bytes(text).spec if text.endswith(b"\n") else None
            may_go = pipe.read() == _GO
        if spec and may_go:  # else there is no supervisor any more
            failure = _redirect(spec.stdout, 1) or _redirect(spec.stderr, 2) or _enter(spec.cwd)
            failure = failure or _execute(spec.argv, spec.environment)
            os.write(failures, failure.to_bytes())
    except BaseException as error:  # noqa: BLE001  (a bug must not run on as a second supervisor)
        os.write(failures, Failure(f"cannot start the payload: {error!r}").to_bytes())
    finally:
        os._exit(127)


def _redirect(path: Path, descriptor: int) -> Failure | None:
    """Have an output go to a new file, never to anything that is there already, links included."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
    except (OSError, ValueError) as error:
        return _failure(f"cannot create {str(path)!r}", error)
    return None


def _enter(directory: Path) -> Failure | None:
    """Change into the payload's directory."""
    try:
        os.chdir(directory)
    except (OSError, ValueError) as error:
        return _failure(f"cannot enter {str(directory)!r}", error)
    return None


def _execute(argv: Sequence[str], environment: Mapping[str, str]) -> Failure:
    """Become the program; return why that is not possible.

    A name without a slash is looked for on the PATH of `environment`, as execvp(3) does, which also lets "permission
    denied" win over "no such file". It does not do what execvp does for a file without a `#!` line: run a shell.
    """
    if not argv:
        return Failure("cannot execute anything: the command is empty")
    program = argv[0]
    what = f"cannot execute {program[:200]!r}"
    if "/" in program:
        candidates = [program]
    else:
        path = environment.get("PATH", os.defpath)
        candidates = [f"{folder or '.'}/{program}" for folder in path.split(":")] if program else []
        what = f"{what} (PATH is {path[:500]!r})"
    denied: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, list(argv), environment)  # noqa: S606  (no shell, which is the point)
        except (FileNotFoundError, NotADirectoryError) as error:
            if Path(candidate).is_file():
                return Failure(f"{what}: the interpreter or loader that it names is not there", error.errno or 0)
        except PermissionError as error:
            denied = denied or error
        except OSError as error:
            hint = "; a script needs a first line with #!" if error.errno == errno.ENOEXEC else ""
            return _failure(what, error, hint)
        except ValueError as error:  # NUL characters, or = in a variable's name
            return _failure(what, error)
    return _failure(what, denied or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def _failure(what: str, error: OSError | ValueError, hint: str = "") -> Failure:
    """Return a failure with what the system said."""
    if isinstance(error, OSError):
        return Failure(f"{what}: {error.strerror}{hint}", error.errno or 0)
    return Failure(f"{what}: {error}{hint}")
