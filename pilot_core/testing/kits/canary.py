"""A secret that nobody may ever see: planted where plugins meet secrets, looked for wherever they speak."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilot_core.api.credential import BearerToken

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.credential import Credential

__all__ = ["CANARY", "CanaryCredential", "shows_secret"]

CANARY = 'canary+secret/"4f1e0d7a9c"'
"""What the kits use as password, token and secret setting: with characters that encodings change."""


class CanaryCredential:
    """A credential source whose token is the canary."""

    def credential(self, *, cancel: CancelToken, deadline: Deadline) -> Credential:  # noqa: ARG002
        """Return the token."""
        cancel.raise_if_cancelled()
        return BearerToken(value=CANARY, origin="kit.pilot", source="the kit")

    def secrets(self) -> tuple[str, ...]:
        """Return the token's value."""
        return (CANARY,)


def shows_secret(text: str, secret: str = CANARY) -> bool:
    """Say whether a text shows a secret: plain, or as JSON, URLs or base64 have it."""
    plain = base64.b64encode(secret.encode()).decode()
    forms = (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe=""), quote(secret), plain)
    return any(form in text for form in forms)
