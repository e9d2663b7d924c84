"""The other side of a stager under test: a storage at which the kit looks past the stager."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import quote

__all__ = ["DirectoryStorage", "Storage"]


@runtime_checkable
class Storage(Protocol):
    """A real storage that the stager under test reaches by URLs, and the kit without the stager.

    One that can be in trouble has further methods, and the kit further clauses: `stall(name, data)`, a file that lies
    there, but of which only a part ever arrives; `cut(name, data)`, one of which half arrives before the connection
    ends; `down()`, from now on the storage does not answer; `refuse()`, from now on it takes no credential.
    """

    def url(self, name: str) -> str:
        """Return the URL of a file; `name` is a relative path, whatever characters it has."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Have a file lie there."""
        ...

    def get(self, name: str) -> bytes | None:
        """Return a file's bytes, None if there is no such file."""
        ...

    def names(self) -> set[str]:
        """Return the names of all files there, hidden and unfinished ones included."""
        ...


class DirectoryStorage:
    """A storage that is a directory: the stager's own, or one that a server serves.

    `url_prefix` is the URL of the directory; names are percent-encoded below it. `direct` says that the stager itself
    reads and writes the directory: then it is also tried with a full disk and with a file that grows.
    """

    def __init__(self, folder: Path, url_prefix: str = "", *, direct: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.direct = direct
        self._prefix = (url_prefix or f"file://{quote(str(folder))}").rstrip("/")

    @property
    def prefix(self) -> str:
        """The URL of the directory, without a slash at its end."""
        return self._prefix

    def path(self, name: str) -> Path:
        """Return where a file lies."""
        return self.folder / name

    def url(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self._prefix}/{quote(name, safe='/')}"

    def put(self, name: str, data: bytes) -> None:
        """Write a file."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def get(self, name: str) -> bytes | None:
        """Return a file's bytes, None if there is no such file."""
        path = self.path(name)
        return path.read_bytes() if path.is_file() else None

    def names(self) -> set[str]:
        """Return the paths of everything below the directory that is no directory."""
        return {
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }
