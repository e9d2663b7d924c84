"""What an S3 service says when something is wrong, and the error whose class tells the pilot what to try next.

Source of the codes: "Error responses", Amazon S3 API reference; Ceph's `rgw_common.cc`; MinIO's `api-errors.go`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pilot_core import (
    AuthError,
    BackendUnavailable,
    ChecksumMismatch,
    HandledError,
    NoSpace,
    SourceNotFound,
    TransferError,
    TransientError,
)
from pilot_core.api.web import retry_after

if TYPE_CHECKING:
    from pilot_core.api.web import WebAnswer

__all__ = ["CODES", "Problem", "element", "error_of", "problem_of"]

LARGEST = 1 << 18
"""Bytes of an error's document."""
SKEWED = 300.0
"""Seconds by which two clocks may differ before it is worth telling; S3 itself allows 900."""

_TABLE: Mapping[type[HandledError], str] = {
    AuthError: """
        AccessDenied AccountProblem AllAccessDisabled AuthorizationHeaderMalformed AuthorizationQueryParametersError
        CredentialsNotSupported ExpiredToken InvalidAccessKeyId InvalidPayer InvalidSecurity InvalidToken
        InvalidTokenId MissingSecurityHeader NotSignedUp RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch
        TokenRefreshRequired UserSuspended
    """,
    SourceNotFound: "InvalidObjectState NoSuchBucket NoSuchKey NoSuchVersion",
    TransientError: """
        BandwidthLimitExceeded Busy ConditionalRequestConflict IncompleteBody InternalError NoSuchUpload
        OperationAborted RequestLimitExceeded RequestTimeout RequestTimeoutException ServerBusy ServiceUnavailable
        SlowDown SlowDownRead SlowDownWrite Throttling ThrottlingException TooManyRequests
        XMinioServerNotInitialized
    """,
    NoSpace: "InsufficientStorage QuotaExceeded StorageFull XMinioAdminBucketQuotaExceeded XMinioStorageFull",
    ChecksumMismatch: """
        BadDigest InvalidDigest InvalidPart XAmzContentChecksumMismatch XAmzContentSHA256Mismatch
    """,
    BackendUnavailable: """
        IllegalLocationConstraintException InvalidBucketName InvalidLocationConstraint MethodNotAllowed NotImplemented
        PermanentRedirect Redirect TemporaryRedirect
    """,
    TransferError: "EntityTooLarge EntityTooSmall InvalidRange InvalidRequest KeyTooLongError PreconditionFailed",
}
CODES: Mapping[str, type[HandledError]] = {code: kind for kind, codes in _TABLE.items() for code in codes.split()}
"""S3's error codes, and the class of each."""
_STATUSES: Mapping[int, type[HandledError]] = {
    **dict.fromkeys((401, 403, 407), AuthError),
    **dict.fromkeys((404, 410), SourceNotFound),
    **dict.fromkeys((408, 425, 429), TransientError),
    **dict.fromkeys((413, 507), NoSpace),
    **dict.fromkeys((405, 501, 505), BackendUnavailable),
}
_HINTS: Mapping[str, str] = {
    "AccessDenied": "the keys of stager.s3.credentials_file need access there",
    "AuthorizationHeaderMalformed": "set stager.s3.region",
    "ExpiredToken": "renew the keys of stager.s3.credentials_file",
    "InvalidAccessKeyId": "the service does not know the key of stager.s3.credentials_file",
    "InvalidObjectState": "it is in an archive, and has to be restored first",
    "NoSuchBucket": "the bucket is not there; a service is written with its port, s3://HOST:PORT/BUCKET/KEY",
    "SignatureDoesNotMatch": "the secret of stager.s3.credentials_file is another one than the service's",
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a service said when it did not do what was asked."""

    status: int
    code: str = ""
    """S3's own code; empty where the answer has no document, as with HEAD."""
    message: str = ""
    retry_after: float | None = None
    region: str = ""
    """Where the bucket is, if the service says so."""
    location: str = ""
    """The host that it redirects to."""
    skew: float = 0.0
    """Seconds by which the service's clock is ahead of this machine's."""

    @property
    def of_time(self) -> bool:
        """Whether it may be about this machine's clock only."""
        told = self.code in {"RequestTimeTooSkewed", "RequestExpired"}
        return told or (self.status in {400, 403} and abs(self.skew) > SKEWED)

    @property
    def kind(self) -> type[HandledError]:
        """The class of its error."""
        known = CODES.get(self.code) or _STATUSES.get(self.status)
        if known is not None:
            return known
        if self.status >= 500:
            return TransientError
        return BackendUnavailable if 300 <= self.status < 400 else TransferError


def problem_of(answer: WebAnswer, now: float) -> Problem:
    """Read what an answer says; `now` is the wall time in seconds since 1970."""
    text = answer.read(LARGEST).decode("utf-8", "replace")
    region = answer.headers.get("x-amz-bucket-region", "") or element(text, "Region")
    # the rest of a Location may be a signature
    host = re.match(r"https?://([^/?#@]+)", answer.headers.get("location", ""))
    return Problem(
        status=answer.status,
        code=element(text, "Code"),
        message=element(text, "Message"),
        retry_after=retry_after(answer.headers, now),
        region=region,
        location=host[1] if host else element(text, "Endpoint"),
        skew=_skew(answer.headers.get("date", ""), now),
    )


def error_of(problem: Problem, what: str, *, reading: bool = True) -> HandledError:
    """Return the error of a problem; `what` names the file.

    Where nothing is read, a bucket that is missing is no missing file, but a storage that cannot be used.
    """
    kind = problem.kind
    text = f"{what}: {_told(problem)}"
    if kind is SourceNotFound and not reading:
        return BackendUnavailable(text)
    if kind is TransientError:
        return TransientError(text, retry_after=problem.retry_after)
    return kind(text)


def element(text: str, name: str) -> str:
    """Return the text of a document's first element of that name, empty if there is none.

    S3's documents are flat, and no parser of XML is asked to make sense of what may come from anybody. Ceph complains
    in JSON of a request that it cannot read at all.
    """
    found = re.search(rf"<{name}(?:\s[^<>]*)?>([^<]*)</{name}\s*>", text)
    if found is None and text.startswith("{"):
        found = re.search(rf'"{name}"\s*:\s*"([^"\\]*)"', text)
    return html.unescape(found[1]).strip() if found else ""


def _told(problem: Problem) -> str:
    """Return what is said of a problem, on one line."""
    words = [f"HTTP {problem.status}", problem.code, f"({problem.message})" if problem.message else ""]
    text = "".join(char if char.isprintable() else " " for char in " ".join(filter(None, words)))[:300]
    if problem.of_time and abs(problem.skew) > SKEWED:
        way = "behind" if problem.skew > 0 else "ahead of"
        return f"{text}; this machine's clock is {abs(problem.skew):.0f} s {way} the service's: set it right"
    if problem.kind is BackendUnavailable and problem.region:
        return f"{text}; the bucket is in region {problem.region}: set stager.s3.region and stager.s3.endpoint"
    if problem.kind is BackendUnavailable and problem.location:
        return f"{text}; the service redirects to {problem.location}: set stager.s3.endpoint"
    if problem.code == "AuthorizationHeaderMalformed" and problem.region:
        return f"{text}; set stager.s3.region to {problem.region}"
    hint = _HINTS.get(problem.code or {403: "AccessDenied"}.get(problem.status, ""), "")
    return f"{text}; {hint}" if hint else text


def _skew(date: str, now: float) -> float:
    """Return how far the Date of an answer is ahead of our clock, 0 where it has none."""
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return 0.0
