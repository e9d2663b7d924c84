"""Stager `xrootd`: files of storages that speak the XRootD protocol, `root://` and, over TLS, `roots://`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl
from pilot_stager_xrootd.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, StageIn, StageOut
    from pilot_stager_xrootd.stager import XrootdStager

__all__ = ["KIT_OPT_OUTS", "pilot_stagein", "pilot_stageout"]

NAME = "xrootd"
SCHEMES = frozenset({"root", "roots", "xroot", "xroots"})
CAPABILITIES = frozenset(
    {*(f"checksum:{name}" for name in ("adler32", "md5", "sha1", "sha256", "sha512")), "resume"},
)
REQUIRES = ("module:XRootD",)

_QUESTION_MARK = (
    "XRootD has no way to name a file with a question mark: what follows it are options of the request; "
    "every other name of the clause is tried by the plugin's own tests"
)
KIT_OPT_OUTS = {
    "test_files_of_any_name_are_fetched": _QUESTION_MARK,
    "test_files_of_any_name_are_stored": _QUESTION_MARK,
}
"""Clauses of the conformance kit that the protocol cannot keep, and why."""


def _make(settings: Settings, context: Context) -> XrootdStager:
    """Make the stager; the client library is loaded by its worker processes only."""
    from pilot_stager_xrootd.stager import XrootdStager  # noqa: PLC0415

    return XrootdStager(settings, context)


@hookimpl
def pilot_stagein() -> list[Provider[StageIn]]:
    """Offer the way in."""
    return [
        Provider(
            name=NAME,
            factory=_make,
            settings=Settings,
            schemes=SCHEMES,
            capabilities=CAPABILITIES,
            requires=REQUIRES,
        )
    ]


@hookimpl
def pilot_stageout() -> list[Provider[StageOut]]:
    """Offer the way out."""
    return [
        Provider(
            name=NAME,
            factory=_make,
            settings=Settings,
            schemes=SCHEMES,
            capabilities=CAPABILITIES,
            requires=REQUIRES,
        )
    ]
