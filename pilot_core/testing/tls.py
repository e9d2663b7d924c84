"""A certificate authority for tests: server certificates, client certificates and RFC 3820 proxies.

Needs the package `cryptography`, which the pilot itself does not.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.tls import TlsSocket

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

__all__ = ["TestAuthority"]


class TestAuthority:
    """An authority whose files lie in one folder; everything it issues is valid from yesterday.

    With `rsa` all keys are RSA's: XRootD's login by X.509 (gsi) knows no others.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    def __init__(self, folder: Path, name: str = "Test CA", *, rsa: bool = False) -> None:
        self.folder = folder
        self._rsa = rsa
        self.ca_file = folder / f"{name.replace(' ', '-').lower()}.pem"
        """The authority's own certificate, for `Context.ca_file`."""
        self._key = self._new_key()
        self._name = name
        self._certificate = _sign(name, self._key, name, self._key, days=30, authority=True)
        self.ca_file.write_bytes(_pem(self._certificate))

    def key_pem(self) -> bytes:
        """Return the authority's own private key."""
        return _key_pem(self._key)

    def server_file(self, *, host: str = "localhost", days: float = 1) -> Path:
        """Issue a certificate for `host` and 127.0.0.1; return the one file that has it and its key."""
        key = self._new_key()
        certificate = _sign(host, key, self._name, self._key, days=days, host=host)
        file = self.folder / f"server-{certificate.serial_number:x}.pem"
        _write(file, _pem(certificate), _key_pem(key))
        return file

    def _new_key(self) -> Key:
        return _new_key(rsa=self._rsa)

    def folder_of_authorities(self) -> Path:
        """Return a folder with this authority only, named as OpenSSL looks for it, as grid sites have one."""
        folder = self.folder / "authorities"
        folder.mkdir(exist_ok=True)
        (folder / f"{_name_hash(self._name):08x}.0").write_bytes(_pem(self._certificate))
        return folder

    def server_files(self, *, host: str = "localhost", days: float = 1) -> tuple[Path, Path]:
        """Issue a server's certificate for `host` and 127.0.0.1; return the files of certificate and key."""
        key = self._new_key()
        certificate = _sign(host, key, self._name, self._key, days=days, host=host)
        stem = f"server-{certificate.serial_number:x}"
        cert_file, key_file = self.folder / f"{stem}-cert.pem", self.folder / f"{stem}-key.pem"
        _write(cert_file, _pem(certificate))
        _write(key_file, _key_pem(key))
        return cert_file, key_file

    def server_context(
        self, *, host: str = "localhost", days: float = 1, clients: TestAuthority | None = None, optional: bool = True
    ) -> ssl.SSLContext:
        """Return the context of a server with a certificate for `host` and 127.0.0.1 that ends in `days`.

        With `clients`, certificates of that authority (and proxies) are asked for, and insisted on unless `optional`.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslsocket_class = TlsSocket
        context.load_cert_chain(self.server_file(host=host, days=days))
        if clients is not None:
            context.load_verify_locations(clients.ca_file)
            context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
            # X509_V_FLAG_ALLOW_PROXY_CERTS (x509_vfy.h), which the module ssl has no name for
            context.verify_flags |= ssl.VerifyFlags(0x40)
        return context

    def client(self, name: str = "pilot", *, days: float = 1) -> tuple[Path, Path]:
        """Issue a client certificate; return the files of certificate and key."""
        key = self._new_key()
        certificate = _sign(name, key, self._name, self._key, days=days)
        stem = f"{name}-{certificate.serial_number:x}"
        cert_file, key_file = self.folder / f"{stem}.pem", self.folder / f"{stem}-key.pem"
        _write(cert_file, _pem(certificate))
        _write(key_file, _key_pem(key))
        return cert_file, key_file

    def proxy(self, name: str = "pilot", *, days: float = 1) -> Path:
        """Issue a certificate and an RFC 3820 proxy of it; return one file with proxy, key and chain."""
        from cryptography import x509  # noqa: PLC0415
        from cryptography.x509.oid import NameOID  # noqa: PLC0415

        user_key, key = self._new_key(), self._new_key()
        user = _sign(name, user_key, self._name, self._key, days=days + 1)
        subject = x509.Name([*user.subject, x509.NameAttribute(NameOID.COMMON_NAME, "4711")])
        proxy = _sign(subject, key, user.subject, user_key, days=days, proxy=True)
        file = self.folder / f"proxy-{proxy.serial_number:x}.pem"
        _write(file, _pem(proxy), _key_pem(key), _pem(user))
        return file


def _new_key(*, rsa: bool) -> Key:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys  # noqa: PLC0415

    return rsa_keys.generate_private_key(65_537, 2048) if rsa else ec.generate_private_key(ec.SECP256R1())


def _name_hash(name: str) -> int:
    """Return OpenSSL's hash of the subject CN=name: SHA-1 of its canonical form (X509_NAME_hash, x509_cmp.c)."""
    text = " ".join(name.lower().split()).encode()
    value = b"\x0c" + bytes([len(text)]) + text
    attribute = bytes.fromhex("0603550403") + value
    sequence = b"\x30" + bytes([len(attribute)]) + attribute
    digest = hashlib.sha1(b"\x31" + bytes([len(sequence)]) + sequence, usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "little")


def _name(name: str | x509.Name) -> x509.Name:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if isinstance(name, str) else name


def _sign(
    subject: str | x509.Name,
    key: Key,
    issuer: str | x509.Name,
    issuer_key: Key,
    *,
    days: float,
    host: str = "",
    authority: bool = False,
    proxy: bool = False,
) -> x509.Certificate:
    """Sign a certificate that is valid from two days before its end or from yesterday, whichever is earlier."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

    now = dt.datetime.now(dt.timezone.utc)
    ends = now + dt.timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now - dt.timedelta(days=1), ends - dt.timedelta(days=2)))
        .not_valid_after(ends)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Python 3.13 verifies strictly (VERIFY_X509_STRICT): an authority has to say what its key is for
        signs = dict.fromkeys(("key_cert_sign", "crl_sign"), True)
        builder = builder.add_extension(x509.KeyUsage(**_no_usage() | signs), critical=True)
    if host:
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names if host == "localhost" else names[:1]), False)
    if proxy:
        # ProxyCertInfo (RFC 3820, 3.8) with the policy "inherit all" and no limit of the path's length
        value = bytes.fromhex("300c300a06082b06010505071501")
        oid = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=True)
        uses = dict.fromkeys(("digital_signature", "key_encipherment", "key_agreement"), True)
        builder = builder.add_extension(x509.KeyUsage(**_no_usage() | uses), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def _no_usage() -> dict[str, bool]:
    """Return the arguments of `x509.KeyUsage` for a key that may be used for nothing."""
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return dict.fromkeys((*names, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: Key) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, *parts: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(b"".join(parts))
