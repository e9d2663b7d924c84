"""Faults that are an error and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core import (
    AuthError,
    BackendUnavailable,
    ChecksumMismatch,
    NoSpace,
    SizeMismatch,
    SourceNotFound,
    TransferTimeout,
    TransientError,
)
from pilot_core.api.url import shown_url

if TYPE_CHECKING:
    from pilot_core import CancelToken, Clock
    from pilot_stager_fault.grammar import StorageFault

__all__ = ["Bug", "raise_error"]

_CLASSES = {
    "not-found": SourceNotFound,
    "auth": AuthError,
    "no-space": NoSpace,
    "unavailable": BackendUnavailable,
    "timeout": TransferTimeout,
    "checksum-mismatch": ChecksumMismatch,
    "size-mismatch": SizeMismatch,
}


class Bug(Exception):
    """What the fault `crash` raises: no error of the pilot's, as a mistake in a stager's code would be."""


def raise_error(fault: StorageFault, url: str, clock: Clock, cancel: CancelToken) -> None:
    """Raise what a fault stands for; return if it is not of the kind that ends everything at once."""
    name, text = fault.kind.name, f"{shown_url(url)}: {fault.kind.name} on purpose"
    if name == "hang":
        clock.wait(cancel)
        cancel.raise_if_cancelled()
    if name == "crash":
        raise Bug(text)
    if name == "transient":
        raise TransientError(text, retry_after=fault.values["retry-after"])
    if name in _CLASSES:
        raise _CLASSES[name](text)
