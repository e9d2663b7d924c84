"""The keys of S3 storages, from a file in the AWS format (`~/.aws/credentials`) that somebody else renews."""

from __future__ import annotations

import configparser
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilot_core import AuthError, shown_url

__all__ = ["KeyFile", "Keys"]

LARGEST = 1 << 20
"""Bytes of a credentials file."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """One set of keys; what is secret in it never shows in a repr."""

    access: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    """Session token of keys that hold for a while only."""


class KeyFile:
    """Gives the keys for a service, and reads the file again whenever it has changed. Thread safe."""

    def __init__(self, file: Path, profile: str) -> None:
        self._file = file
        self._profile = profile
        self._lock = threading.Lock()
        self._version: tuple[int, ...] = ()
        self._sections: Mapping[str, Mapping[str, str]] = {}

    def keys(self, authority: str, *, ours: bool) -> Keys:
        """Return the keys for the service at `authority` (HOST:PORT, or HOST where the port is that of its scheme).

        They are those of the section that is named so; where `ours` says that it is the service of the setting
        `endpoint`, else those of the profile: another one that a URL names never gets these.
        Raises `AuthError`, without any part of the file's content.
        """
        sections = self._read()
        host = authority.rpartition(":")[0] if ":" in authority.rpartition("]")[2] else authority
        for name in (authority, host, *((self._profile,) if ours else ())):
            if name in sections:
                return self._keys_of(name, sections[name])
        if ours:
            raise AuthError(
                f"{self._file}: has no section [{self._profile}]; set stager.s3.profile to one that is there"
            )
        raise AuthError(
            f"{self._file}: has no section [{shown_url(authority)}]: a service that is not the setting `endpoint` gets "
            "no other keys; add the section, or set stager.s3.endpoint"
        )

    def _read(self) -> Mapping[str, Mapping[str, str]]:
        """Return the file's sections, read again if it has changed."""
        with self._lock:
            try:
                found = self._file.stat()
                version = (found.st_mtime_ns, found.st_size, found.st_ino)
                if version != self._version:
                    with self._file.open(encoding="utf-8") as stream:
                        text = stream.read(LARGEST)
                    self._sections, self._version = _sections_of(text), version
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "not UTF-8"
                raise AuthError(f"cannot read the S3 keys of {self._file}: {why}") from None
            except configparser.Error:
                # the parser's own words show the file's lines
                raise AuthError(f"{self._file}: no credentials file in the AWS format") from None
            return self._sections

    def _keys_of(self, name: str, section: Mapping[str, str]) -> Keys:
        """Return the keys of a section."""
        access, secret = section.get("aws_access_key_id", ""), section.get("aws_secret_access_key", "")
        token = section.get("aws_session_token", "")
        if not access or not secret:
            raise AuthError(f"{self._file}: [{name}] needs aws_access_key_id and aws_secret_access_key")
        if not all(text.isascii() and text.isprintable() and " " not in text for text in (access, secret, token)):
            raise AuthError(f"{self._file}: [{name}] has a key with spaces or characters beyond ASCII")
        return Keys(access=access, secret=secret, token=token)


def _sections_of(text: str) -> Mapping[str, Mapping[str, str]]:
    """Read the file's text; raises `configparser.Error`."""
    parser = configparser.ConfigParser(interpolation=None, default_section="\0none", delimiters=("=",))
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}
