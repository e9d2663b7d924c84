"""What this executor does besides: the site's command comes before the payload's."""

from __future__ import annotations

import logging
from pathlib import Path

from pilot_core import CancelToken, Context, Deadline, PayloadSpec, SystemClock

from {{ cookiecutter.__module }} import make
from {{ cookiecutter.__module }}.settings import Settings


def test_the_payload_runs_under_the_command(tmp_path: Path) -> None:
    """A payload that tells its niceness, run under `nice`."""
    clock = SystemClock()
    executor = make(
        Settings(command=("nice", "-n", "7")),
        Context(clock=clock, log=logging.getLogger("test"), work_dir=tmp_path),
    )
    for name in ("cwd", "control"):
        (tmp_path / name).mkdir()
    spec = PayloadSpec(
        job_id=1,
        argv=("/bin/sh", "-c", 'nice; exit "$CODE"'),
        cwd=tmp_path / "cwd",
        environment={"PATH": "/usr/bin:/bin", "CODE": "3"},
        stdout=tmp_path / "stdout",
        stderr=tmp_path / "stderr",
        control_dir=tmp_path / "control",
    )
    cancel, deadline = CancelToken(), Deadline.after(clock, 30.0)
    try:
        handle = executor.start(spec, cancel=cancel, deadline=deadline)
        payload = executor.attach(handle, cancel=cancel, deadline=deadline)
        assert clock.wait(payload, until=deadline.at)
        assert payload.result().exit_code == 3
        payload.close()
    finally:
        executor.close()
    assert int(spec.stdout.read_text()) >= 7
