"""How long the pilot's credential still lives: without it neither outputs nor reports get out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core import CancelToken, ClientCertificate, Deadline, HandledError, PilotErrorCode, Violation
from pilot_core.builtin.watchdogs.base import Looks
from pilot_core.builtin.watchdogs.settings import CredentialSettings
from pilot_core.builtin.watchdogs.telling import span

if TYPE_CHECKING:
    from pilot_core import Context, Credential, Watched

__all__ = ["CredentialLifetime"]

PATIENCE = 10.0
"""Seconds in which a source has to give the credential."""


class CredentialLifetime(Looks[CredentialSettings]):
    """Ends a payload while the pilot's X.509 credential still lives long enough for its outputs and its report.

    Tokens live for minutes by intent and are renewed by others, so they are not looked at.
    """

    def __init__(self, settings: CredentialSettings, context: Context) -> None:
        super().__init__(settings, context)
        self._seen: Credential | None = None
        """The last one seen."""

    def check(self, watched: Watched) -> Violation | None:
        """Look at the credential of now: it may have been renewed."""
        source, least = self._context.credential, self._settings.least_seconds
        if source is None or not watched.wall:
            return None
        try:
            found: Credential | None = source.credential(
                cancel=CancelToken(), deadline=Deadline.after(self._context.clock, PATIENCE)
            )
        except HandledError as error:
            # one that has ended is not given any more
            self._context.log.debug("the pilot's credential cannot be had: %s", error)
            found = self._seen
        if not isinstance(found, ClientCertificate) or found.expires is None:
            return None
        self._seen = found
        left = found.expires - watched.wall
        if left >= least:
            return None
        code = PilotErrorCode.VOMSPROXYABOUTTOEXPIRE if left > 0 else PilotErrorCode.CERTIFICATEHASEXPIRED
        lives = f"lives for {span(left)}" if left > 0 else f"ended {span(-left)} ago"
        name = found.cert_file.name
        return Violation(
            error_code=code,
            message=f"credential {name}: {left:.0f} s of {least} s (least_seconds): it {lives}; renew it",
        )
