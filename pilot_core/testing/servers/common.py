"""What all servers for tests need: ports that are free, an account that is not root's, an end at once."""

from __future__ import annotations

import os
import pwd
import signal
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

__all__ = ["account_of", "end", "free_ports"]


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nobody listens now; another process may take one before the server does."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def account_of(program: str, names: Sequence[str]) -> pwd.struct_passwd | None:
    """Return as whom a program serves that refuses root: the first account that is here; None = as this process.

    Raises `RuntimeError` if there is none.
    """
    if os.geteuid() != 0:
        return None
    for name in names:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError(f"{program} does not serve as root, and none of the accounts {', '.join(names)} is here")


def end(process: subprocess.Popen[bytes] | None) -> None:
    """Kill a server that leads a session of its own, with all its processes, in whatever it does."""
    if process is None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
