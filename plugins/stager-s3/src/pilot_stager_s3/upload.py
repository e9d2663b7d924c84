"""Writing an object: in one request, or in parts; there whole or not at all, for that is how S3 works.

Every request with bytes has their MD5 (`Content-MD5`), which the service verifies, and its answer's ETag is compared.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pilot_core import (
    AuthError,
    CancelToken,
    Checksum,
    ChecksumMismatch,
    Deadline,
    HandledError,
    TargetExists,
    TransferError,
    TransferTimeout,
    TransientError,
)
from pilot_core.api.web import WebAnswer, WebBody
from pilot_stager_s3.objects import TAG_OF, known_checksum, tagging_document, unquoted
from pilot_stager_s3.parts import PartSenders, Shares
from pilot_stager_s3.problems import CODES, Problem, element, error_of
from pilot_stager_s3.session import Call, Limits

if TYPE_CHECKING:
    import logging

    from pilot_core import Outgoing, StoreRequest
    from pilot_stager_s3.location import Location
    from pilot_stager_s3.objects import Objects
    from pilot_stager_s3.session import Session
    from pilot_stager_s3.settings import Settings

__all__ = ["Upload", "part_size"]

MIB = 1 << 20
MOST_PARTS = 10_000
"""Parts of an object (Amazon S3 user guide, "Amazon S3 multipart upload limits")."""
PAUSE = 0.25
"""Seconds before a part is tried again; doubled each time."""
LONGEST_PAUSE = 30.0
"""Seconds that a service may ask for; with a longer pause another storage is the better choice."""
TIDY_SECONDS = 1.0
"""Seconds in which what is left of a failed upload has to be taken back, for it may have been cancelled."""
WORTH_ASKING = 65536
"""Bytes of a body before which the service is asked whether it wants it."""


def part_size(size: int, wanted: int) -> int:
    """Return the bytes of a part of a file of `size` bytes: those wanted, or more MiB where these were too many."""
    least = -(-size // MOST_PARTS)
    return max(wanted, -(-least // MIB) * MIB)


class Upload:
    """One file on its way out."""

    def __init__(
        self,
        objects: Objects,
        location: Location,
        outgoing: Outgoing,
        request: StoreRequest,
        limits: Limits,
        *,
        settings: Settings,
        shares: Shares,
        log: logging.Logger,
    ) -> None:
        self._objects = objects
        self._session: Session = objects.session
        self._location = location
        self._outgoing = outgoing
        self._request = request
        self._limits = limits
        self._settings = settings
        self._shares = shares
        self._log = log
        self._what = objects.what(location)
        self._etags: dict[int, str] = {}
        self._condition = {} if request.overwrite else {"if-none-match": "*"}

    def run(self) -> Checksum:
        """Send the file and return its checksum. Raises as `StageOut.store`; then nothing of it is there."""
        if not self._request.overwrite:
            self._check_absent()
        size = self._outgoing.size
        part = part_size(size, self._settings.part_size * MIB)
        return self._in_one(size) if size <= part else self._in_parts(part)

    def _check_absent(self) -> None:
        """Raise `TargetExists` if something has the key."""
        if not isinstance(self._objects.head(self._location, self._limits), Problem):
            raise self._exists()

    def _exists(self) -> TargetExists:
        return TargetExists(f"{self._what}: is there already")

    def _refused(self, problem: Problem) -> HandledError:
        """Return the error of a refused request to make the object."""
        return self._exists() if problem.status == 412 else error_of(problem, self._what, reading=False)

    def _call(self, method: str, **more: Any) -> Call:
        return Call(method=method, location=self._location, what=self._what, reading=False, **more)

    # -- in one request ----------------------------------------------------------------------------------------------

    def _in_one(self, size: int) -> Checksum:
        """Send a file that fits into one request."""
        data = bytearray(size)
        at = 0
        for block in self._outgoing.blocks():
            data[at : at + len(block)] = block
            at += len(block)
        checksum = self._outgoing.finish()
        md5 = hashlib.md5(data, usedforsecurity=False)
        headers = {f"x-amz-meta-{checksum.name}": checksum.value, **self._condition}
        try:
            answer = self._put(memoryview(data), md5.digest(), headers=headers, expect=size > WORTH_ASKING)
        except BaseException as error:
            # nobody knows what became of it
            if isinstance(error, TransientError) and self._is_there(md5.hexdigest(), self._limits):
                return checksum
            self._take_back(md5.hexdigest())
            raise
        if isinstance(answer, Problem):
            if answer.status == 412 and self._is_there(md5.hexdigest(), self._limits):
                return checksum  # sent twice, for the connection broke: the first one was taken
            raise self._refused(answer)
        if self._differs(answer, md5.hexdigest()):
            self._take_back(answer)
            raise self._damaged(answer, md5.hexdigest())
        return checksum

    def _put(
        self,
        data: memoryview,
        md5: bytes,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        expect: bool = False,
    ) -> str | Problem:
        """Send bytes, and return the ETag that they got."""
        call = self._call(
            "PUT",
            headers={**headers, "content-md5": base64.b64encode(md5).decode()},
            query=query or {},
            body=WebBody(length=len(data), blocks=lambda: (data,)),
            expect=expect,
        )
        answer = self._session.ask(call, limits or self._limits)
        if isinstance(answer, Problem):
            return answer
        with answer:
            answer.read()
            return unquoted(answer)

    def _differs(self, etag: str, expected: str) -> bool:
        """Say whether an ETag says that the service has other bytes; one of an encrypted object is no MD5."""
        return self._settings.etag_is_md5 and bool(etag) and etag != expected

    def _damaged(self, etag: str, expected: str) -> ChecksumMismatch:
        return ChecksumMismatch(
            f"{self._what}: the service has other bytes than were sent: its ETag is {etag[:80]!r}, not {expected}; "
            "if its ETags are no MD5, set stager.s3.etag_is_md5 to false"
        )

    # -- in parts ----------------------------------------------------------------------------------------------------

    def _in_parts(self, size: int) -> Checksum:
        """Send a file in parts of `size` bytes."""
        known = known_checksum(self._request.checksum)
        upload = self._create(known)
        try:
            with (
                self._shares.share(size) as at_once,
                PartSenders(
                    lambda number, data, stop: self._send(upload, number, data, stop), size=size, at_once=at_once
                ) as senders,
            ):
                senders.send_all(self._outgoing.blocks(), self._limits, self._what)
            checksum = self._outgoing.finish()
            if not self._request.overwrite:
                self._check_absent()  # not every service knows conditions (Ceph 16 does not)
            etag = self._complete(upload)
        except BaseException:
            self._abort(upload)
            raise
        if known is None:
            self._objects.tag(self._location, tagging_document(checksum, {TAG_OF: etag}), self._limits)
        return checksum

    def _create(self, known: Checksum | None) -> str:
        """Begin an upload and return its id."""
        headers = {f"x-amz-meta-{known.name}": known.value} if known else {}
        call = self._call("POST", query={"uploads": ""}, headers=headers)
        with self._session.must(call, self._limits) as answer:
            upload = element(answer.read().decode("utf-8", "replace"), "UploadId")
        if not upload:
            raise TransientError(f"{self._what}: the service began an upload without an id")
        return upload

    def _send(self, upload: str, number: int, data: memoryview, stop: CancelToken) -> None:
        """Send one part, again if it is worth it."""
        md5 = hashlib.md5(data, usedforsecurity=False)
        limits = Limits(stop, self._limits.deadline)
        query = {"partNumber": str(number), "uploadId": upload}
        etag = self._tried(
            lambda: self._taken(self._put(data, md5.digest(), headers={}, query=query, limits=limits)), limits
        )
        if self._differs(etag, md5.hexdigest()):
            raise self._damaged(etag, md5.hexdigest())
        self._etags[number] = etag

    def _taken(self, etag: str | Problem) -> str:
        """Return the ETag of a part, or raise the error of one that was not taken."""
        if isinstance(etag, Problem):
            raise error_of(etag, self._what, reading=False)
        return etag

    def _tried(self, attempt: Callable[[], str], limits: Limits) -> str:
        """Return what an attempt does, made again after passing trouble as often as the settings allow."""
        failures = 0
        while True:
            try:
                return attempt()
            except (TransientError, TransferTimeout) as error:
                failures += 1
                asked_for = getattr(error, "retry_after", None)
                seconds = PAUSE * 2 ** (failures - 1) if asked_for is None else asked_for
                if failures >= self._settings.tries or seconds > LONGEST_PAUSE or limits.deadline.passed:
                    raise
            limits.pause(seconds, self._what)

    def _complete(self, upload: str) -> str:
        """Make the parts an object and return its ETag."""
        expected = self._final_etag()

        def attempt() -> str:
            try:
                return self._completed(upload, expected)
            except (TransientError, TransferTimeout):
                # the answer may have been lost, after all was done; then the next one is "no such upload"
                if self._is_there(expected, self._limits):
                    return expected
                raise

        return self._tried(attempt, self._limits)

    def _completed(self, upload: str, expected: str) -> str:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{html.escape(etag)}&quot;</ETag></Part>"
            for number, etag in sorted(self._etags.items())
        )
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        body = f'<CompleteMultipartUpload xmlns="{space}">{parts}</CompleteMultipartUpload>'.encode()
        call = self._call(
            "POST",
            query={"uploadId": upload},
            headers=self._condition,
            body=WebBody.of(body),
            digest=hashlib.sha256(body).hexdigest(),
        )
        answer = self._session.ask(call, self._limits)
        if isinstance(answer, Problem):
            raise self._refused(answer)
        with answer:
            text = answer.read().decode("utf-8", "replace")
        # S3 begins its answer before it is done, so an error may come with status 200
        if "<Error" in text or element(text, "Code") in CODES:
            problem = Problem(status=answer.status, code=element(text, "Code"), message=element(text, "Message"))
            raise (
                error_of(problem, self._what, reading=False)
                if problem.code in CODES
                else TransientError(f"{self._what}: the service could not join the parts: {problem.code}")
            )
        etag = element(text, "ETag").strip('"')
        if self._differs(etag, expected):
            self._take_back(etag)
            raise self._damaged(etag, expected)
        return etag or expected

    def _final_etag(self) -> str:
        """Return the ETag of an object of these parts: the MD5 of their MD5s, and their number."""
        try:
            joined = b"".join(bytes.fromhex(self._etags[number]) for number in sorted(self._etags))
        except ValueError:
            return ""
        return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(self._etags)}"

    # -- what is left ------------------------------------------------------------------------------------------------

    def _tidy_limits(self) -> Limits:
        """Return limits for tidying up: the upload itself may be cancelled, or out of time."""
        return Limits(CancelToken(), Deadline.after(self._limits.deadline.clock, TIDY_SECONDS))

    def _abort(self, upload: str) -> None:
        """Have the service forget the parts."""
        call = self._call("DELETE", query={"uploadId": upload})
        try:
            answer = self._session.ask(call, self._tidy_limits())
        except HandledError as error:
            self._log.warning("%s: parts of it may stay on the storage until it expires them: %s", self._what, error)
            return
        if isinstance(answer, WebAnswer):
            answer.close()
        elif answer.code != "NoSuchUpload":
            told = error_of(answer, self._what, reading=False)
            self._log.warning("parts of it may stay on the storage until it expires them: %s", told)

    def _is_there(self, etag: str, limits: Limits) -> bool:
        """Say whether the object is the one of this upload; raises `Cancelled` only."""
        try:
            return bool(etag) and self._objects.etag(self._location, limits) == etag
        except (TransferError, AuthError) as error:
            self._log.debug("%s: cannot be looked for: %s", self._what, error)
            return False

    def _take_back(self, etag: str) -> None:
        """Remove the object if it is the one of this upload."""
        limits = self._tidy_limits()
        try:
            if self._is_there(etag, limits):
                self._objects.remove(self._location, limits)
        except HandledError as error:
            self._log.warning("%s: a failed upload is on the storage, and cannot be removed: %s", self._what, error)
