"""What a registration hook returns: typed descriptors from which the core chooses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import logging
    from pathlib import Path

    from pilot_core.api.clock import Clock
    from pilot_core.api.credential import CredentialSource
    from pilot_core.api.staging import StageIn, StageOut
    from pilot_core.api.traffic import TrafficListener

__all__ = ["KINDS", "Context", "NoSettings", "Provider", "Stagers"]

T = TypeVar("T")

KINDS: Mapping[str, tuple[str, ...]] = {
    "queue-source": ("pilot_queue_sources",),
    "communicator": ("pilot_communicators",),
    "catalog": ("pilot_catalogs",),
    "stager": ("pilot_stagein", "pilot_stageout"),
    "executor": ("pilot_executors",),
    "watchdog": ("pilot_watchdogs",),
    "credential": ("pilot_credentials",),
    "launcher": ("pilot_launchers",),
    "server-protocol": ("pilot_server_protocols",),
    "extension": (),
}
"""The kinds of plugin (first part of an entry point's name) and the registration hooks each may implement."""

_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class NoSettings:
    """The settings of a provider that has none."""


class Stagers(Protocol):
    """The pilot's stagers, for a stager that stands before another one: it adds something and hands on the rest.

    Ask when a file is to be moved, not in the factory: the others may not be made yet.
    """

    def stage_in(self, url: str) -> StageIn:
        """Return the stager that would read from a URL; raises `BackendUnavailable` if none here does."""
        ...

    def stage_out(self, url: str) -> StageOut:
        """Return the stager that would write to a URL; raises `BackendUnavailable` if none here does."""
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the core hands to a provider's factory: everything it may know, nothing global."""

    clock: Clock
    """The only source of time and of waiting."""
    log: logging.Logger
    """The provider's own logger."""
    work_dir: Path
    """The pilot's work directory; exists."""
    server_url: str = ""
    """Base URL of the PanDA server, without a trailing slash; empty where there is none."""
    ca_file: Path | None = None
    """The certificate authorities to trust: a PEM file, or a directory of such that are named by hash as on grid sites;
    None = those of the Python installation."""
    proxy: str = ""
    """URL of the HTTP proxy to use, from the pilot's own settings only; empty = none."""
    credential: CredentialSource | None = None
    """The pilot's own credential for its server; None = none was configured."""
    config_file: Path | None = None
    """The pilot's own configuration file, if it has one."""
    user_agent: str = "pilot-core"
    """For the User-Agent header."""
    traffic: TrafficListener | None = None
    """Whom a communicator tells every exchange with its server; None = nobody listens, so nothing need be gathered."""
    stagers: Stagers | None = None
    """The stagers of this pilot; given to stagers only, None for everything else."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Room for what later versions pass."""


@dataclass(frozen=True, kw_only=True)
class Provider(Generic[T]):
    """One implementation of a pilot task, as a plugin offers it.

    Raises `ValueError` or `TypeError`, with what is wrong, when it is made with values that make no sense.
    """

    name: str
    """What the configuration calls it: lower-case letters, digits and dashes."""
    factory: Callable[[Any, Context], T]
    """Called as `factory(settings, context)`; imports heavy libraries inside."""
    settings: type = NoSettings
    """A frozen dataclass; every field has a help text (`pilot_core.api.settings.setting`)."""
    schemes: frozenset[str] = frozenset()
    """URL schemes served; stagers and catalogues only."""
    priority: int = 50
    """Lower is tried first; the site's configuration overrides it."""
    capabilities: frozenset[str] = frozenset()
    """What it can do beyond the minimum: "checksum:adler32", "resume" ..."""
    requires: tuple[str, ...] = ()
    """What must be there: "bin:xrdcp", "module:XRootD"."""

    def __post_init__(self) -> None:
        # plugins need not be type-checked, so the values are looked at as what they are: anything
        values: dict[str, Any] = vars(self)
        name = values["name"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"provider name {name!r}: use lower-case letters, digits and dashes, letter first")
        if not callable(values["factory"]):
            raise TypeError(f"provider {name!r}: factory is not callable: {values['factory']!r}")
        if not (isinstance(values["settings"], type) and is_dataclass(values["settings"])):
            raise TypeError(f"provider {name!r}: settings must be a dataclass, got {values['settings']!r}")
        for what, kind in (("schemes", frozenset), ("capabilities", frozenset), ("requires", tuple)):
            value = values[what]
            if not isinstance(value, kind) or not all(isinstance(item, str) for item in value):
                raise TypeError(f"provider {name!r}: {what} must be a {kind.__name__} of strings, got {value!r}")
        if isinstance(values["priority"], bool) or not isinstance(values["priority"], int):
            raise TypeError(f"provider {name!r}: priority must be an int, got {values['priority']!r}")
