"""What a URL of XRootD names: a server, and a file there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from pilot_core import BackendUnavailable, HandledError, SourceNotFound, TransferError, shown_url

if TYPE_CHECKING:
    from pilot_core.api.local_files import Place

__all__ = ["Location", "location_of"]

LONGEST = 4096
"""Bytes of a path (Linux, PATH_MAX)."""
_URL = re.compile(r"(?P<scheme>(?i:x?roots?))://(?P<server>[^/?#]*)/(?P<path>.*)", re.DOTALL)
_SERVER = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True)
class Location:
    """A file on a server."""

    scheme: str
    server: str
    """Host, and port if it is not XRootD's own."""
    path: str
    """Absolute, as the storage has it: nothing in it is encoded."""

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        return f"{self.scheme}://{self.server}"

    @property
    def address(self) -> str:
        """The file's URL as XRootD's client takes it: the path as it is, for the client decodes nothing."""
        return f"{self.endpoint}/{self.path}"

    def beside(self, name: str) -> Location:
        """Return another file of the same folder."""
        return replace(self, path=f"{self.path.rpartition('/')[0]}/{name}")

    def url_on(self, server: str) -> str:
        """Return the file's URL, percent-encoded, on another server of the same storage."""
        return f"{self.scheme}://{server}/{quote(self.path, safe='/')}"


def location_of(url: str, place: Place) -> Location:
    """Read a URL such as `root://storage.example:1094//path/of/file`; one slash after the server does as well as two.

    The path is percent-decoded. A question mark in it cannot be: on the wire it would begin the request's options, so a
    file's name could bring along options of its own. Raises `BackendUnavailable` for what is no such URL; for one that
    can name no file what an absent file raises when reading, and `TransferError` when writing.
    """
    what = repr(shown_url(url))
    found = _URL.fullmatch(url)
    if found is None:
        raise BackendUnavailable(f"{what}: the stager `xrootd` serves root://SERVER//PATH, roots://SERVER//PATH only")
    server = _SERVER.fullmatch(found["server"])
    if server is None or not 0 < int(server["port"] or 1094) < 65536:
        raise BackendUnavailable(f"{what}: not the name of a server, with or without a port, and without a user")
    try:
        path = unquote_to_bytes(found["path"]).decode()
    except ValueError:
        raise _no_file(f"{what}: not UTF-8", place) from None
    if any(char < " " or char == "\x7f" for char in url + path):
        raise _no_file(f"{what}: has a control character", place)
    if set(found["path"]) & {"?", "#"}:
        raise _no_file(f"{what}: has options, which no file's name may have", place)
    if "?" in path:
        raise _no_file(f"{what}: XRootD cannot name a file with a question mark", place)
    names = path.lstrip("/").split("/")
    if len(path.encode()) > LONGEST or any(name in {"", ".", ".."} for name in names):
        raise _no_file(f"{what}: not the path of a file, without any `.` and `..`", place)
    return Location(found["scheme"].lower(), found["server"], f"/{'/'.join(names)}")


def _no_file(text: str, place: Place) -> HandledError:
    """Return the error for a name that no file can have."""
    if place.reading:
        return SourceNotFound(text, error_code=place.absent)
    return TransferError(text, error_code=place.failed)
