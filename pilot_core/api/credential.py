"""The task "hold credentials": who the pilot is towards its server and storages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = ["BearerToken", "ClientCertificate", "Credential", "CredentialSource"]


@dataclass(frozen=True, kw_only=True)
class ClientCertificate:
    """An X.509 certificate or proxy, as files; the key may be in the certificate's file (a proxy)."""

    cert_file: Path
    key_file: Path
    expires: float | None = None
    """Wall time (seconds since 1970) at which the shortest-lived certificate of the file ends, if known."""


@dataclass(frozen=True, kw_only=True)
class BearerToken:
    """A token for the Authorization header; its value never shows in a repr."""

    value: str = field(repr=False)
    origin: str
    """`VO.ROLE`, sent as the Origin header: PanDA wants it beside every token."""
    expires: float | None = None
    """Wall time (seconds since 1970) at which it ends, where it says so itself (`exp`)."""
    source: str = ""
    """Where it comes from (a file's name), for messages."""


Credential = ClientCertificate | BearerToken


class CredentialSource(Protocol):
    """Gives the credential that is valid now; asked before every connection, so it has to be quick."""

    def credential(self, *, cancel: CancelToken, deadline: Deadline) -> Credential:
        """Return the current credential, read again if it has changed: a renewed one is seen without a restart.

        Raises `AuthError`, saying in one line which (file, URL) and what to do, if there is none, if it cannot be read,
        is no credential, or has expired by `Context.clock`'s wall time; never with any part of its content. An error is
        not remembered: the next call looks again. May be called from several threads at once.
        """
        ...

    def secrets(self) -> tuple[str, ...]:
        """Return the values seen so far that must never be shown, for redaction; replaced ones included.

        Of a secret with several lines (a private key), each line is a value: a log shows them singly.
        """
        ...
