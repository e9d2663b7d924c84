"""Both ways of the stager `s3`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core import Incoming, Outgoing, TransferResult, shown_url
from pilot_stager_s3.download import Download
from pilot_stager_s3.location import Locator
from pilot_stager_s3.objects import Objects
from pilot_stager_s3.parts import Shares
from pilot_stager_s3.problems import Problem, error_of
from pilot_stager_s3.session import Limits, Session
from pilot_stager_s3.upload import Upload

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, FetchRequest, FileStat, StoreRequest
    from pilot_stager_s3.settings import Settings

__all__ = ["S3Stager"]

MEMORY = 48 << 20
"""Bytes of the parts of large files that are kept at a time; of several files at a time it is more."""


class S3Stager:
    """Serves `s3` URLs in both directions. It keeps connections between calls; any number of threads may use it."""

    def __init__(self, settings: Settings, context: Context) -> None:
        """Prepare; raises `ConfigError` for settings that make no sense."""
        self._settings = settings
        self._log = context.log
        self._locator = Locator(settings)
        self._session = Session(settings, context)
        self._shares = Shares(settings.parts_at_once, MEMORY)
        self._objects = Objects(self._session, settings, context.log)

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Read an object into a file; see `StageIn.fetch`."""
        limits = Limits(cancel, deadline)
        location = self._locator.find(request.url, reading=True)
        with Incoming(request, cancel=cancel, deadline=deadline) as incoming:
            Download(self._session, location, incoming, limits, tries=self._settings.tries).run()
            return incoming.publish(url=request.url)

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Write a file into an object; see `StageOut.store`."""
        limits = Limits(cancel, deadline)
        location = self._locator.find(request.url, reading=False)
        limits.check(shown_url(request.url))
        with Outgoing(request, cancel=cancel, deadline=deadline) as outgoing:
            checksum = Upload(
                self._objects,
                location,
                outgoing,
                request,
                limits,
                settings=self._settings,
                shares=self._shares,
                log=self._log,
            ).run()
            return TransferResult(size=outgoing.sent, checksum=str(checksum), url=request.url)

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        """Ask about an object; see `StageIn.stat`."""
        location = self._locator.find(url, reading=True)
        return self._objects.stat(location, Limits(cancel, deadline), what=shown_url(url))

    def remove(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Remove an object; see `StageOut.remove`. S3 does not say whether there was one, so it is asked before."""
        what, limits = shown_url(url), Limits(cancel, deadline)
        location = self._locator.find(url, reading=True)
        found = self._objects.head(location, limits, what=what)
        if isinstance(found, Problem):
            raise error_of(found, what)
        self._objects.remove(location, limits, what=what)

    def presigned_url(self, url: str) -> str:
        """Return an HTTP URL that anybody can read the object from for `presigned_seconds`: a secret while it holds."""
        location = self._locator.find(url, reading=True)
        return self._session.url(location, what=shown_url(url), seconds=self._settings.presigned_seconds)
