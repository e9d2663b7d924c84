"""What `pilot-core list-plugins` shows of a plugin, as plain values. What is not known is None, never guessed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pilot_core.plugins.record import Record, Status

if TYPE_CHECKING:
    from pilot_core.plugins.record import Offer

__all__ = ["NOT_IN_ORDER", "SCHEMA", "cells", "headings", "requirements", "row"]

SCHEMA = 1
"""Version of the JSON form; a field may be added without a new one."""

NOT_IN_ORDER = frozenset({Status.ERROR, Status.INCOMPATIBLE, Status.SHADOWED})
"""What `--strict` does not accept. Blocked plugins are as the site wants them."""

_TASKS = {"pilot_stagein": "stage-in", "pilot_stageout": "stage-out"}


def row(record: Record) -> dict[str, Any]:
    """Return a record's JSON form."""
    offers = record.offers
    return {
        "status": str(record.status),
        "kind": record.kind,
        "name": record.name,
        "provides": _provides(record),
        "schemes": None if offers is None else _all(offer.schemes for offer in offers),
        "capabilities": None if offers is None else _all(offer.capabilities for offer in offers),
        "requires": None if offers is None else _all(offer.requires for offer in offers),
        "priority": None if not offers else min(offer.priority for offer in offers),
        "providers": None if offers is None else [_offer(offer) for offer in offers],
        "hooks": None if record.hooks is None else list(record.hooks),
        "distribution": record.distribution,
        "version": record.version or None,
        "api": record.api,
        "entry_point": record.entry_point,
        "object": record.value,
        "where": record.where,
        "directory": record.directory,
        "import_ms": record.import_ms,
        "reason": record.reason or None,
        "next_step": record.next_step or None,
        "warnings": list(record.warnings),
        "opt_outs": list(record.opt_outs),
    }


def requirements(records: Iterable[Record]) -> list[str]:
    """Return `name==version` of every distribution with plugins, once, in order.

    Left out is what has no version, and what others may have put there: nobody should install that on another machine.
    """
    return sorted({f"{record.distribution}=={record.version}" for record in records if record.version and record.safe})


def headings(*, checked: bool) -> list[str]:
    """Return the table's headings; the last four stand for what only an import can tell."""
    known = ["status", "kind", "name", "provides", "distribution", "version", "API", "where"]
    return [*known, "import ms", "priority", "capabilities", "requires"] if checked else known


def cells(record: Record, *, checked: bool) -> list[str]:
    """Return one row of the table."""
    shown = row(record)
    provides = ", ".join(shown["provides"] or ())
    if shown["schemes"]:
        provides += f" ({', '.join(shown['schemes'])})"
    api = "" if record.api is None else f"v{record.api}"
    known = [
        shown["status"],
        record.kind,
        record.name,
        provides,
        record.distribution,
        record.version,
        api,
        record.where,
    ]
    if not checked:
        return known
    numbers = ["" if shown[name] is None else f"{shown[name]:.0f}" for name in ("import_ms", "priority")]
    return [*known, *numbers, *(", ".join(shown[name] or ()) for name in ("capabilities", "requires"))]


def _provides(record: Record) -> list[str] | None:
    """Return the tasks that a plugin serves; for an extension its hooks."""
    if record.hooks is None or record.offers is None:
        return None
    if not record.offers:
        return list(record.hooks)
    return [_TASKS.get(offer.hook, record.kind) for offer in record.offers]


def _offer(offer: Offer) -> dict[str, Any]:
    return {
        "hook": offer.hook,
        "name": offer.name,
        "schemes": list(offer.schemes),
        "priority": offer.priority,
        "capabilities": list(offer.capabilities),
        "requires": list(offer.requires),
    }


def _all(lists: Iterable[Iterable[str]]) -> list[str]:
    return sorted({text for texts in lists for text in texts})
