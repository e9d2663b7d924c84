"""What is executed for a job: argument vector, environment, and the transformation where it has to be fetched."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pilot_core.errors import Cancelled, JobDescriptionError, NoSpace, PilotErrorCode

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.job import Job
    from pilot_core.api.queue import Queue

__all__ = [
    "allowed_url",
    "argument_vector",
    "check_needs",
    "environment",
    "fetch_transformation",
    "plain_name",
    "write_secrets",
]

PASSED = ("PATH", "LANG", "LC_*", "TZ", "USER", "LOGNAME", "SHELL", "TERM")
"""The pilot's own variables that every payload sees. Everything else is named by the queue, or not there."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_TRANSFORMATION_BYTES = 64 * 1024 * 1024


def plain_name(lfn: str) -> str:
    """Return a file name that cannot lead out of the directory it is put in; raises `JobDescriptionError`."""
    if lfn in {"", ".", ".."} or "/" in lfn or "\0" in lfn or "\n" in lfn or len(os.fsencode(lfn)) > 255:
        raise JobDescriptionError(
            f"file name {lfn[:80]!r}: not a plain file name of at most 255 bytes",
            error_code=PilotErrorCode.BADOUTPUTFILENAME,
        )
    return lfn


def write_secrets(file: Path, secrets: Mapping[str, str]) -> None:
    """Write the user's own secrets where PanDA payloads look for them, for the payload's eyes only."""
    import json  # noqa: PLC0415

    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(dict(secrets), stream)


def check_needs(job: Job) -> None:
    """Raise `JobDescriptionError` if the job needs something that this pilot cannot do yet."""
    wanted = [
        name
        for name, value in (
            ("preprocess", job.preprocess),
            ("postprocess", job.postprocess),
            ("coprocess", job.coprocess),
            ("containerOptions", job.container_options),
            ("a container image", job.container_image),
        )
        if value
    ]
    if wanted:
        raise JobDescriptionError(
            f"the job needs {', '.join(wanted)}, which this pilot does not offer; send it to another queue",
            error_code=PilotErrorCode.NOTIMPLEMENTED,
        )
    if not job.transformation.strip():
        raise JobDescriptionError(
            "the job has no transformation, so there is nothing to run; define it with one",
            error_code=PilotErrorCode.TRANSFORMNOTFOUND,
        )


def argument_vector(job: Job, queue: Queue, program: str) -> tuple[str, ...]:
    """Return program and arguments; the parameters are split as a shell splits words, and no shell is run.

    A queue with `shell = true` has `/bin/sh -c` run the whole line instead. Raises `JobDescriptionError` for quotes
    that do not match and for NUL characters.
    """
    if "\0" in job.parameters or "\0" in program:
        raise JobDescriptionError("jobPars: has a NUL character, which no program can be given")
    if queue.shell:
        return ("/bin/sh", "-c", f"{program} {job.parameters}".strip())
    try:
        return (program, *shlex.split(job.parameters))
    except ValueError as error:
        raise JobDescriptionError(
            f"jobPars: {str(error).lower()}: the parameters cannot be split into arguments; check their quotes"
        ) from None


def environment(job: Job, queue: Queue, home: Path, own: Mapping[str, str]) -> dict[str, str]:
    """Build the payload's environment from an allow-list: nothing of the pilot's credentials is in it.

    `own` is the pilot's environment. HOME and TMPDIR lie in the job's directory, so that what a payload leaves
    there goes with the job. The names of the job's variables are those of PanDA Pilot 3.
    """
    patterns = (*PASSED, *queue.pass_environment)
    kept = {
        name: value
        for name, value in own.items()
        if any(name.startswith(p[:-1]) if p.endswith("*") else name == p for p in patterns)
    }
    kept.setdefault("PATH", DEFAULT_PATH)
    kept.update(HOME=str(home), TMPDIR=str(home), PWD=str(home))
    kept.update(
        PandaID=str(job.id),
        PanDA_TaskID=str(job.task_id or ""),
        PanDA_AttemptNr=str(job.attempt or ""),
        PANDA_RESOURCE=queue.name,
        CORE_COUNT=str(job.core_count),
    )
    kept.update(queue.environment)
    return kept


def allowed_url(url: str, queue: Queue) -> bool:
    """Say whether a transformation may be fetched from `url`: same scheme, host and port, below an allowed path."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.username or parts.password or ".." in parts.path.split("/"):
        return False
    if parts.scheme != "https" and not (parts.scheme == "http" and queue.allow_http):
        return False
    for base in queue.transformation_urls:
        wanted = urlsplit(base)
        same_host = (wanted.scheme, wanted.hostname, wanted.port) == (parts.scheme, parts.hostname, port)
        if same_host and parts.path.startswith(wanted.path.rstrip("/") + "/"):
            return True
    return False


def fetch_transformation(
    job: Job, queue: Queue, directory: Path, ca_file: Path | None, *, cancel: CancelToken, deadline: Deadline
) -> str:
    """Return the program to run; a transformation that is a URL is fetched into the job's directory first.

    Only from the queue's allow-list, without credentials, without following redirects, TLS verified. Raises
    `JobDescriptionError` with the pilot error code TRFDOWNLOADFAILURE.
    """
    url = job.transformation
    if "://" not in url:
        return url
    code = PilotErrorCode.TRFDOWNLOADFAILURE
    if not allowed_url(url, queue):
        allowed = ", ".join(queue.transformation_urls) or "nothing"
        raise JobDescriptionError(
            f"transformation {url}: not below a base URL that queue {queue.name} allows ({allowed}); "
            "add it to the queue's transformation_urls",
            error_code=code,
        )
    name = urlsplit(url).path.rsplit("/", 1)[-1]
    if name in {"", ".", ".."}:
        raise JobDescriptionError(f"transformation {url}: names no file", error_code=code)
    target = directory / name
    import requests  # noqa: PLC0415  (95 ms; loaded by the communicator in most pilots anyway)

    try:
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(ca_file) if ca_file else True
            with session.get(
                url, stream=True, allow_redirects=False, timeout=(30, min(120.0, deadline.remaining() + 1))
            ) as response:
                if response.status_code != 200:
                    raise JobDescriptionError(
                        f"transformation {url}: the server answered {response.status_code} {response.reason}",
                        error_code=code,
                    )
                _save(response.iter_content(65536), target, url, cancel, deadline)
    except requests.RequestException as error:
        raise JobDescriptionError(f"transformation {url}: cannot be fetched: {error}", error_code=code) from None
    return f"./{name}"


def _save(chunks: Iterable[bytes], target: Path, url: str, cancel: CancelToken, deadline: Deadline) -> None:
    """Write a fetched program, executable, and never through a link."""
    size = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(target, flags, 0o700), "wb") as file:
            for chunk in chunks:
                cancel.raise_if_cancelled()
                deadline.raise_if_passed(f"transformation {url}")
                size += len(chunk)
                if size > MAX_TRANSFORMATION_BYTES:
                    raise JobDescriptionError(
                        f"transformation {url}: larger than {MAX_TRANSFORMATION_BYTES // 1024**2} MiB",
                        error_code=PilotErrorCode.TRFDOWNLOADFAILURE,
                    )
                file.write(chunk)
    except OSError as error:
        raise NoSpace(f"transformation {url}: cannot be written to {target}: {error.strerror}") from None
    except Cancelled:
        target.unlink(missing_ok=True)
        raise
