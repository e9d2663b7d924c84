"""The kit on the credential source `x509`."""

from __future__ import annotations

import datetime as dt
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pilot_core.testing import CredentialIssuer, CredentialKit


class Proxy(CredentialIssuer):
    """A certificate with its key and its issuer's certificate in one file, as proxies are."""

    def __init__(self, folder):
        self.folder = folder
        self.cert_file = self.key_file = folder / "proxy.pem"

    @property
    def settings(self):
        return {"cert_file": self.cert_file}

    @property
    def place(self):
        return str(self.cert_file)

    def issue(self, *, begins, expires):
        key = ec.generate_private_key(ec.SECP256R1())
        text = key_pem(key)
        issuer = certificate(ec.generate_private_key(ec.SECP256R1()), begins, expires + 86_400)
        self.write(certificate(key, begins, expires), text, issuer)
        return text

    def write(self, certificate, key, issuer):
        replace(self.cert_file, certificate + key + issuer)

    def remove(self):
        self.key_file.unlink(missing_ok=True)

    def garble(self):
        text = key_pem(ec.generate_private_key(ec.SECP256R1()))
        replace(self.key_file, text.replace("END", "").replace("BEGIN", ""))
        return [text]

    def lock_out(self):
        self.key_file.chmod(0)
        return True


class CertificateAndKey(Proxy):
    """A certificate and its key in a file each."""

    def __init__(self, folder):
        super().__init__(folder)
        self.cert_file, self.key_file = folder / "usercert.pem", folder / "userkey.pem"

    @property
    def settings(self):
        return {"cert_file": self.cert_file, "key_file": self.key_file}

    @property
    def place(self):
        return str(self.cert_file.parent)

    def write(self, certificate, key, issuer):
        replace(self.cert_file, certificate + issuer)
        replace(self.key_file, key)


def replace(file, text):
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    os.replace(new, file)


def key_pem(key):
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def certificate(key, begins, expires):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kit")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime.fromtimestamp(begins, dt.timezone.utc))
        .not_valid_after(dt.datetime.fromtimestamp(expires, dt.timezone.utc))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


class TestX509(CredentialKit):
    @pytest.fixture
    def plugin(self):
        return "credential.x509"

    @pytest.fixture(params=[Proxy, CertificateAndKey])
    def issuer(self, tmp_path, request):
        return request.param(tmp_path)
