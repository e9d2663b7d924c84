"""What is executed for a job: argument vector, environment, and the transformation where it has to be fetched."""

from __future__ import annotations

import errno
import os
import re
import shlex
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pilot_core.api.cancel import CancelToken
from pilot_core.api.clock import Event
from pilot_core.errors import HandledError, JobDescriptionError, NoSpace, PilotErrorCode

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import Deadline
    from pilot_core.api.job import Job
    from pilot_core.api.queue import Queue

__all__ = [
    "SECRETS_FILE",
    "allowed_url",
    "argument_vector",
    "check_needs",
    "environment",
    "fetch_transformation",
    "plain_name",
    "program_of",
    "secrets_in",
    "write_secrets",
]

PASSED = ("PATH", "LANG", "LC_*", "TZ", "USER", "LOGNAME", "SHELL", "TERM")
"""The pilot's own variables that every payload sees. Everything else is named by the queue, or not there."""
NEVER_PASSED = "PILOT_CORE_"
"""The beginning of the names of variables that no pattern of a queue brings to a payload: the pilot's own settings."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECRETS_FILE = "panda_secrets.json"
"""Where PanDA payloads look for their user's secrets; it never goes into a log archive."""
MAX_TRANSFORMATION_BYTES = 64 * 1024 * 1024
_PORTS = {"https": 443, "http": 80}
_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=,@~-]{0,199}")
"""The last part of a transformation's URL: a name that needs no quotes in any shell."""


def plain_name(lfn: str) -> str:
    """Return a file name that cannot lead out of the directory it is put in; raises `JobDescriptionError`."""
    if lfn in {"", ".", ".."} or set(lfn) & set("/\0\n") or not _is_utf8(lfn) or len(lfn.encode()) > 255:
        raise JobDescriptionError(
            f"file name {lfn[:80]!r}: not a plain file name of at most 255 bytes",
            error_code=PilotErrorCode.BADOUTPUTFILENAME,
        )
    return lfn


