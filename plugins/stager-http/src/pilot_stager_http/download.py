"""One file fetched: resumed where a connection was cut, verified as it comes."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from pilot_core import BackendUnavailable, Incoming, TransferResult, TransientError
from pilot_core.api.web import ConnectionLost
from pilot_stager_http.digests import digests
from pilot_stager_http.look import check_is_file, looks_like_a_file, may_know_no_digest
from pilot_stager_http.storage import Question

if TYPE_CHECKING:
    from pilot_core import FetchRequest
    from pilot_core.api.web import WebAnswer
    from pilot_stager_http.names import RemoteFile
    from pilot_stager_http.storage import Limits, Storage

__all__ = ["Download"]

BLOCK = 1 << 20
"""Bytes of a block: with fewer the number of calls limits the rate."""
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class Download:
    """Fetches one file, once."""

    def __init__(
        self, storage: Storage, file: RemoteFile, request: FetchRequest, limits: Limits, *, resumes: int
    ) -> None:
        self._storage = storage
        self._file = file
        self._request = replace(request, url=file.what)
        self._limits = limits
        self._resumes = resumes
        self._validator = ""
        """What tells this version of the file from others, in `If-Range`."""
        self._size: int | None = None
        """Bytes of the whole file, as the storage says."""
        self._url = file.url
        self._buffer: memoryview | None = None

    def run(self) -> TransferResult:
        """Fetch the file; raises as `StageIn.fetch`."""
        with ExitStack() as opened:
            answer = opened.enter_context(self._answer(0))
            if not self._request.checksum and self._request.size is None and not looks_like_a_file(answer):
                check_is_file(self._storage, self._file, self._limits)
            incoming = opened.enter_context(self._incoming(answer))
            while True:
                cut_at = incoming.received
                try:
                    self._take(answer, incoming)
                    break
                except ConnectionLost as error:
                    answer = self._resumed(incoming, cut_at, error)
            return incoming.publish(url=self._url)

    def _incoming(self, answer: WebAnswer) -> Incoming:
        """Return what takes the file; without a checksum of the catalogue, one that wants the storage's own."""
        told = digests(answer.headers)
        if not self._request.checksum and told:
            best = told.get("adler32") or next(iter(told.values()))
            self._request = replace(self._request, checksum=str(best))
        return Incoming(self._request, cancel=self._limits.cancel, deadline=self._limits.deadline)

    def _answer(self, start: int) -> WebAnswer:
        """Ask for the file from a byte on; returns an answer with status 200 or 206."""
        headers = {} if self._request.checksum else {"Want-Digest": "adler32"}
        if start:
            # XRootD 5.5 answers a range without an end with no bytes at all
            headers["Range"] = f"bytes={start}-{'' if self._size is None else self._size - 1}"
            if self._validator:
                headers["If-Range"] = self._validator
        question = Question(method="GET", file=self._file, headers=headers)
        answer = self._storage.ask(question, self._limits)
        if (start and answer.status == 416) or ("Want-Digest" in headers and may_know_no_digest(answer.status)):
            answer.close()  # it is shorter now, or its checksum cannot be told
            question = replace(question, headers={})
            answer = self._storage.ask(question, self._limits)
        if answer.status not in ({200, 206} if "Range" in question.headers else {200}):
            with answer:
                raise self._storage.refusal(question, answer)
        return answer

    def _resumed(self, incoming: Incoming, cut_at: int, error: ConnectionLost) -> WebAnswer:
        """Ask for the rest after a cut; raises the cut's error if it is no use.

        A cut is worth another request only if it was not at the same byte as the one before, and if a changed file
        would be noticed: by its validator, or in the end by the catalogue's checksum.
        """
        known = bool(self._validator or self._request.checksum)
        if not self._resumes or not known or incoming.received == cut_at:
            raise error
        self._resumes -= 1
        self._storage.log.info("%s; going on at byte %d", error, incoming.received)
        return self._answer(incoming.received)

    def _take(self, answer: WebAnswer, incoming: Incoming) -> None:
        """Take what an answer brings; raises `ConnectionLost` if it is cut."""
        with answer:
            start = self._start(answer)
            if start != incoming.received:
                if start:
                    raise BackendUnavailable(f"{self._file.what}: the storage sends another part than was asked for")
                incoming.restart()
            self._remember(answer, start)
            if self._size is not None:
                incoming.expect(self._size)
            if self._buffer is None:
                length = BLOCK if answer.length is None else max(1, min(BLOCK, answer.length))
                self._buffer = memoryview(bytearray(length))
            for block in answer.blocks(self._buffer):
                incoming.write(block)
        if self._size is not None and incoming.received != self._size:
            raise TransientError(f"{self._file.what}: {incoming.received} bytes came, {self._size} were announced")

    def _start(self, answer: WebAnswer) -> int:
        """Return the byte with which an answer begins."""
        if answer.status != 206:
            return 0
        match = _RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if match is None or (self._size is not None and match[3] not in {"*", str(self._size)}):
            raise TransientError(
                f"{self._file.what}: the storage does not go on where the file was cut; it has changed"
            )
        return int(match[1])

    def _remember(self, answer: WebAnswer, start: int) -> None:
        """Take note of what an answer says of the file."""
        headers = answer.headers
        if headers.tokens("content-encoding") - {"identity"}:
            raise BackendUnavailable(f"{self._file.what}: the storage sends it encoded, which was not asked for")
        if answer.address != self._file.address:
            self._url = str(answer.address)
        if start:
            return
        self._size = answer.length
        etag = headers.get("etag", "")
        self._validator = etag if etag and not etag.startswith("W/") else headers.get("last-modified", "")
        endless = answer.length is None and "transfer-encoding" not in headers
        if endless and self._request.size is None and not self._request.checksum:
            raise BackendUnavailable(
                f"{self._file.what}: neither storage nor catalogue say how long it is, so that a cut could not be told"
            )
