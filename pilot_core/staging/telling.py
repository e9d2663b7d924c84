"""Which error a transfer that failed is reported with, and its PanDA code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core.api.url import shown_url
from pilot_core.errors import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    ChecksumMismatch,
    HandledError,
    NoSpace,
    PilotErrorCode,
    SourceNotFound,
    TransferError,
    TransferTimeout,
)
from pilot_core.selection import scheme_of

if TYPE_CHECKING:
    from pilot_core.api.staging import Replica
    from pilot_core.selection import Verdict

__all__ = ["all_told", "no_stager", "telling"]

MOST_NAMES = 10
"""Files that are named in one error."""

OUT_CODES: dict[type[HandledError], PilotErrorCode] = {
    NoSpace: PilotErrorCode.NOREMOTESPACE,
    TransferTimeout: PilotErrorCode.STAGEOUTTIMEOUT,
    AuthError: PilotErrorCode.STAGEOUTAUTHENTICATIONFAILURE,
    SourceNotFound: PilotErrorCode.NOSUCHFILE,
    ChecksumMismatch: PilotErrorCode.PUTADMISMATCH,
}
"""The pilot error codes of stage-out where they differ from those of stage-in."""


def no_stager(lfn: str, replicas: Sequence[Replica], excluded: Sequence[Verdict[Any]] = ()) -> BackendUnavailable:
    """Return the error for a file that nothing installed here can move, or may: `excluded` says why not."""
    why = dict.fromkeys(f"{one.stager.name}: {one.text}" for one in excluded if one.rule != "scheme")
    if why:
        return BackendUnavailable(
            f"{lfn}: no stager here may move it ({'; '.join(why)}); correct the queue, or install what it names",
            error_code=PilotErrorCode.NOSTORAGEPROTOCOL,
        )
    schemes = ", ".join(sorted({scheme_of(replica.url) for replica in replicas}))
    return BackendUnavailable(
        f"{lfn}: no stager here serves {schemes}; "
        f"'pilot-core list-plugins --why {shown_url(replicas[0].url)}' shows what there is",
        error_code=PilotErrorCode.NOSTORAGEPROTOCOL,
    )


def telling(errors: Sequence[HandledError], *, out: bool) -> HandledError:
    """Return the error to report: a refused credential if there was one, else the first, with the right code."""
    error = next((e for e in errors if isinstance(e, AuthError)), errors[0])
    if isinstance(errors[-1], (NoSpace, Cancelled)):
        error = errors[-1]
    if error.error_code == type(error).error_code:
        error.error_code = _code(error, out=out)
    if len(errors) > 1:
        error.args = (f"{error} (first of {len(errors)} attempts)",) if error is errors[0] else error.args
    return error


def _code(error: HandledError, *, out: bool) -> PilotErrorCode:
    """Return the pilot error code of a failed transfer; PanDA tells the two ways apart."""
    if not out:
        return PilotErrorCode.STAGEINAUTHENTICATIONFAILURE if isinstance(error, AuthError) else error.error_code
    for kind, code in OUT_CODES.items():
        if isinstance(error, kind):
            return code
    return PilotErrorCode.STAGEOUTFAILED if isinstance(error, TransferError) else error.error_code


def all_told(errors: Mapping[str, HandledError]) -> HandledError:
    """Return the one error for some files (by LFN) that failed: that which says most, with the names of the others.

    What stopped everything says most, then a refused credential, which is as a rule behind the other failures, too.
    """
    for kinds in ((NoSpace, Cancelled), (AuthError,), (HandledError,)):
        chosen = next((lfn for lfn, error in errors.items() if isinstance(error, kinds)), None)
        if chosen is not None:
            break
    assert chosen is not None  # noqa: S101  (there is at least one)
    error = errors[chosen]
    others = [f"{lfn} ({type(other).__name__})" for lfn, other in errors.items() if lfn != chosen]
    if others:
        more = f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
        error.args = (f"{error}; {len(others)} more failed: {', '.join(others[:MOST_NAMES])}{more}",)
    return error
