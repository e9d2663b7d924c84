"""Calling a method with the parameters of a request, refused as Python itself refuses them.

PanDA's server passes whatever was sent to a Python function, so that what is wrong with it is told by Python: the texts
are those of Python 3.11, on which the server ran when it was observed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot_core.api.server import JobStore, ServerRequest

__all__ = ["Call", "bind", "is_pilot"]

_PRODUCTION = re.compile(r"^/[^/]+/Role=production$|/atlas/Role=production|/atlas/usatlas/Role=production")
_PILOT = re.compile(r"/(atlas/usatlas|atlas|osg|ams|Engage/LBNE)/Role=pilot")
_MEMBERS = re.compile("/atlas/|/osg/|/cms/|/ams/|/Engage/LBNE/")
"""Organisations of which every member counts as a pilot."""


@dataclass(frozen=True)
class Call:
    """A call whose parameters fit its method."""

    request: ServerRequest
    store: JobStore
    arguments: Mapping[str, Any]

    @property
    def accepts_json(self) -> bool:
        """Return whether the answer is JSON: if Accept only contains that type."""
        return "application/json" in self.request.headers.get("accept", "")

    @property
    def dn(self) -> str | None:
        """Return the caller's DN; None for an anonymous one."""
        identity = self.request.identity
        if identity is None:
            return None
        return re.sub("/CN=proxy(/CN=proxy)+", "/CN=proxy", identity.dn.replace("/CN=limited proxy", ""))

    @property
    def production(self) -> bool:
        """Return whether the caller has a production role, which killing and commands need."""
        return self.request.identity is not None and self.request.identity.production

    def is_pilot(self, *, members: bool = True) -> bool:
        """Return whether the caller has the role of a pilot, or (`members`) is in an organisation of pilots."""
        return is_pilot(self.request, members=members)


def is_pilot(request: ServerRequest, *, members: bool = True) -> bool:
    """Return whether the caller has the role of a pilot, or (`members`) is in an organisation of pilots."""
    fqans = request.identity.fqans if request.identity else ()
    return any(_PRODUCTION.search(fqan) or _PILOT.search(fqan) or (members and _MEMBERS.search(fqan)) for fqan in fqans)


def bind(name: str, signature: Mapping[str, Any], given: Any, *, missing: object, owner: str) -> dict[str, Any]:
    """Return all arguments of a call. `signature` has the default of each parameter, `missing` = none.

    Raises `TypeError` with Python's text; `owner` is the module that it names.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"{owner}.{name}() argument after ** must be a mapping, not {type(given).__name__}")
    for key in given:
        if key == "req":
            raise TypeError(f"{name}() got multiple values for argument 'req'")
        if key not in signature:
            raise TypeError(f"{name}() got an unexpected keyword argument '{key}'")
    lacking = [key for key, default in signature.items() if default is missing and key not in given]
    if lacking:
        raise TypeError(_missing_text(name, lacking))
    return {key: given.get(key, default) for key, default in signature.items()}


def _missing_text(name: str, lacking: Sequence[str]) -> str:
    quoted = [f"'{key}'" for key in lacking]
    if len(quoted) == 1:
        return f"{name}() missing 1 required positional argument: {quoted[0]}"
    listed = " and ".join(quoted) if len(quoted) == 2 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
    return f"{name}() missing {len(quoted)} required positional arguments: {listed}"
