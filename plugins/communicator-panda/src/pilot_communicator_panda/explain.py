"""What went wrong on the network, in one line: what, where, what to do."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import TYPE_CHECKING

from pilot_communicator_panda.retry import AttemptFailed
from pilot_core import AuthError, HandledError

if TYPE_CHECKING:
    from pilot_communicator_panda.urls import BaseUrl

__all__ = ["certificate_refusal", "connect_failure", "lost_answer", "tls_failure"]

_VERIFY = {
    9: "it is not valid yet: check this machine's clock",
    10: "it has expired: the server's administrators have to renew it",
    18: "it is self-signed: give it with --ca-file",
    19: "its authority is self-signed and not known here: give the authority with --ca-file",
    20: "its authority is not known here: give the authority with --ca-file",
    21: "its authority is not known here: give the authority with --ca-file",
    23: "it has been revoked",
    62: "it is for another host name: check the URL",
    64: "it is for another address: use the host name in the URL",
}
"""What OpenSSL's X509_V_ERR_* numbers (x509_vfy.h) mean to a user."""

_REFUSALS = {
    "CERTIFICATE_EXPIRED": "has expired",
    "CERTIFICATE_REVOKED": "has been revoked",
    "CERTIFICATE_REQUIRED": "is missing (none was given)",
    "CERTIFICATE_UNKNOWN": "is not accepted",
    "BAD_CERTIFICATE": "is not accepted",
    "UNSUPPORTED_CERTIFICATE": "is not accepted",
    "UNKNOWN_CA": "comes from an authority that the server does not know",
    "ACCESS_DENIED": "is not allowed",
    "DECRYPT_ERROR": "cannot be verified",
}
"""Endings of OpenSSL's alert names (RFC 8446, 6.2) that speak of the client's certificate."""


def connect_failure(error: OSError, url: BaseUrl) -> AttemptFailed:
    """Explain why no TCP connection came about."""
    where = url.authority
    if isinstance(error, socket.gaierror):
        text = f"cannot find the host {url.host!r} ({error.strerror}): check the URL and this machine's DNS"
    elif isinstance(error, ConnectionRefusedError):
        text = f"nothing listens at {where} (connection refused): check the URL, or whether the server is up"
    else:
        text = f"no connection to {where}: {error.strerror or error}"
    return AttemptFailed(text, processed=False)


def tls_failure(error: OSError, url: BaseUrl) -> HandledError:
    """Explain a failed handshake, or an alert that the server sent after it."""
    where = url.authority
    if isinstance(error, ssl.SSLCertVerificationError):
        told = _VERIFY.get(error.verify_code, error.verify_message)
        text = f"the certificate of {where} is not trusted: {told} ({error.verify_message})"
        return AttemptFailed(text, processed=False, permanent=True)
    refusal = certificate_refusal(error, url)
    if refusal is not None:
        return refusal
    reason = getattr(error, "reason", None) or ""
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}:
        text = f"{where} does not speak TLS: is this the port for plain http?"
        return AttemptFailed(text, processed=False, permanent=True)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)):
        return AttemptFailed(f"{where} closed the connection during the TLS handshake", processed=False)
    return AttemptFailed(f"TLS with {where} failed: {_words(reason) or error}", processed=False)


def certificate_refusal(error: OSError, url: BaseUrl) -> AuthError | None:
    """Explain a TLS alert about the pilot's certificate; None for anything else.

    TLS 1.3 sends it after the handshake, as the first answer to a request, which the server then has not looked at.
    """
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    if "ALERT" in reason:
        for ending, told in _REFUSALS.items():
            if reason.endswith(ending):
                text = f"{url.authority} refuses the pilot's certificate: it {told} ({_words(reason)})"
                return AuthError(f"{text}; check --cert")
    return None


def lost_answer(error: Exception, url: BaseUrl) -> AttemptFailed:
    """Explain why a request that was sent got no (whole) answer."""
    where = url.authority
    if isinstance(error, (http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError)):
        return AttemptFailed(f"{where} closed the connection without an answer")
    if isinstance(error, http.client.IncompleteRead):
        return AttemptFailed(f"{where} closed the connection in the middle of its answer")
    if isinstance(error, http.client.HTTPException):
        return AttemptFailed(f"what {where} answers is not HTTP: is this the port of a PanDA server?")
    return AttemptFailed(f"the connection to {where} broke: {error}")


def _words(reason: str) -> str:
    """Return OpenSSL's name of a reason as words."""
    return reason.replace("_", " ").lower()
