"""What the server's answers mean: `success` and `data.StatusCode` both have to be read.

Facts: observed on panda-server 1.0.4. Nearly every refusal comes with HTTP status 200; a database failure comes with
`success` true and StatusCode 30.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.retry import AttemptFailed
from pilot_core import AuthError, HandledError, RequestRefused
from pilot_core.api.communicator import JobStatus, ServerAnswer

if TYPE_CHECKING:
    from pilot_communicator_panda.http import Reply

__all__ = [
    "NO_METADATA",
    "commands",
    "excerpt",
    "http_failure",
    "job_statuses",
    "parse_envelope",
    "refusal",
    "secrets",
    "update_answer",
]

Redact = Callable[[str], str]
NO_METADATA = "Failed to add meta_data"
"""What panda-server 1.0.4 says to an update whose metadata it did not keep; nothing of the update is kept then."""
_NOT_NOW = frozenset({408, 425, 429, 503})
"""HTTP statuses with which a server turns a request away before it works on it."""
_NOT_UNDERSTOOD = (
    "received invalid JSON",
    "Not a gzipped file",
    "required positional argument",
    "unexpected keyword argument",
    "invalid literal for int()",
)
"""What servers say, with HTTP status 500, to a request that they will never understand."""
_RETRY = frozenset({10, 30})
_ROLE = frozenset({60, 70})
_WANTS = ("SSL secure connection is required", "role required", "no production/pilot role")


def excerpt(text: str, redact: Redact) -> str:
    """Return the beginning of a text from the server, fit for a message: one line, printable, no secrets."""
    line = redact(text).strip().partition("\n")[0]
    line = "".join(c if c.isprintable() else " " for c in line)
    return line if len(line) <= 200 else line[:200] + " ..."


def http_failure(reply: Reply, what: str, where: str, redact: Redact, *, now: float, other: str) -> HandledError:
    """Explain an HTTP status other than 200.

    `now` is the wall time, for a Retry-After that is a date; `other` the communicator for servers that have no `what`.
    """
    status, text = reply.status, reply.body.decode("utf-8", "replace")
    told = "an HTML page" if text.lstrip().startswith("<") else excerpt(text, redact).removeprefix("ERROR : ")
    if status in _NOT_NOW:
        wait = _retry_after(reply.headers.get("Retry-After", ""), now)
        return AttemptFailed(f"{where} is busy (HTTP {status}): {told}", processed=False, retry_after=wait)
    if status == 401 or (status == 403 and ("oken authentication failed" in text or text.rstrip().endswith("banned"))):
        return AuthError(f"{where} does not accept the credential: {told}")
    if status < 500 or any(phrase in text for phrase in _NOT_UNDERSTOOD):
        hint = ""
        if status == 403 and "is forbidden" in text:
            hint = f"; try the communicator {other}"
        elif 300 <= status < 400:
            target = excerpt(reply.headers.get("Location", ""), redact)
            hint = f"; it sends us to {target or 'another place'}: give that URL if it is yours"
        elif status == 404:
            hint = "; is it the URL of a PanDA server?"
        return RequestRefused(f"{where} refuses {what} (HTTP {status}): {told}{hint}")
    return AttemptFailed(f"{where} failed with HTTP {status}: {told}")


def _retry_after(value: str, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3), or None."""
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return float(value)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  (rare)

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def parse_envelope(reply: Reply, where: str, redact: Redact) -> Mapping[str, Any]:
    """Return the answer's object, which has a `success`; raises `AttemptFailed` for anything else."""
    text = reply.body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise AttemptFailed(f"{where} {_not_json(text, redact)}") from None
    if not isinstance(value, dict) or not isinstance(value.get("success"), bool):
        raise AttemptFailed(f"{where} answers with JSON that is no answer of a PanDA server")
    return value


def _not_json(text: str, redact: Redact) -> str:
    """Say what came instead of JSON."""
    start = text.lstrip()[:1]
    if not start:
        return "answers with nothing"
    if start == "<":
        return "answers with an HTML page instead of JSON: is there a portal in between, or is the URL wrong?"
    if "'success'" in text:
        return "answers with Python instead of JSON: does something in between change our Content-Type header?"
    return f"answers with something that is not JSON: {excerpt(text, redact)}"


def refusal(envelope: Mapping[str, Any], what: str, where: str, redact: Redact) -> HandledError | None:
    """Return the error that an answer stands for, or None if it is a success."""
    message = envelope.get("message")
    text = excerpt(message, redact) if isinstance(message, str) else ""
    data = envelope.get("data")
    code = data.get("StatusCode", 0) if isinstance(data, dict) else 0
    if envelope["success"] and code == 0:
        return None
    told = f"{text or 'no reason given'}{f' (StatusCode {code})' if code else ''}"
    if code in _ROLE or any(phrase in text for phrase in _WANTS):
        return AuthError(f"{where} refuses {what}: {told}; {_credential_hint(text)}")
    if text.startswith(("Argument error", "Type error", "expecting ")):
        return RequestRefused(f"{where} does not understand our {what}: {told}; please report this bug")
    if code not in _RETRY and (code or text.startswith("Invalid ")):
        return RequestRefused(f"{where} refuses {what}: {told}")
    return AttemptFailed(f"{where} could not do {what}: {told}")


def _credential_hint(text: str) -> str:
    """Return what to do about a missing credential or role."""
    if "SSL" in text:
        return "it saw neither a certificate nor a token: give --cert or --token-file, and an https URL"
    return "use a proxy with the VOMS role production, or a token with the origin VO.production"


def commands(value: Any) -> tuple[str, ...]:
    """Return the commands of an answer: a text with commas; null, "" and `NULL` mean none."""
    if not isinstance(value, str):
        return ()
    parts = (part.strip() for part in value.split(","))
    return tuple(part for part in parts if part and part != "NULL")


def secrets(value: Any) -> dict[str, str]:
    """Return `pilotSecrets`: an object, or a JSON text of one; anything else is none at all."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(value, dict):
        return {}
    return {str(key): text if isinstance(text, str) else json.dumps(text) for key, text in value.items()}


def update_answer(envelope: Mapping[str, Any]) -> ServerAnswer:
    """Return the answer to an accepted `update_job`; raises `AttemptFailed` if it lacks its parts."""
    data = envelope.get("data")
    if not isinstance(data, dict) or "StatusCode" not in data:
        raise AttemptFailed("the answer to update_job has no StatusCode")
    return ServerAnswer(commands=commands(data.get("command")), pilot_secrets=secrets(data.get("pilotSecrets")))


def job_statuses(envelope: Mapping[str, Any]) -> list[JobStatus]:
    """Return the entries of `get_job_status`; raises `AttemptFailed` if they are not what they should be."""
    found = []
    entries = envelope.get("data")
    for entry in entries if isinstance(entries, list) else (None,):
        values = entry if isinstance(entry, dict) else {}
        job_id, status, attempt = values.get("job_id"), values.get("status"), values.get("attempt_number")
        if not isinstance(job_id, int) or not isinstance(status, str):
            raise AttemptFailed("the answer to get_job_status is no list of jobs")
        # 0 with "not found", the text NULL with "unknown"
        known = isinstance(attempt, int) and status not in {"not found", "unknown"}
        found.append(JobStatus(job_id=job_id, status=status, attempt=attempt if known else None))
    return found
