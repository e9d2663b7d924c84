"""X.509 for development: an own authority, certificates for the server and its clients, RFC 3820 proxies.

Elliptic-curve keys (P-256): made in microseconds, and every TLS library of the last decade knows them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot_core.api.clock import Clock

__all__ = ["PROXY_CERT_INFO", "Authority", "Credential", "covers", "hosts_of", "make_proxy", "slash_dn"]

PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
"""The extension that makes a certificate a proxy (RFC 3820, 3.8)."""
# DER of ProxyCertInfo without a path length: id-ppl-inheritAll, and Globus' limited policy
_INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")
_LIMITED = bytes.fromhex("300f300d060b2b060104019b5001010109")

ORGANISATION = "pilot-core development server"
BACKDATED = timedelta(minutes=5)
"""Certificates are valid from a little before now: clocks differ."""

_SHORT_NAMES = {
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.COUNTRY_NAME: "C",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.USER_ID: "UID",
    NameOID.EMAIL_ADDRESS: "emailAddress",
}


def slash_dn(name: x509.Name) -> str:
    """Return a name as grid software writes it: `/DC=org/O=somewhere/CN=someone`."""
    return "".join(f"/{_SHORT_NAMES.get(item.oid, item.oid.dotted_string)}={item.value!s}" for item in name)


@dataclass(frozen=True)
class Credential:
    """A certificate, its key, and the certificates between it and the authority (nearest first)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def dn(self) -> str:
        """Return the subject in slash form."""
        return slash_dn(self.certificate.subject)

    @property
    def certificate_pem(self) -> bytes:
        """Return the certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Return the private key, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def bundle_pem(self) -> bytes:
        """Return certificate, key and chain in the order in which grid tools keep a proxy in one file."""
        chain = b"".join(item.public_bytes(serialization.Encoding.PEM) for item in self.chain)
        return self.certificate_pem + self.key_pem + chain


class Authority:
    """A certificate authority of its own; `clock` says what is now."""

    def __init__(self, credential: Credential, clock: Clock) -> None:
        self.credential = credential
        self._clock = clock

    @classmethod
    def create(cls, clock: Clock, *, days: float = 365) -> Authority:
        """Make a new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("certificate authority")
        builder = _builder(name, name, key.public_key(), clock, timedelta(days=days))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(sign_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(Credential(builder.sign(key, hashes.SHA256()), key), clock)

    def server(self, hosts: Sequence[str], *, days: float = 90) -> Credential:
        """Issue a server certificate for host names and addresses."""
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._issue(hosts[0], timedelta(days=days), ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self, common_name: str, *, days: float = 90) -> Credential:
        """Issue a client certificate; a negative lifetime gives one that has expired."""
        return self._issue(common_name, timedelta(days=days), ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _issue(
        self,
        common_name: str,
        lifetime: timedelta,
        usage: ObjectIdentifier,
        alternative: x509.SubjectAlternativeName | None,
    ) -> Credential:
        """Sign a certificate for a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.credential.certificate
        builder = _builder(_name(common_name), issuer.subject, key.public_key(), self._clock, lifetime)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.credential.key.public_key())
        builder = builder.add_extension(authority_key, critical=False)
        if alternative is not None:
            builder = builder.add_extension(alternative, critical=False)
        return Credential(builder.sign(self.credential.key, hashes.SHA256()), key)


def make_proxy(
    owner: Credential, clock: Clock, *, hours: float = 96, limited: bool = False, common_name: str = ""
) -> Credential:
    """Make an RFC 3820 proxy of a certificate or of another proxy.

    Its subject is the owner's with one more CN: a number, or `common_name` (older tools wrote `proxy` and
    `limited proxy` there). `limited` sets Globus' limited policy.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    number = x509.random_serial_number()
    subject = x509.Name(
        [*owner.certificate.subject, x509.NameAttribute(NameOID.COMMON_NAME, common_name or str(number >> 96))]
    )
    builder = _builder(subject, owner.certificate.subject, key.public_key(), clock, timedelta(hours=hours))
    builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
    policy = x509.UnrecognizedExtension(PROXY_CERT_INFO, _LIMITED if limited else _INHERIT_ALL)
    builder = builder.add_extension(policy, critical=True)
    return Credential(builder.sign(owner.key, hashes.SHA256()), key, (owner.certificate, *owner.chain))


def covers(server_pem: bytes, hosts: Sequence[str]) -> bool:
    """Say whether a server certificate is for all of these host names and addresses."""
    certificate = x509.load_pem_x509_certificate(server_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return all(_general_name(host) in names for host in hosts)


def hosts_of(server_pem: bytes) -> list[str]:
    """Return the host names and addresses that a server certificate is for."""
    certificate = x509.load_pem_x509_certificate(server_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    """Return a subject in this server's name space."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, clock: Clock, lifetime: timedelta
) -> x509.CertificateBuilder:
    """Return a certificate without extensions, not yet signed."""
    now = datetime.fromtimestamp(clock.wall(), tz=timezone.utc)
    # one that has expired must still begin before it ends
    start = min(now, now + lifetime) - BACKDATED
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(now + lifetime)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    """Return what a key may be used for; proxies need `digital_signature` of the certificate that signs them."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
