"""TLS: whom a client trusts, as whom it presents itself, and what OpenSSL's errors amount to."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.tls import TlsSocket
from pilot_core.api.web.patience import ConnectionLost
from pilot_core.errors import AuthError, BackendUnavailable

if TYPE_CHECKING:
    from pilot_core.api.credential import ClientCertificate
    from pilot_core.errors import HandledError

__all__ = ["Identity", "TlsContexts", "Trust", "identity_of", "tls_error"]

Identity = tuple[object, ...]
"""What makes two client certificates the same: their files, unchanged; empty for none."""

_OURS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""Alerts of the other side (OpenSSL's names have ALERT in them) that speak of the client's certificate."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The certificate authorities that a client trusts; without any, those of OpenSSL's own default place.

    The environment (`SSL_CERT_FILE`, `SSL_CERT_DIR`) is not looked at.
    """

    ca_file: Path | None = None
    """PEM file."""
    ca_dir: Path | None = None
    """Directory with files named by hash, such as /etc/grid-security/certificates."""

    @classmethod
    def chosen(cls, ca_file: Path | None, ca_dir: Path | None, *, otherwise: Path | None) -> Trust:
        """Return what a plugin's settings name, or without any what the pilot trusts (`Context.ca_file`)."""
        if ca_file is None and ca_dir is None and otherwise is not None:
            return cls(ca_dir=otherwise) if otherwise.is_dir() else cls(ca_file=otherwise)
        return cls(ca_file=ca_file, ca_dir=ca_dir)


class TlsContexts:
    """Keeps one TLS context for each client certificate: loading the authorities takes milliseconds. Thread safe."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._lock = threading.Lock()
        self._made: dict[Identity, ssl.SSLContext] = {}

    def get(self, certificate: ClientCertificate | None, identity: Identity) -> ssl.SSLContext:
        """Return the context; raises `BackendUnavailable` for authorities, `AuthError` for a certificate."""
        with self._lock:
            context = self._made.get(identity)
            if context is None:
                context = self._make(certificate)
                # of a proxy that was renewed the old context is not needed any more
                for old in [old for old in self._made if old[:2] == identity[:2]]:
                    del self._made[old]
                self._made[identity] = context
        return context

    def _make(self, certificate: ClientCertificate | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
        context.sslsocket_class = TlsSocket
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self._load_authorities(context)
        if certificate is not None:
            try:
                context.load_cert_chain(certificate.cert_file, certificate.key_file, _no_password)
            except (OSError, ValueError) as error:
                why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
                raise AuthError(f"the certificate in {certificate.cert_file} cannot be used: {why}") from None
        return context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        trust, default = self._trust, ssl.get_default_verify_paths()
        file, folder = trust.ca_file, trust.ca_dir
        if file is None and folder is None:
            file, folder = Path(default.openssl_cafile), Path(default.openssl_capath)
            file, folder = file if file.is_file() else None, folder if folder.is_dir() else None
        if file is None and folder is None:
            raise BackendUnavailable("OpenSSL knows no certificate authorities here: set ca_file or ca_dir")
        try:
            if folder is not None and not folder.is_dir():
                raise FileNotFoundError(2, "no such directory")  # OpenSSL would not say so
            context.load_verify_locations(file, folder)
        except OSError as error:
            what = " or ".join(str(path) for path in (file, folder) if path is not None)
            why = getattr(error, "reason", None) or error.strerror
            raise BackendUnavailable(f"no certificate authorities could be read from {what}: {why}") from None


def identity_of(certificate: ClientCertificate | None) -> Identity:
    """Return what changes when a client certificate's files do; raises `AuthError` if one is missing."""
    if certificate is None:
        return ()
    found: list[object] = [certificate.cert_file, certificate.key_file]
    for file in (certificate.cert_file, certificate.key_file):
        try:
            status = file.stat()
        except OSError as error:
            raise AuthError(f"cannot read the client certificate {file}: {error.strerror}; correct its path") from None
        found += (status.st_mtime_ns, status.st_size, status.st_ino)
    return tuple(found)


def tls_error(error: ssl.SSLError, what: str) -> HandledError:
    """Return the error whose class says what an error of TLS calls for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or "not valid"
        return BackendUnavailable(f"{what}: the server's certificate is refused: {why}; check ca_file and ca_dir")
    reason = error.reason or ""
    words = reason.replace("_", " ").lower() or "no reason given"
    if "ALERT" in reason and any(name in reason for name in _OURS):
        return AuthError(f"{what}: the server does not take the client certificate: {words}")
    if reason in {"UNEXPECTED_EOF_WHILE_READING", "", "PROTOCOL_IS_SHUTDOWN", "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"}:
        return ConnectionLost(f"{what}: the connection broke within TLS: {words}")
    return BackendUnavailable(f"{what}: TLS with the server failed: {words}")


def _no_password() -> str:
    """Refuse an encrypted key instead of asking on the terminal."""
    raise ValueError("its key is encrypted: give one without a password")
