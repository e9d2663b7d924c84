"""AWS Signature Version 4 for S3: in headers, and in the query of a presigned URL.

Source: "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API reference. The examples there are tests.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pilot_stager_s3.keys import Keys

__all__ = ["UNSIGNED", "Asked", "encoded", "presigned_query", "query_string", "signed_headers"]

UNSIGNED = "UNSIGNED-PAYLOAD"
"""In the place of the body's SHA-256: the body is protected by TLS, and by a signed Content-MD5."""
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is signed of a request."""

    method: str
    host: str
    """As the Host header has it."""
    path: str
    """As it goes over the wire: percent-encoded once."""
    query: Mapping[str, str]
    """Not encoded."""
    headers: Mapping[str, str]
    """All but Host; names in lower case."""


def encoded(text: str, *, safe: str = "") -> str:
    """Percent-encode everything but letters, digits and `-._~`, as the signature wants it."""
    return quote(text, safe=f"-._~{safe}")


def query_string(query: Mapping[str, str]) -> str:
    """Return the query, sorted and encoded: the same over the wire and in the signature."""
    return "&".join(f"{name}={value}" for name, value in sorted((encoded(n), encoded(v)) for n, v in query.items()))


def signed_headers(asked: Asked, keys: Keys, *, region: str, now: float, payload: str) -> dict[str, str]:
    """Return the request's headers with the signature among them.

    `now` is the wall time in seconds since 1970, `payload` the body's SHA-256 in hexadecimal digits, or `UNSIGNED`.
    """
    headers = {**asked.headers, "x-amz-date": _moment(now), "x-amz-content-sha256": payload}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(sorted({*headers, "host"}))
    canonical = _canonical(asked, asked.query, headers, names, payload)
    scope, signature = _signature(canonical, keys, region, now)
    value = f"{_ALGORITHM} Credential={keys.access}/{scope},SignedHeaders={names},Signature={signature}"
    return {**headers, "authorization": value}


def presigned_query(asked: Asked, keys: Keys, *, region: str, now: float, seconds: int) -> str:
    """Return the query of a URL that holds for `seconds`; whoever has it can do what was asked."""
    query = {
        **asked.query,
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{keys.access}/{_scope(region, now)}",
        "X-Amz-Date": _moment(now),
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if keys.token:
        query["X-Amz-Security-Token"] = keys.token
    _, signature = _signature(_canonical(asked, query, {}, "host", UNSIGNED), keys, region, now)
    return f"{query_string(query)}&X-Amz-Signature={signature}"


def _canonical(asked: Asked, query: Mapping[str, str], headers: Mapping[str, str], names: str, payload: str) -> str:
    """Return the request in its canonical form."""
    fields = sorted({**headers, "host": asked.host}.items())
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in fields)
    return "\n".join([asked.method, asked.path, query_string(query), lines, names, payload])


def _signature(canonical: str, keys: Keys, region: str, now: float) -> tuple[str, str]:
    """Return the scope, and the signature of a canonical request."""
    scope = _scope(region, now)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([_ALGORITHM, _moment(now), scope, digest])
    key = f"AWS4{keys.secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    return scope, hmac.digest(key, text.encode(), "sha256").hex()


def _scope(region: str, now: float) -> str:
    return f"{_moment(now)[:8]}/{region}/s3/aws4_request"


def _moment(now: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