def _is_utf8(text: str) -> bool:
    """Say whether a text has no lone surrogates, which JSON can bring along and neither URLs nor files can hold."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def write_secrets(file: Path, secrets: Mapping[str, str]) -> None:
    """Write the user's own secrets where PanDA payloads look for them, for the payload's eyes only."""
    import json  # noqa: PLC0415

    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(dict(secrets), stream)


@contextmanager
def secrets_in(folder: Path, secrets: Mapping[str, str], *, there: bool = False) -> Iterator[None]:
    """Have the user's secrets in a file while the payload runs, and no longer.

    `there`: the payload was started by a pilot before this one, which wrote them, if there are any.
    """
    file = folder / SECRETS_FILE
    if secrets and not there:
        write_secrets(file, secrets)
    try:
        yield
    finally:
        if secrets or there:
            file.unlink(missing_ok=True)


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
        and not name.startswith(NEVER_PASSED)
    }
    kept["PATH"] = kept.get("PATH") or DEFAULT_PATH
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
    found = _origin_and_path(url)
    if found is None or (found[0][0] == "http" and not queue.allow_http):
        return False
    bases = (_origin_and_path(base) for base in queue.transformation_urls)
    return any(base and found[0] == base[0] and found[1].startswith(base[1].rstrip("/") + "/") for base in bases)


def _origin_and_path(url: str) -> tuple[tuple[str, str, int], str] | None:
    """Return (scheme, host, port) and path of an http(s) URL.

    None for one that is malformed, holds credentials, or could mean another path to whoever reads it: backslashes,
    blanks, and `..` in any number of encodings.
    """
    if not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    path, plain = "", parts.path
    while path != plain:
        path, plain = plain, unquote(plain)
    if any(part.partition(";")[0] == ".." for part in plain.replace("\\", "/").split("/")):
        return None
    return (parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port), parts.path


def fetch_transformation(
    job: Job, queue: Queue, directory: Path, ca_file: Path | None, *, cancel: CancelToken, deadline: Deadline
) -> str:
    """Return the program to run; a transformation that is a URL is fetched into the job's directory first.

    Only from the queue's allow-list, without credentials, without following redirects, TLS verified. Raises
    `JobDescriptionError` or `HandledError` (TRFDOWNLOADFAILURE), `NoSpace`, or `Cancelled`, at once when the job is
    called off; nothing of the file is left then.
    """
    url, program = job.transformation, program_of(job, queue)
    if program == url:
        return program
    name = program.removeprefix("./")
    cancel.raise_if_cancelled()
    done, stop, failures = Event(), CancelToken(), list[Exception]()

    def fetch() -> None:
        try:
            _fetch(url, directory / name, ca_file, stop)
        except Exception as error:  # noqa: BLE001  (told below, in the job's own thread)
            failures.append(error)
        finally:
            done.set()

    # in a thread of its own: a server that falls silent must hold up neither a cancellation nor the deadline
    threading.Thread(target=fetch, name="transformation", daemon=True).start()
    deadline.wait(done, cancel)
    stop.cancel("nobody waits for it any more")
    if not done.is_set():
        cancel.raise_if_cancelled()
        raise _no_program(url, "was not fetched within the time allowed for it")
    if failures:
        raise failures[0]
    return program


def program_of(job: Job, queue: Queue) -> str:
    """Return the program that is run: the transformation, or the file that it is fetched to if it is a URL.

    Raises `JobDescriptionError` (TRFDOWNLOADFAILURE) for a URL from which the queue lets nothing be fetched.
    """
    url = job.transformation
    if "://" not in url:
        return url
    if not allowed_url(url, queue):
        allowed = ", ".join(queue.transformation_urls) or "nothing"
        raise _no_program(
            url,
            f"not below a base URL that queue {queue.name} allows ({allowed}); add it to its transformation_urls",
        )
    name = urlsplit(url).path.rsplit("/", 1)[-1]
    if not _PROGRAM.fullmatch(name):
        raise _no_program(url, "its last part is not a plain file name; give the file one of letters and digits")
    return f"./{name}"


def _no_program(url: str, why: str) -> JobDescriptionError:
    return JobDescriptionError(f"transformation {url}: {why}", error_code=PilotErrorCode.TRFDOWNLOADFAILURE)


def _fetch(url: str, target: Path, ca_file: Path | None, stop: CancelToken) -> None:
    """Fetch a program; raises `HandledError`."""
    import requests  # noqa: PLC0415  (95 ms; loaded only for those jobs)

    try:
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(ca_file) if ca_file else True
            # not compressed, so that a transfer that was cut short shows in the length
            session.headers["Accept-Encoding"] = "identity"
            with session.get(url, stream=True, allow_redirects=False, timeout=(30, 120)) as response:
                if response.status_code != 200:
                    more = " (redirects are not followed)" if response.is_redirect else ""
                    raise _no_program(url, f"the server answered {response.status_code} {response.reason}{more}")
                length = response.headers.get("Content-Length", "")
                _save(response.iter_content(65536), target, url, int(length) if length.isdecimal() else None, stop)
    except OSError as error:  # all of requests' errors are, too
        raise _no_program(url, f"cannot be fetched: {_cause(error)}") from None


def _cause(error: BaseException) -> str:
    """Return in a few words why a request failed; requests and urllib3 wrap the reason several times."""
    import socket  # noqa: PLC0415
    import ssl  # noqa: PLC0415

    import requests  # noqa: PLC0415

    found: list[BaseException] = [error]
    for outer in found:  # grows while it is walked
        inner = (outer.__cause__, outer.__context__, getattr(outer, "reason", None), *outer.args)
        found += [one for one in inner if isinstance(one, BaseException) and not any(one is other for other in found)]
    for one in found:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"the server's certificate is not trusted ({one.verify_message}); give its authority by --ca-file"
        if isinstance(one, socket.gaierror):
            return f"the host is not known ({one.strerror})"
    for one in found:
        if isinstance(one, (requests.Timeout, TimeoutError)):
            return "the server does not answer"
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    return str(found[-1])[:200] or type(error).__name__


def _save(chunks: Iterable[bytes], target: Path, url: str, length: int | None, stop: CancelToken) -> None:
    """Write a fetched program, executable, and never through a link or over another file; whole or not at all."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    stop.raise_if_cancelled()
    try:
        descriptor = os.open(target, flags, 0o700)
    except OSError as error:
        raise _not_written(url, target, error) from None
    size, whole = 0, False
    try:
        for chunk in chunks:
            stop.raise_if_cancelled()
            size += len(chunk)
            if size > MAX_TRANSFORMATION_BYTES:
                raise _no_program(url, f"larger than {MAX_TRANSFORMATION_BYTES // 1024**2} MiB")
            _write(descriptor, chunk, target, url)
        if length is not None and size != length:
            raise _no_program(url, f"the transfer ended after {size} of {length} bytes")
        whole = True
    finally:
        os.close(descriptor)
        if not whole:
            target.unlink(missing_ok=True)


def _write(descriptor: int, data: bytes, target: Path, url: str) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        raise _not_written(url, target, error) from None


def _not_written(url: str, target: Path, error: OSError) -> HandledError:
    text = f"transformation {url}: cannot be written to {target}: {error.strerror}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(text)
    return HandledError(text, error_code=PilotErrorCode.TRFDOWNLOADFAILURE)
