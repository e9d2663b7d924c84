"""Stager `s3` for pilot-core: objects of S3 storages (AWS, Ceph, and others that speak the same).

A pilot imports this module before it knows whether it needs the stager, so only the hooks are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl
from pilot_stager_s3.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, StageIn, StageOut
    from pilot_stager_s3.stager import S3Stager

__all__ = ["CAPABILITIES", "NAME", "SCHEMES", "make"]

NAME = "s3"
SCHEMES = frozenset({"s3", "s3+https", "s3+http"})
CAPABILITIES = frozenset({*(f"checksum:{name}" for name in ("adler32", "md5", "sha1", "sha256", "sha512")), "resume"})


def make(settings: Settings, context: Context) -> S3Stager:
    """Make the stager; raises `ConfigError` for settings that make no sense."""
    from pilot_stager_s3.stager import S3Stager  # noqa: PLC0415  (only where it is needed)

    return S3Stager(settings, context)


@hookimpl
def pilot_stagein() -> Iterator[Provider[StageIn]]:
    """Offer the stager for reading."""
    yield Provider(name=NAME, factory=make, settings=Settings, schemes=SCHEMES, capabilities=CAPABILITIES)


@hookimpl
def pilot_stageout() -> Iterator[Provider[StageOut]]:
    """Offer the stager for writing."""
    yield Provider(name=NAME, factory=make, settings=Settings, schemes=SCHEMES, capabilities=CAPABILITIES)
