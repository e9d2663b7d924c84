"""The other side of a credential source under test: whoever puts credentials where the source finds them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pilot_core.testing.kits.canary import shows_secret

__all__ = ["CredentialIssuer", "Purse"]

_LONG = re.compile(r"[^\s\"',:{}]{12,}")


class CredentialIssuer(ABC):
    """What the plugin under test reads, as its author's test makes it: a file, a process, a server on loopback.

    Write it without the plugin's own code: it is what the plugin is compared with. Times are wall time, seconds since
    1970, of the plugin's clock, which is not the world's; they are whole.
    """

    tells_expiry: ClassVar[bool] = True
    """Whether the credential itself says when it ends; otherwise `expires` must be None."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """The plugin's settings with which it finds the credential."""

    @property
    @abstractmethod
    def place(self) -> str:
        """What an error has to name so that the reader finds the credential: a file's name, a URL, a variable."""

    @abstractmethod
    def issue(self, *, begins: float, expires: float) -> str:
        """Put a new credential there, in the place of an older one, valid from `begins` to `expires`.

        Return what of it is secret: a token's value, or the text (PEM) of the private key.
        """

    @abstractmethod
    def remove(self) -> None:
        """Take the credential away."""

    @abstractmethod
    def garble(self) -> Sequence[str]:
        """Put something there that is no credential but holds a secret, like half of a token's file.

        Return what of it is secret.
        """

    def lock_out(self) -> bool:
        """Leave the credential there, unreadable for an ordinary user; return False if that cannot be."""
        return False


class Purse:
    """An issuer that remembers all that it issued."""

    def __init__(self, issuer: CredentialIssuer, now: float) -> None:
        self.issuer = issuer
        self.now = now
        self.issued: list[str] = []
        """The secrets, oldest first."""
        self.garbled: list[str] = []

    def issue(self, *, lifetime: float = 3600.0) -> str:
        """Issue a credential that is valid since a day and ends `lifetime` seconds after the kit's begin."""
        self.issued.append(self.issuer.issue(begins=self.now - 86_400.0, expires=self.now + lifetime))
        return self.issued[-1]

    def garble(self) -> None:
        """Put something there that is no credential."""
        self.garbled += self.issuer.garble()

    def values(self) -> list[str]:
        """Return every secret, and of those with several lines each line."""
        lines = [line for text in (*self.issued, *self.garbled) for line in text.splitlines() if "-----" not in line]
        return list(dict.fromkeys(line.strip() for line in lines if len(line.strip()) >= 8))

    def shown_in(self, text: str) -> bool:
        """Say whether a text shows any of the secrets, or half of one."""
        halves = [half for value in self.values() for half in (value[: len(value) // 2], value[len(value) // 2 :])]
        return any(shows_secret(text, half) for half in halves)

    def uncovered(self, secrets: Sequence[str], secret: str) -> str:
        """Return what of an issued secret would still show after redaction; empty if nothing would."""
        for value in sorted(secrets, key=len, reverse=True):
            secret = secret.replace(value, "")
        lines = [line for line in secret.splitlines() if "-----" not in line]
        found = _LONG.search("\n".join(lines))
        return found[0] if found else ""
