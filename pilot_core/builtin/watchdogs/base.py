"""What every watchdog here has: settings with the time between two looks, and the trend of what it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pilot_core.builtin.watchdogs.telling import Trend

if TYPE_CHECKING:
    from pilot_core import Context

__all__ = ["HasInterval", "Looks"]


class HasInterval(Protocol):
    """Settings of a watchdog."""

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        ...


S = TypeVar("S", bound=HasInterval)


class Looks(Generic[S]):
    """What looks at payloads again and again; the classes that are made of it say at what."""

    def __init__(self, settings: S, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._trend = Trend()

    @property
    def interval(self) -> float:
        """Seconds between checks."""
        return self._settings.interval
