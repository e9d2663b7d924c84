"""The stager `http`: what a pilot asks of an HTTP storage, in both directions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from pilot_core import ConfigError, FileStat, SourceNotFound
from pilot_stager_http.download import Download
from pilot_stager_http.look import check_is_file, seen
from pilot_stager_http.names import RemoteFile
from pilot_stager_http.storage import Limits, Question, Storage
from pilot_stager_http.upload import Upload

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, FetchRequest, StoreRequest, TransferResult
    from pilot_stager_http.settings import Settings

__all__ = ["HttpStager"]


class HttpStager:
    """Serves `http`, `https`, `dav` and `davs`; keeps connections, and nothing of a file. Thread safe."""

    def __init__(self, settings: Settings, context: Context) -> None:
        """Prepare; raises `ConfigError` for settings that make no sense."""
        settings.check()
        try:
            self._storage = Storage(settings, context)
        except ValueError as error:
            raise ConfigError(f"stager.http.proxy: {error}") from None
        self._settings = settings
        self._clock = context.clock
        _warn_of_shadow(context)

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Copy a file in; see `StageIn.fetch`. Nothing is flushed to disk. The new file's mode is 0644."""
        file, limits = self._begun(request.url, cancel, deadline)
        return Download(self._storage, file, request, limits, resumes=self._settings.resumes).run()

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Copy a file out; see `StageOut.store`. What a failed store may have left on the storage is deleted."""
        file, limits = self._begun(request.url, cancel, deadline, writing=True)
        upload = Upload(self._storage, file, request, limits, settings=self._settings, clock=self._clock)
        return upload.run()

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        """Ask for size and adler32; raises `SourceNotFound` for what is not there, or is a folder."""
        file, limits = self._begun(url, cancel, deadline)
        size = self._size(file, limits)
        # asked apart, for files only: XRootD 5.5 may answer nothing at all when it is asked for a folder's checksum
        told = seen(self._storage, file, limits, checksum="adler32").checksums
        return FileStat(size=size, checksum=str(told.get("adler32") or next(iter(told.values()), "")))

    def remove(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Delete a file, after a look whether it is one: WebDAV deletes folders with all that is in them."""
        file, limits = self._begun(url, cancel, deadline)
        self._size(file, limits)
        question = Question(method="DELETE", file=file, writing=True)
        with self._storage.ask(question, limits) as answer:
            if answer.status not in {200, 202, 204}:
                raise self._storage.refusal(question, answer)

    def _size(self, file: RemoteFile, limits: Limits) -> int:
        """Return a file's size; raises `SourceNotFound` if it is none."""
        found = seen(self._storage, file, limits, checksum="")
        if found.size is None:
            raise SourceNotFound(f"{file.what}: the storage tells no size of it")
        if not found.plain:
            check_is_file(self._storage, file, limits)
        return found.size

    def _begun(
        self, url: str, cancel: CancelToken, deadline: Deadline, *, writing: bool = False
    ) -> tuple[RemoteFile, Limits]:
        """Return the file and the limits of a call; raises if it is to end before it begins."""
        cancel.raise_if_cancelled()
        file = RemoteFile.parse(url, writing=writing)
        deadline.raise_if_passed(file.what)
        return file, Limits(cancel, deadline)


def _warn_of_shadow(context: Context) -> None:
    """Warn of a package that takes urllib3's place: this stager does not use urllib3, the pilot's communicators do."""
    try:
        found = version("urllib3-future")
    except PackageNotFoundError:
        return
    context.log.warning(
        "urllib3-future %s (niquests brings it) is installed in the place of urllib3: the stager http does not use "
        "it, what uses requests does; remove niquests and urllib3-future, and install urllib3 again",
        found,
    )
