"""The kit on the credential source `token-file`."""

from __future__ import annotations

import base64
import json
import os
import secrets

import pytest

from pilot_core.testing import CredentialIssuer, CredentialKit


class TokenFile(CredentialIssuer):
    """JSON Web Tokens, which say themselves when they end, in a file that is replaced."""

    def __init__(self, file):
        self.file = file

    @property
    def settings(self):
        return {"file": self.file, "origin": "kit.production"}

    @property
    def place(self):
        return str(self.file)

    def issue(self, *, begins, expires):
        token = ".".join((part({"alg": "none"}), part({"nbf": begins, "exp": expires}), secrets.token_urlsafe(40)))
        self.write(f"{token}\n")
        return token

    def remove(self):
        self.file.unlink(missing_ok=True)

    def garble(self):
        words = [secrets.token_urlsafe(40), secrets.token_urlsafe(40)]
        self.write(" ".join(words))
        return words

    def lock_out(self):
        self.file.chmod(0)
        return True

    def write(self, text):
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        os.replace(new, self.file)


class FixedTokenFile(TokenFile):
    """Tokens that say nothing of themselves, in a file that is written over."""

    tells_expiry = False

    def issue(self, *, begins, expires):
        token = secrets.token_urlsafe(40)
        self.write(token)
        return token


def part(claims):
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


class TestTokenFile(CredentialKit):
    @pytest.fixture
    def plugin(self):
        return "credential.token-file"

    @pytest.fixture(params=[TokenFile, FixedTokenFile])
    def issuer(self, tmp_path, request):
        return request.param(tmp_path / "token")
