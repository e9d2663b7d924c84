"""Looking at a file on a storage without fetching it: its size, its checksums, whether it is a file at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilot_core import SourceNotFound, TransferError
from pilot_stager_http.digests import WIRE_NAMES, digests
from pilot_stager_http.storage import Question

if TYPE_CHECKING:
    from pilot_core import Checksum
    from pilot_core.api.web import WebAddress, WebAnswer
    from pilot_stager_http.names import RemoteFile
    from pilot_stager_http.storage import Limits, Storage

__all__ = ["Seen", "check_is_file", "looks_like_a_file", "may_know_no_digest", "seen"]

_COLLECTION = re.compile(rb"<(?:[\w-]+:)?collection\s*/?>")
LARGEST = 1 << 20
"""Bytes of an answer to PROPFIND."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a storage says of a file."""

    size: int | None
    checksums: Mapping[str, Checksum] = field(default_factory=dict)
    plain: bool = True
    """Whether it is said in a way that folders are not told of."""


def seen(
    storage: Storage,
    file: RemoteFile,
    limits: Limits,
    *,
    checksum: str,
    address: WebAddress | None = None,
    writing: bool = False,
) -> Seen:
    """Ask about a file with a HEAD, for its size and (unless `checksum` is empty) that checksum.

    Raises `SourceNotFound` and what else an answer may amount to.
    """
    headers = {"Want-Digest": WIRE_NAMES[checksum]} if checksum else {}
    question = Question(method="HEAD", file=file, address=address, headers=headers, writing=writing)
    with storage.ask(question, limits) as answer:
        if not (headers and may_know_no_digest(answer.status)):
            return _seen(storage, question, answer)
    question = replace(question, headers={})
    with storage.ask(question, limits) as answer:
        return _seen(storage, question, answer)


def may_know_no_digest(status: int) -> bool:
    """Say whether an error may come of it that the storage was asked for a checksum that it cannot compute."""
    return status >= 400 and status not in {401, 403, 404, 410, 429, 503}


def _seen(storage: Storage, question: Question, answer: WebAnswer) -> Seen:
    if answer.status != 200:
        raise storage.refusal(question, answer)
    return Seen(size=answer.length, checksums=digests(answer.headers), plain=looks_like_a_file(answer))


def looks_like_a_file(answer: WebAnswer) -> bool:
    """Say whether an answer tells of its file what storages do not tell of folders.

    XRootD 5.5 answers GET of a folder with 200 and a page that lists it, and tells of files no more than of folders.
    """
    return bool({"digest", "repr-digest", "etag", "last-modified", "content-range"} & set(answer.headers))


def check_is_file(storage: Storage, file: RemoteFile, limits: Limits) -> None:
    """Ask with a PROPFIND (RFC 4918) whether it is a folder; raises `SourceNotFound` then.

    A storage that knows no PROPFIND has no folders either.
    """
    question = Question(method="PROPFIND", file=file, headers={"Depth": "0"})
    with storage.ask(question, limits) as answer:
        if answer.status != 207:
            return
        try:
            text = answer.read(LARGEST)
        except TransferError:
            return
    if _COLLECTION.search(text):
        raise SourceNotFound(f"{file.what}: is a folder, no file")
