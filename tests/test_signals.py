"""Signals are heard though the main thread waits and is not woken."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, select, signal
from pilot_core.signals import listen
read, write = os.pipe()
poll = select.poll()
poll.register(read, select.POLLIN)
listen([signal.SIGTERM, signal.SIGUSR1], lambda number: os.write(write, b"%d\\n" % number))
# so that the signal comes to another thread, and no system call of this one is interrupted by it
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
print("ready", flush=True)
poll.poll()
print(os.read(read, 100).decode(), end="", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_heard_while_the_main_thread_waits(number):
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert out == f"{int(number)}\n"
    assert process.returncode == 0
