"""The kit on the reference source, or on the mutant of this process."""

from __future__ import annotations

import json
import os
import secrets

import pytest
from credential.faults import MUTANTS
from credential.reference import Plugin
from harness import chosen

from pilot_core.testing import CredentialIssuer, CredentialKit


class FileIssuer(CredentialIssuer):
    def __init__(self, file):
        self.file = file

    @property
    def settings(self):
        return {"file": self.file}

    @property
    def place(self):
        return self.file.name

    def issue(self, *, begins, expires):
        token = secrets.token_urlsafe(30)
        self.write(json.dumps({"token": token, "expires": expires}))
        return token

    def remove(self):
        self.file.unlink(missing_ok=True)

    def garble(self):
        token = secrets.token_urlsafe(30)
        self.write(f'{{"token": "{token}')
        return [token]

    def lock_out(self):
        self.file.chmod(0)
        return True

    def write(self, text):
        new = self.file.with_name("new")
        new.write_text(text)
        new.chmod(0o600)
        os.replace(new, self.file)


class TestMutant(CredentialKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, Plugin)

    @pytest.fixture
    def issuer(self, tmp_path):
        return FileIssuer(tmp_path / "token.json")
