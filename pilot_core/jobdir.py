"""One job's directory: made for it, or one that was kept and in which a job goes on.

It has `payload/`, where the payload runs, `control/` for the executor's records, `pilot.log` and `journal.jsonl`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pilot_core.api.executor import PayloadHandle
from pilot_core.cleanup import remove_tree
from pilot_core.errors import BadInput
from pilot_core.places import is_directory, is_there

__all__ = ["JOURNAL", "LOG", "begin_anew", "going_on_in", "new_job_dir", "set_aside"]

LOG, JOURNAL = "pilot.log", "journal.jsonl"
PAYLOAD, CONTROL, EARLIER = "payload", "control", "earlier"


def new_job_dir(work_dir: Path, job_id: int, place: Path | None = None) -> Path:
    """Make a job's directory and return it; raises `OSError`.

    `place` is the one that the job has in the journal, which an earlier pilot may have made, as far as it came.
    """
    if place is None:
        made = Path(tempfile.mkdtemp(prefix=f"job-{job_id}-", dir=work_dir))
    else:
        made = place
        made.mkdir(mode=0o700, exist_ok=True)
    for name in (PAYLOAD, CONTROL):
        (made / name).mkdir(mode=0o700, exist_ok=place is not None)
    return made


def begin_anew(job_dir: Path) -> None:
    """Empty the payload's directory, whose job did not come to its payload before the pilot died; raises `OSError`."""
    left = remove_tree(job_dir / PAYLOAD)
    if left:
        raise OSError(errno.ENOTEMPTY, f"what an earlier pilot brought cannot be removed ({left})", str(job_dir))
    (job_dir / PAYLOAD).mkdir(mode=0o700)


def set_aside(job_dir: Path) -> None:
    """Move what an earlier run left of records, log archives and the payload's output to `earlier/N`.

    A payload is started from a control directory at most once, and its standard output must not exist yet. Nothing is
    followed that the payload may have put there: only names are moved. Raises `OSError`.
    """
    control, payload = job_dir / CONTROL, job_dir / PAYLOAD
    control.mkdir(mode=0o700, exist_ok=True)
    old = [path for path in (payload / "payload.stdout", payload / "payload.stderr") if os.path.lexists(path)]
    old += job_dir.glob("log-*")
    if any(control.iterdir()):
        old.append(control)
    if not old:
        return
    folder = job_dir / EARLIER
    folder.mkdir(mode=0o700, exist_ok=True)
    place = folder / str(1 + max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0))
    place.mkdir(mode=0o700)
    for path in old:
        path.rename(place / path.name)
    control.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def going_on_in(job_dir: Path, job_id: int) -> Iterator[PayloadHandle | None]:
    """Hold a kept job directory for one process while a job goes on in it.

    Gives the handle of a payload whose end was not seen: the pilot that started it died before.

    Raises `BadInput` for a directory that is no job's or another job's, and for one that is in use or may be.
    """
    steps = _steps(job_dir)
    taken = next((step.get("panda_id") for step in steps if step.get("step") == "acquired"), None)
    if taken != job_id:
        raise BadInput(f"{job_dir}: is the directory of job {taken}, not of job {job_id}; name that job's own")
    descriptor = os.open(job_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{job_dir}: another pilot-core works in it; wait for its end") from None
        yield _unended(job_dir, steps)
    finally:
        os.close(descriptor)


def _unended(job_dir: Path, steps: Sequence[Mapping[str, Any]]) -> PayloadHandle | None:
    """Return the handle of the last payload, unless its end is in the journal.

    Raises `BadInput` for one that nobody can find: its pilot died in between.
    """
    reported = False
    for step in reversed(steps):
        name = step.get("step")
        if name == "payload-ended":
            return None
        if name == "payload-started":
            with suppress(KeyError, TypeError):
                return PayloadHandle.from_json(step["handle"])
        reported = reported or name == "report-ready"
        if name in {"payload-starting", "payload-started"} and not reported:
            raise BadInput(f"{job_dir}: the pilot died as it started the payload, which may still run; begin anew")
        if name == "payload-starting":
            return None
    return None


def _steps(job_dir: Path) -> list[Mapping[str, Any]]:
    """Return the steps in a directory's journal; raises `BadInput` if it is no job's directory."""
    journal = job_dir / JOURNAL
    if not is_there(journal) or journal.is_symlink() or not journal.is_file() or (job_dir / PAYLOAD).is_symlink():
        what = "does not exist" if not is_there(job_dir) else "is not the directory of a job that was kept"
        raise BadInput(f"{job_dir}: {what}; run the first phases with --keep, which prints it")
    found: list[Mapping[str, Any]] = []
    try:
        for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                step = json.loads(line)
                if isinstance(step, dict):
                    found.append(step)
    except OSError as error:
        raise BadInput(f"{journal}: cannot be read: {error.strerror}") from None
    if not is_directory(job_dir / PAYLOAD):
        raise BadInput(f"{job_dir}: has no {PAYLOAD} directory any more; begin anew without it")
    return found
