"""The storage: what a URL means, and how its files are read, written, asked about and removed.

Here it is a directory. Put your protocol into the places marked YOUR CODE; what is promised of a transfer (whole
or not at all, verified, cancelled within a second) is kept in `transfer.py`, whatever the protocol.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from pilot_core import ConfigError, FileStat, SourceNotFound, TransferError, TransferResult, shown_url

from {{ cookiecutter.__module }}.transfer import Copy, Side, opened, translated, whole_file

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, FetchRequest, StoreRequest

    from {{ cookiecutter.__module }}.settings import Settings

NAME = "{{ cookiecutter.name }}"


class {{ cookiecutter.__class }}:
    """Both ways of the stager. It keeps nothing between calls, so any number of threads may use it."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._root = settings.root
        self._log = context.log
        if not settings.root.is_dir():
            raise ConfigError(f"stager.{NAME}.root: {settings.root} is no directory; make it, or name another")

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Bring a file in; raises as `pilot_core.StageIn.fetch` says."""
        what = shown_url(request.url)
        copy = Copy(request.checksum, what, request.progress, cancel, deadline)
        # YOUR CODE: open your storage's file for reading, in the place of opened(...)
        with (
            opened(self._path(request.url), what, Side.STORAGE) as source,
            whole_file(request.destination, str(request.destination), Side.HERE) as target,
        ):
            size = copy.run(source, target, expected=source.size if request.size is None else request.size)
        return TransferResult(size=size, checksum=copy.checksum, url=request.url)

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Bring a file out; raises as `pilot_core.StageOut.store` says."""
        what = shown_url(request.url)
        path = self._path(request.url, writing=True)
        copy = Copy(request.checksum, str(request.source), request.progress, cancel, deadline)
        with opened(request.source, str(request.source), Side.HERE) as source:
            # YOUR CODE: begin a new file on your storage under a temporary name, in the place of whole_file(...)
            with translated(what, Side.STORAGE):
                path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path, what, Side.STORAGE, overwrite=request.overwrite) as target:
                size = copy.run(source, target, expected=source.size)
        return TransferResult(size=size, checksum=copy.checksum, url=request.url)

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        """Return a file's size."""
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(shown_url(url))
        # YOUR CODE: ask your storage; give its own checksum too, if it knows one
        with translated(shown_url(url), Side.STORAGE):
            found = self._path(url).stat()
        if not stat.S_ISREG(found.st_mode):
            raise SourceNotFound(f"{shown_url(url)}: is no file")
        return FileStat(size=found.st_size)

    def remove(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Delete a file."""
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(shown_url(url))
        # YOUR CODE: remove it from your storage
        with translated(shown_url(url), Side.STORAGE):
            self._path(url).unlink()

    def _path(self, url: str, *, writing: bool = False) -> Path:
        """Return the file that a URL names; job descriptions come from elsewhere, so nothing leads out of the root."""
        # YOUR CODE: what your URLs mean
        refused = TransferError if writing else SourceNotFound
        try:
            parts = urlsplit(url)
            names = os.fsdecode(unquote_to_bytes(parts.path)).split("/")[1:]
        except ValueError as error:
            raise refused(f"{shown_url(url)}: {error}") from None
        # urlsplit drops line breaks without a word, so the text itself is looked at too
        plain = parts.scheme == NAME and url.isprintable() and not set(url) & {"?", "#"}
        if not plain or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", parts.netloc):
            raise refused(f"{shown_url(url)}: write it as {NAME}://LIBRARY/PATH, with ? and # as %3F and %23")
        if not names or any(name in {"", ".", ".."} or "\0" in name for name in names):
            raise refused(f"{shown_url(url)}: names no file")
        return self._root.joinpath(parts.netloc, *names)
