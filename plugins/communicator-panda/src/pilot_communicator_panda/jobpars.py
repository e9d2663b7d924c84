"""The job parameters: base64, and the directives for the pilot among them.

A directive is cut out by its span and nothing else is touched, so that the quoting of what remains, which the payload
depends on, is the user's own.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any

from pilot_communicator_panda.values import BadField

__all__ = ["Parameters", "decode_base64", "parse_parameters"]

_SHORTEST_PADDED = 8
_SHORTEST = 12
_LIKE_ARGUMENTS = re.compile(r"[ =./_-]")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DICTIONARY = re.compile(r"(?<!\S)(['\"]?)--(overwriteQueueData|overwriteStorageData|overwriteQueuedata)=(['\"]?)(?={)")
_IMAGE = re.compile(r"(?<!\S)--containerImage(?:=|\s+)(\"[^\"]*\"|'[^']*'|\S+)")
_ACCESS_MODE = re.compile(r"(?<!\S)--accessmode=(direct|copy)(?!\S)")


@dataclass
class Parameters:
    """What the job parameters say."""

    text: str
    """The payload's arguments."""
    container_image: str = ""
    access_mode: str = ""
    """direct or copy; stays among the arguments."""
    queue_overrides: dict[str, Any] = field(default_factory=dict)
    multi_step: dict[str, Any] = field(default_factory=dict)
    archives: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Outputs that are archives of others (`ZIP_MAP`), with their members."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Directives that have no place in the job: `overwriteStorageData`, a `ZIP_MAP` that is none."""


def decode_base64(text: str) -> str | None:
    """Return the decoded text if this is base64 beyond reasonable doubt, else None.

    The server encodes the parameters of jobs with `encJobParams` and does not say so in the job (observed on
    panda-server 1.0.4), so it has to be seen: letters of the alphabet only, no blank, right padding, and bytes that are
    printable UTF-8. A word that is meant as it stands could pass too, so without padding it takes 12 characters (8
    with), and the result must hold a blank or one of `= . / _ -`, as arguments do. Of random words of letters and
    digits then 1 in 3000 passes with 12 characters, 1 in 24 000 with 16; of small letters and digits 1 in 10 000 and
    1 in 100 000 (all measured). What is shorter is taken as it stands.
    """
    word = text.strip()
    padded = word.endswith("=")
    if len(word) < (_SHORTEST_PADDED if padded else _SHORTEST) or not _BASE64.fullmatch(word):
        return None
    try:
        decoded = base64.b64decode(word, validate=True)
        result = decoded.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if base64.b64encode(decoded).decode("ascii") != word or not (padded or _LIKE_ARGUMENTS.search(result)):
        return None
    return result if all(c.isprintable() or c in "\t\n\r" for c in result) else None


def parse_parameters(text: str, *, decode: bool = True) -> Parameters:
    """Take the job parameters apart; raises `BadField`."""
    decoded = decode_base64(text) if decode else None
    made = Parameters(text if decoded is None else decoded)
    _take_dictionaries(made)
    multi_step = _take_tagged(made, "MULTI_STEP_EXEC")
    if multi_step is not None:
        made.multi_step = _multi_step(multi_step)
    zip_map = _take_tagged(made, "ZIP_MAP")
    if zip_map is not None:
        made.archives = _archives(zip_map)
        if not made.archives:
            made.extra["ZIP_MAP"] = zip_map
    image = _IMAGE.search(made.text)
    if image:
        made.text = _cut(made.text, *image.span())
        made.container_image = image[1].strip("'\"")
    for match in _ACCESS_MODE.finditer(made.text):
        made.access_mode = match[1]
    return made


def _cut(text: str, start: int, end: int) -> str:
    """Return the text without a span, and without the blank after it if there is one on both sides."""
    if end < len(text) and text[end].isspace() and (start == 0 or text[start - 1].isspace()):
        end += 1
    elif end == len(text) and start > 0 and text[start - 1].isspace():
        start -= 1
    return text[:start] + text[end:]


def _take_tagged(made: Parameters, tag: str) -> str | None:
    """Take out `<tag>...</tag>`; return what lies between, or None if it is not there."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    start = made.text.find(opening)
    end = made.text.find(closing, start)
    if start < 0 or end < 0:
        return None
    between = made.text[start + len(opening) : end]
    made.text = _cut(made.text, start, end + len(closing))
    return between


def _take_dictionaries(made: Parameters) -> None:
    """Take out the `--overwrite...={...}` directives; the one of Pilot 1 (small d) is only taken out."""
    position = 0
    while match := _DICTIONARY.search(made.text, position):
        name = match[2]
        end = _closing_brace(made.text, match.end())
        if end is None:
            raise BadField("jobPars", f"--{name}: the dictionary is not closed")
        literal = made.text[match.end() : end]
        for quote in (match[3], match[1]):
            if quote and made.text.startswith(quote, end):
                end += 1
        made.text = _cut(made.text, match.start(), end)
        position = match.start()
        if name == "overwriteQueueData":
            made.queue_overrides.update(_dictionary(name, literal))
        elif name == "overwriteStorageData":
            made.extra[name] = _dictionary(name, literal)


def _closing_brace(text: str, start: int) -> int | None:
    """Return the position after the brace that closes the one at `start`; braces in quotes do not count."""
    depth, quote, position = 0, "", start
    while position < len(text):
        c = text[position]
        if quote:
            if c == "\\":
                position += 1
            elif c == quote:
                quote = ""
        elif c in "'\"":
            quote = c
        elif c in "{}":
            depth += 1 if c == "{" else -1
            if depth == 0:
                return position + 1
        position += 1
    return None


def _dictionary(name: str, literal: str) -> dict[str, Any]:
    """Return a Python dictionary written as a literal (nothing is executed), or a JSON object."""
    import ast  # noqa: PLC0415  (rare)

    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        try:
            value = json.loads(literal)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise BadField("jobPars", f"--{name}: what follows is not a Python dictionary")
    return {str(key): item for key, item in value.items()}


def _archives(text: str) -> dict[str, tuple[str, ...]]:
    """Return the archives of a `ZIP_MAP`, `ARCHIVE:LFN,LFN ARCHIVE:LFN`, with their members; none if it is no map.

    Fact: panda-server's `JobSpec.getZipFileMap`, which passes over a map that it cannot read, too.
    """
    made: dict[str, tuple[str, ...]] = {}
    for item in text.split():
        archive, colon, members = item.partition(":")
        names = tuple(dict.fromkeys(name for name in members.split(",") if name))
        if not archive or not colon or not names or ":" in members or any("/" in name for name in (archive, *names)):
            return {}
        made[archive] = names
    return made


def _multi_step(text: str) -> dict[str, Any]:
    """Return the object between the MULTI_STEP_EXEC tags."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadField("jobPars", "<MULTI_STEP_EXEC>: what follows is not a JSON object")
    return value
