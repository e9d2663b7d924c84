"""TLS contexts: always verifying, with authorities and certificates from the pilot's own settings only."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core import AuthError, ConfigError
from pilot_core.api.tls import TlsSocket

if TYPE_CHECKING:
    from pilot_core.api.credential import ClientCertificate

__all__ = ["TlsContexts", "certificate_version"]

Version = tuple[object, ...]


class _EncryptedKey(Exception):
    """OpenSSL wants a password."""


def _no_password() -> str:
    """Refuse an encrypted key instead of asking on the terminal."""
    raise _EncryptedKey


def certificate_version(certificate: ClientCertificate | None) -> Version:
    """Return a value that changes when the certificate's files do; raises `AuthError` if one is not there."""
    if certificate is None:
        return ()
    version: list[object] = []
    for file in dict.fromkeys((certificate.cert_file, certificate.key_file)):
        try:
            status = file.stat()
        except OSError as error:
            raise AuthError(f"cannot read {file}: {error.strerror}; check --cert and --key") from None
        version += [file, status.st_mtime_ns, status.st_size, status.st_ino]
    return tuple(version)


class TlsContexts:
    """Gives the context for a client certificate (or for none), made anew when the certificate's files change."""

    def __init__(self, ca_file: Path | None) -> None:
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._version: Version | None = None
        self._context: ssl.SSLContext | None = None

    def get(self, certificate: ClientCertificate | None, version: Version) -> ssl.SSLContext:
        """Return the context; raises `AuthError` for the certificate, `ConfigError` for the authorities."""
        with self._lock:
            if self._context is None or version != self._version:
                # not create_default_context: that one takes SSLKEYLOGFILE and SSL_CERT_FILE from the environment
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.sslsocket_class = TlsSocket
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                self._load_authorities(context)
                if certificate is not None:
                    _load_certificate(context, certificate)
                self._context, self._version = context, version
            return self._context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        """Trust what `ca_file` names (a file, or a directory of hashed names as on grid sites), or the system's."""
        if self._ca_file is None:
            return _load_system_authorities(context)
        try:
            if self._ca_file.is_dir():
                context.load_verify_locations(capath=self._ca_file)
            else:
                context.load_verify_locations(cafile=self._ca_file)
        except ssl.SSLError:
            raise ConfigError(f"{self._ca_file} holds no certificate (PEM); check --ca-file") from None
        except OSError as error:
            raise ConfigError(f"cannot read {self._ca_file}: {error.strerror}; check --ca-file") from None
        return None


def _load_system_authorities(context: ssl.SSLContext) -> None:
    """Trust the authorities that this Python's OpenSSL was built with, else those of the package certifi."""
    paths = ssl.get_default_verify_paths()
    file, folder = Path(paths.openssl_cafile), Path(paths.openssl_capath)
    if file.is_file() or (folder.is_dir() and any(folder.iterdir())):
        context.load_verify_locations(
            cafile=file if file.is_file() else None, capath=folder if folder.is_dir() else None
        )
    else:
        import certifi  # noqa: PLC0415  (only where the system has no authorities)

        context.load_verify_locations(cafile=certifi.where())


def _load_certificate(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """Give the context a certificate, with the chain that its file holds, and the key."""
    files = f"{certificate.cert_file} with the key in {certificate.key_file}"
    try:
        context.load_cert_chain(certificate.cert_file, certificate.key_file, _no_password)
    except _EncryptedKey:
        raise AuthError(
            f"the private key in {certificate.key_file} is encrypted: give one without a password"
        ) from None
    except ssl.SSLError as error:
        reason = (error.reason or "no reason given").replace("_", " ").lower()
        raise AuthError(f"cannot use {files}: {reason}; check --cert and --key") from None
    except OSError as error:
        raise AuthError(f"cannot use {files}: {error.strerror}; check --cert and --key") from None
