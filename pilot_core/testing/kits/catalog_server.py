"""The other side of a catalogue's plugin under test: the catalogue itself, as the kit sees it past the plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot_core.api.staging import Replica

__all__ = ["CatalogServer", "Registered"]


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One file as the catalogue has it."""

    scope: str
    lfn: str
    guid: str
    """Compared without dashes and case."""
    size: int
    checksum: str
    """`adler32:<8 hex>` or `md5:<32 hex>`."""
    url: str
    rse: str


class CatalogServer(ABC):
    """The catalogue that the plugin under test asks, as its author's test makes it: a file, a server on loopback.

    Write it without the plugin's own code: it is what the plugin is compared with.
    """

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """The plugin's settings with which it reaches this catalogue."""

    @abstractmethod
    def add(self, scope: str, lfn: str, replicas: Sequence[Replica]) -> None:
        """Have the catalogue know a file that lies in these places, the best one first."""

    @abstractmethod
    def registered(self) -> Sequence[Registered]:
        """Return every entry that was registered, not added: one twice if it was entered twice."""

    def storage(self, rse: str, url: str) -> bool:  # noqa: ARG002  (what authors' own will take)
        """Have the catalogue know a storage that is written below a URL; False if it names no places to write to."""
        return False

    def break_down(self) -> bool:
        """Let the catalogue fail to answer; return False if that cannot be."""
        return False
