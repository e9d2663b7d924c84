"""What a site can set, in the table `[stager.xrootd]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pilot_core import ConfigError, setting

__all__ = ["Settings", "check"]

LIMITS: Mapping[str, int] = {"connect_timeout": 3600, "stall_timeout": 86_400, "redirects": 255}
"""The largest values that the client library takes."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Each field is a key of the table, and `--set stager.xrootd.KEY=value`."""

    x509_proxy: Path | None = setting(
        None, help="file with the X.509 proxy to log in with (gsi); without it the pilot's own, if that is a proxy"
    )
    token_file: Path | None = setting(
        None, help="file with the bearer token to log in with (ztn, over TLS only); nobody else may be able to read it"
    )
    ca_dir: Path | None = setting(
        None,
        help="folder of the authorities to trust, named by hash; unset = /etc/grid-security/certificates, if there",
    )
    ca_file: Path | None = setting(
        None, help="PEM file with authorities to trust for TLS besides; without any folder, by itself the pilot's own"
    )
    connect_timeout: int = setting(20, help="seconds to wait for a connection", metavar="S", minimum=1)
    stall_timeout: int = setting(
        60,
        help="seconds of silence of a storage that owes an answer, after which it is given up",
        metavar="S",
        minimum=1,
    )
    redirects: int = setting(16, help="redirections to follow to other servers of a storage", minimum=0)
    resumes: int = setting(
        2, help="times that a broken download goes on where it ended before it is an error", minimum=0
    )
    verify_stored: bool = setting(
        True, help="ask the storage for the checksum of what was stored, and compare, where it can tell one"
    )
    stat_checksum: bool = setting(True, help="ask for the checksum, too, when the storage is asked about a file")
    flush: bool = setting(True, help="have the storage write a stored file to its disk before it counts as stored")


def check(settings: Settings) -> None:
    """Raise `ConfigError`, with the key, for a value that cannot be used."""
    for name, limit in LIMITS.items():
        if getattr(settings, name) > limit:
            raise ConfigError(f"stager.xrootd.{name}: {getattr(settings, name)} is above {limit}; choose less")
    if settings.ca_dir is not None and not settings.ca_dir.is_dir():
        raise ConfigError(f"stager.xrootd.ca_dir: {settings.ca_dir} is no directory; correct the path")
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise ConfigError(f"stager.xrootd.ca_file: {settings.ca_file} is no file; correct the path")
