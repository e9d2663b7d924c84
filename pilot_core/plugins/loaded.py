"""A provider that is ready for use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from pilot_core.api.provider import Provider
    from pilot_core.plugins.record import Record

__all__ = ["Loaded"]

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A provider that is ready for use, and the plugin that it comes from. The selection takes it as a `Stager`."""

    hook: str
    provider: Provider[T]
    record: Record

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        return self.provider.name

    @property
    def schemes(self) -> frozenset[str]:
        """URL schemes served."""
        return self.provider.schemes

    @property
    def priority(self) -> int:
        """Lower is tried first."""
        return self.provider.priority

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do beyond the minimum."""
        return self.provider.capabilities

    @property
    def distribution(self) -> str:
        """The distribution that it comes with."""
        return self.record.distribution

    @property
    def version(self) -> str:
        """That distribution's version."""
        return self.record.version

    @property
    def label(self) -> str:
        """How messages name it: `stager.http (pilot-stager-http 1.2)`."""
        return self.record.label
