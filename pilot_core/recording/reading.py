"""Reading a recording. Everything that is wrong with one is a `BadInput`: one line with the file and the place."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pilot_core.api.traffic import LOST
from pilot_core.errors import BadInput
from pilot_core.places import is_directory, is_there
from pilot_core.plugins.discovery import API
from pilot_core.recording.events import check_event
from pilot_core.recording.manifest import EVENTS, FORMAT, HAR, MANIFEST, VERSION, Manifest
from pilot_core.values import decode

__all__ = ["RecordedExchange", "Recording"]


@dataclass(frozen=True, kw_only=True)
class RecordedExchange:
    """One exchange of a recording."""

    number: int
    """Its place among all of the recording's exchanges in the order in which they began, from 1."""
    call: int
    """Number of the communicator's call that it belongs to; 0 = none."""
    began: float
    """Wall time, seconds since 1970."""
    ended: float
    method: str
    target: str
    """Path and query."""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = field(default=b"", repr=False)
    """Decoded from its compression."""
    status: int = 0
    reason: str = ""
    answer_headers: Sequence[tuple[str, str]] = ()
    answer: bytes = field(default=b"", repr=False)
    failure: str = ""
    """Why there was no answer: a constant of `pilot_core.api.traffic`, or empty."""

    @property
    def endpoint(self) -> str:
        """Method and path."""
        return f"{self.method} {self.target.partition('?')[0]}"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording, read and checked."""

    folder: Path
    manifest: Manifest
    exchanges: Sequence[RecordedExchange]
    """In the order in which they began."""
    events: Sequence[Mapping[str, Any]]

    @property
    def whole(self) -> bool:
        """Whether it was closed by a pilot that ended by itself; otherwise it breaks off."""
        return self.manifest.exit_code is not None

    def of(self, *what: str) -> list[Mapping[str, Any]]:
        """Return the events of some kinds."""
        return [event for event in self.events if event["what"] in what]

    @classmethod
    def read(cls, folder: Path) -> Recording:
        """Read a recording; raises `BadInput` for what is none, is damaged, or was made by another version."""
        if not is_directory(folder):
            what = "is not a directory" if is_there(folder) else "does not exist"
            raise BadInput(f"recording {folder} {what}; name the directory that --record made")
        manifest = _manifest(folder / MANIFEST)
        return cls(
            folder=folder, manifest=manifest, exchanges=_exchanges(folder / HAR), events=_events(folder / EVENTS)
        )


def _manifest(path: Path) -> Manifest:
    """Read the manifest."""
    value = _json(path, _text(path))
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BadInput(f"{path}: is not the manifest of a recording (format {FORMAT!r} was expected)")
    if value.get("version") != VERSION:
        raise BadInput(
            f"{path}: a recording of format version {value.get('version')!r}, and this pilot-core reads version "
            f"{VERSION}; replay it with the pilot-core {value.get('pilot_core', '')} that made it"
        )
    if value.get("plugin_api") != API:
        raise BadInput(
            f"{path}: made with version {value.get('plugin_api')!r} of the plugin API, and this pilot-core has version "
            f"{API}; replay it with the pilot-core {value.get('pilot_core', '')} that made it"
        )
    try:
        return decode(Manifest, value, "manifest")
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None


def _events(path: Path) -> list[Mapping[str, Any]]:
    """Read the events; a last line that is not whole is what a killed pilot leaves, and is passed over."""
    text = _text(path)
    found: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        value = _json(path, line, f" line {number}")
        if not isinstance(value, dict) or not isinstance(value.get("what"), str):
            raise BadInput(f"{path}: line {number}: is not an event of a recording")
        try:
            check_event(value)
        except ValueError as error:
            raise BadInput(f"{path}: line {number}: {error}") from None
        found.append(value)
    return found


def _exchanges(path: Path) -> list[RecordedExchange]:
    """Read the HAR."""
    value = _json(path, _text(path))
    try:
        entries = value["log"]["entries"]
        if value["log"]["version"] != "1.2" or not isinstance(entries, list):
            raise BadInput(f"{path}: HAR of version 1.2 with a list of entries was expected")
    except (TypeError, KeyError):
        raise BadInput(f"{path}: is not a HAR") from None
    found = []
    for number, entry in enumerate(entries, start=1):
        try:
            found.append(_exchange(entry))
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
            raise BadInput(f"{path}: entry {number}: {type(error).__name__}: {error}") from None
    found.sort(key=lambda exchange: exchange.began)
    return [RecordedExchange(**{**vars(exchange), "number": number}) for number, exchange in enumerate(found, start=1)]


def _exchange(entry: Mapping[str, Any]) -> RecordedExchange:
    """Return an entry of a HAR as an exchange."""
    request, response = entry["request"], entry["response"]
    parts = urlsplit(request["url"])
    status = int(response["status"])
    began = float(entry["_started"])
    if not math.isfinite(began) or not math.isfinite(float(entry["time"])):
        raise ValueError("its times are no times")
    return RecordedExchange(
        number=0,
        call=int(entry["_call"]),
        began=began,
        ended=began + float(entry["time"]) / 1000,
        method=str(request["method"]),
        target=parts.path + (f"?{parts.query}" if parts.query else ""),
        headers=_pairs(request["headers"]),
        body=_content(request.get("postData"), "_encoding"),
        status=status,
        reason=str(response["statusText"]),
        answer_headers=_pairs(response["headers"]),
        answer=_content(response["content"], "encoding"),
        failure="" if status else str(entry.get("_failure") or LOST),
    )


def _pairs(headers: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(header["name"]), str(header["value"])) for header in headers)


def _content(value: Any, encoding: str) -> bytes:
    """Return the bytes of a body."""
    text = value.get("text", "") if value else ""
    return base64.b64decode(text) if value and value.get(encoding) == "base64" else text.encode("utf-8")


def _text(path: Path) -> str:
    """Read a file of a recording."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: is missing, so this is no whole recording; copy all of its files") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def _json(path: Path, text: str, place: str = "") -> Any:
    """Return JSON data."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = place or f" line {error.lineno} column {error.colno}"
        raise BadInput(f"{path}:{where}: is not JSON ({error.msg})") from None
    except RecursionError:
        raise BadInput(f"{path}:{place} is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadInput(f"{path}:{place} cannot be read as JSON ({error})") from None
