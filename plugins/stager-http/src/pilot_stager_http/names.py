"""The files that URLs name: what goes over the wire for them, and what is no file's name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from pilot_core import BackendUnavailable, HandledError, PilotErrorCode, SourceNotFound, TransferError, shown_url
from pilot_core.api.web import WebAddress

__all__ = ["RemoteFile", "ready"]

_SCHEMES = {"http": "http", "https": "https", "dav": "http", "davs": "https"}
_AS_IT_IS = "%/:?#[]@!$&'()*+,;=-._~"
"""Characters of a URL that are not percent-encoded, besides letters and digits."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on a storage."""

    address: WebAddress
    what: str
    """Its URL as messages show it: without password, and without its query, where signatures are."""
    url: str
    """Its URL as results tell it: likewise, with the scheme that it was given with."""

    @classmethod
    def parse(cls, url: str, *, writing: bool = False) -> RemoteFile:
        """Read a URL.

        Raises `BackendUnavailable` for one that is not served here; for one that names no file `SourceNotFound`, or
        `TransferError` when writing.
        """
        plain = url.partition("?")[0]
        what = shown_url(plain)
        scheme, colon, rest = url.partition(":")
        if not colon or scheme.lower() not in _SCHEMES:
            raise BackendUnavailable(f"{what}: the stager `http` serves {', '.join(_SCHEMES)} only")
        if "#" in url:
            raise _no_file(what, "write # in a path as %23", writing=writing)
        if not url.isprintable():
            raise _no_file(what, "has a control character", writing=writing)
        try:
            address = WebAddress.parse(ready(f"{_SCHEMES[scheme.lower()]}:{rest}"))
            parts = unquote(urlsplit(address.target).path, errors="strict").split("/")
        except ValueError as error:
            raise _no_file(what, str(error), writing=writing) from None
        if parts[-1] in {"", "."} or ".." in parts or "." in parts:
            raise _no_file(what, "names no file", writing=writing)
        if not all(part.isprintable() for part in parts):
            raise _no_file(what, "has a control character", writing=writing)
        return cls(address, what, what if len(plain) < 300 else plain)

    def beside(self, name: str) -> WebAddress:
        """Return the address of another file in the same folder."""
        path, question, query = self.address.target.partition("?")
        return self._at(f"{path.rpartition('/')[0]}/{quote(name, safe='')}{question}{query}")

    def folders(self) -> list[WebAddress]:
        """Return the addresses of the folders that the file lies in, the deepest first; the root is left out."""
        path, question, query = self.address.target.partition("?")
        found = (str(folder) for folder in PurePosixPath(path).parents)
        return [self._at(f"{folder}/{question}{query}") for folder in found if folder not in {"/", "//"}]

    def is_folder(self, location: WebAddress) -> bool:
        """Say whether a redirect says that it is a folder: the same path with a slash at its end."""
        return location.target.partition("?")[0] == f"{self.address.target.partition('?')[0]}/"

    def _at(self, target: str) -> WebAddress:
        return WebAddress(self.address.scheme, self.address.host, self.address.port, target)


def ready(url: str) -> str:
    """Return a URL as it goes over the wire; raises `ValueError` for half a surrogate."""
    return quote(url, safe=_AS_IT_IS)


def _no_file(what: str, why: str, *, writing: bool) -> HandledError:
    if writing:
        return TransferError(f"{what}: {why}", error_code=PilotErrorCode.BADOUTPUTFILENAME)
    return SourceNotFound(f"{what}: {why}")
