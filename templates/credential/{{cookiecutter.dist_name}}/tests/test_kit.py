"""The source does what pilot-core asks of every credential source: each clause of the kit is a test here."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pilot_core.testing import CredentialIssuer, CredentialKit


class Agent(CredentialIssuer):
    """The other side: the agent that renews the token. It is written without the plugin's own code."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plugin's settings."""
        return {"file": self._file}

    @property
    def place(self) -> str:
        """What errors have to name."""
        return str(self._file)

    def issue(self, *, begins: float, expires: float) -> str:
        """Renew the token; return it."""
        token = secrets.token_urlsafe(32)
        self._write(json.dumps({"token": token, "begins": begins, "expires": expires}))
        return token

    def remove(self) -> None:
        """Take the token away."""
        self._file.unlink(missing_ok=True)

    def garble(self) -> Sequence[str]:
        """Leave half a file; return what of it is secret."""
        token = secrets.token_urlsafe(32)
        self._write('{"token": "' + token)
        return [token]

    def lock_out(self) -> bool:
        """Take the permission to read away."""
        self._file.chmod(0)
        return True

    def _write(self, text: str) -> None:
        # as every agent should: a reader never sees half of it
        part = self._file.with_suffix(".part")
        part.write_text(text)
        part.replace(self._file)


class Test{{ cookiecutter.__class }}(CredentialKit):
    """The kit's clauses, run on `credential.{{ cookiecutter.name }}`."""

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "credential.{{ cookiecutter.name }}"

    @pytest.fixture
    def issuer(self, tmp_path: Path) -> CredentialIssuer:
        """The other side."""
        # YOUR CODE: a real one, for example an agent that this fixture starts
        return Agent(tmp_path / "token.json")
