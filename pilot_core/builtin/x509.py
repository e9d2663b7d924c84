"""The credential source `x509`: a certificate or proxy with its key, in files that somebody else renews."""

from __future__ import annotations

import binascii
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.credential import ClientCertificate
from pilot_core.api.provider import Context, Provider
from pilot_core.api.settings import setting
from pilot_core.errors import AuthError
from pilot_core.hookspecs import hookimpl

if TYPE_CHECKING:
    import os

    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = ["X509", "X509Settings", "certificate_validity"]

_CERTIFICATE = re.compile(r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----\s(.+?)-----END", re.DOTALL)
_KEY = re.compile(r"-----BEGIN ((?:[A-Z0-9]+ )*)PRIVATE KEY-----\s(.+?)-----END", re.DOTALL)
_MOMENT = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_CONSTRUCTED_0 = 0xA0
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_LARGEST = 1_048_576


@dataclass(frozen=True, kw_only=True)
class X509Settings:
    """Settings of the credential source `x509`."""

    cert_file: Path = setting(help="X.509 certificate, or proxy with its key in the same file (PEM)", metavar="FILE")
    key_file: Path | None = setting(None, help="private key (PEM), if it is not in the certificate's file")


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Return tag, start and end of the content of the DER element at a position; raises `ValueError`."""
    if at + 2 > len(data):
        raise ValueError("truncated")
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or start + count > len(data):
            raise ValueError("bad length")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > len(data):
        raise ValueError("truncated")
    return tag, start, start + length


def _time(tag: int, content: bytes) -> float:
    """Return seconds since 1970 of a DER time; raises `ValueError`. Years as RFC 5280, 4.1.2.5.1: 1950 to 2049."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    if not _MOMENT.fullmatch(text):
        raise ValueError("not a time")
    year, month, day, hour, minute, second = (int(part) for part in _MOMENT.findall(text)[0])
    return datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp()


def certificate_validity(der: bytes) -> tuple[float, float]:
    """Return from when until when a certificate is valid (seconds since 1970); raises `ValueError`.

    Layout: RFC 5280, 4.1: Certificate { tbs { [0] version, serial, algorithm, issuer, validity { from, until } ... } }.
    """
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    if der[at : at + 1] == bytes([_CONSTRUCTED_0]):
        at = _element(der, at)[2]
    for _ in ("serial", "algorithm", "issuer"):
        at = _element(der, at)[2]
    _, at, _ = _element(der, at)
    tag, start, end = _element(der, at)
    begins = _time(tag, der[start:end])
    tag, start, end = _element(der, end)
    return begins, _time(tag, der[start:end])


class _EncryptedKey(Exception):
    """OpenSSL wants a password."""


def _no_password() -> str:
    """Refuse an encrypted key instead of asking on the terminal."""
    raise _EncryptedKey


class X509:
    """Gives a certificate's files after a look at them, again whenever their time, size or inode changes."""

    def __init__(self, settings: X509Settings, context: Context) -> None:
        self._cert_file = settings.cert_file
        self._key_file = settings.key_file or settings.cert_file
        self._clock = context.clock
        self._log = context.log
        self._lock = threading.Lock()
        self._version: tuple[int, ...] | None = None
        self._begins = 0.0
        self._certificate: ClientCertificate | None = None
        self._seen: dict[str, None] = {}

    def credential(self, *, cancel: CancelToken, deadline: Deadline) -> ClientCertificate:  # noqa: ARG002
        """Return the certificate.

        Raises `AuthError` if a file is missing, unreadable or not what it should be, if the key does not belong to
        the certificate, and if any certificate of the file has expired.
        """
        with self._lock:
            certificate, begins = self._current(), self._begins
        now = self._clock.wall()
        if certificate.expires is not None and certificate.expires <= now:
            raise AuthError(f"the certificate in {self._cert_file} expired at {_utc(certificate.expires)}: renew it")
        if begins > now:
            raise AuthError(f"the certificate in {self._cert_file} is valid only from {_utc(begins)}: check the clock")
        return certificate

    def secrets(self) -> tuple[str, ...]:
        """Return the lines of the private keys read so far."""
        return tuple(self._seen)

    def _current(self) -> ClientCertificate:
        """Return the certificate, from memory if the files are the same as before."""
        version = (*self._stat(self._cert_file, "certificate"), *self._stat(self._key_file, "key"))
        if self._certificate is None or version != self._version:
            begins, expires = self._check()
            self._begins = begins
            self._certificate = ClientCertificate(cert_file=self._cert_file, key_file=self._key_file, expires=expires)
            self._version = version
            if version[-1] & 0o077:
                self._log.warning("the private key in %s can be read by other users: chmod 600 it", self._key_file)
        return self._certificate

    def _stat(self, file: Path, what: str) -> tuple[int, ...]:
        """Return what changes when a file does."""
        try:
            status: os.stat_result = file.stat()
        except OSError as error:
            raise AuthError(f"cannot read the {what} file {file}: {error.strerror}; check --cert and --key") from None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev, status.st_mode

    def _read(self, file: Path, what: str) -> str:
        """Return the text of a file."""
        try:
            with file.open("rb") as stream:
                return stream.read(_LARGEST).decode("latin-1")
        except OSError as error:
            raise AuthError(f"cannot read the {what} file {file}: {error.strerror}; check --cert and --key") from None

    def _check(self) -> tuple[float, float]:
        """Look at both files; return from when until when all certificates are valid."""
        text = self._read(self._cert_file, "certificate")
        keys = _KEY.findall(text if self._key_file == self._cert_file else self._read(self._key_file, "key"))
        certificates = _CERTIFICATE.findall(text)
        if not certificates:
            raise AuthError(f"{self._cert_file} holds no certificate (PEM); check --cert")
        if not keys:
            hint = "name its file with --key" if self._key_file == self._cert_file else "check --key"
            raise AuthError(f"{self._key_file} holds no private key (PEM): {hint}")
        for _, body in keys:
            self._seen.update(dict.fromkeys(line for line in body.split() if len(line) > 8))
        self._check_pair()
        try:
            spans = [certificate_validity(binascii.a2b_base64(body)) for body in certificates]
        except ValueError:
            raise AuthError(f"{self._cert_file} holds a certificate that cannot be read; check --cert") from None
        return max(begins for begins, _ in spans), min(ends for _, ends in spans)

    def _check_pair(self) -> None:
        """Let OpenSSL load certificate and key, as the connection will."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self._cert_file, self._key_file, _no_password)
        except _EncryptedKey:
            raise AuthError(f"the private key in {self._key_file} is encrypted: give one without a password") from None
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                message = f"the private key in {self._key_file} does not belong to the certificate in {self._cert_file}"
                raise AuthError(f"{message}: check --cert and --key") from None
            reason = (error.reason or "no reason given").replace("_", " ").lower()
            raise AuthError(f"OpenSSL cannot use {self._cert_file} with {self._key_file}: {reason}") from None
        except OSError as error:
            raise AuthError(f"cannot read {self._cert_file} or {self._key_file}: {error.strerror}") from None


def _utc(moment: float) -> str:
    """Return a time for a message."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


@hookimpl
def pilot_credentials() -> Iterator[Provider[X509]]:
    """Offer `x509`."""
    yield Provider(name="x509", factory=X509, settings=X509Settings)
