"""Stager `http`: files from and to HTTP and WebDAV storages (`http https dav davs`).

A pilot imports this module before it knows whether it needs the stager, so only the hooks are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl
from pilot_stager_http.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, StageIn, StageOut
    from pilot_stager_http.stager import HttpStager

__all__ = ["pilot_stagein", "pilot_stageout"]

NAME = "http"
SCHEMES = frozenset({"http", "https", "dav", "davs"})
CAPABILITIES = frozenset({f"checksum:{name}" for name in ("adler32", "md5", "sha1", "sha256", "sha512")} | {"resume"})


def _make(settings: Settings, context: Context) -> HttpStager:
    """Make the stager; raises `ConfigError` for settings that make no sense."""
    from pilot_stager_http.stager import HttpStager  # noqa: PLC0415

    return HttpStager(settings, context)


@hookimpl
def pilot_stagein() -> Iterator[Provider[StageIn]]:
    """Offer the stager for reading."""
    yield Provider(name=NAME, factory=_make, settings=Settings, schemes=SCHEMES, capabilities=CAPABILITIES)


@hookimpl
def pilot_stageout() -> Iterator[Provider[StageOut]]:
    """Offer the stager for writing."""
    yield Provider(name=NAME, factory=_make, settings=Settings, schemes=SCHEMES, capabilities=CAPABILITIES)
