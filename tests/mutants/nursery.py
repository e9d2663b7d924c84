"""A process that has imported what every run of a kit imports, and forks one for each: most of a run is imports.

It reads orders from standard input, one JSON object a line, and answers each by two lines: the pid of the run, which
leads a session of its own, and, once that has ended, its exit code. The kits themselves are imported by the runs, so
that pytest rewrites their assertions as it does for everybody.
"""

from __future__ import annotations

import asyncio  # noqa: F401
import http.server  # noqa: F401
import json
import os
import ssl  # noqa: F401
import sys

import cryptography.hazmat.primitives.asymmetric.ec
import cryptography.x509  # noqa: F401
import hypothesis.strategies  # noqa: F401
import pytest

import pilot_core.plugins.probe
import pilot_core.settings
import pilot_core.supervision  # noqa: F401


def main() -> None:
    """Carry out orders until there are no more."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            run(order)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(order) -> None:
    """Be one run of pytest; does not return."""
    code = 70
    try:
        os.setsid()
        os.chdir(order["folder"])
        os.environ.update(order["environment"])
        sys.path[:0] = order["path"]
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for old, new in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(old, new)
        os.close(nothing)
        os.close(output)
        code = int(pytest.main(order["arguments"]))
        sys.stdout.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
