"""Queue source `cric`: PanDA's queuedata JSON and CRIC's storages, from a server or from files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core import Provider, QueueSource, hookimpl, setting

if TYPE_CHECKING:
    from pilot_core import Context

__all__ = ["CricSettings", "pilot_queue_sources"]


@dataclass(frozen=True)
class CricSettings:
    """Settings of `queue-source.cric`."""

    url: str = setting(
        "",
        help="URL of the queuedata, {queue} stands for the queue's name; "
        "default: <server>/cache/schedconfig/{queue}.all.json",
        metavar="URL",
    )
    file: Path | None = setting(None, help="file with queuedata, instead of a URL", metavar="F")
    endpoints_url: str = setting(
        "",
        help="URL of the storages (ddmendpoints.json); default: <server>/cache/ddmendpoints.json if it is there",
        metavar="URL",
    )
    endpoints_file: Path | None = setting(None, help="file with the storages, instead of a URL", metavar="F")
    catalog: str = setting(
        "",
        help="replica catalogue that is asked where inputs lie (rucio); default: none, they lie where the storages say",
        metavar="NAME",
    )
    timeout: float = setting(20.0, help="seconds that a server may stay silent", minimum=0.001)
    tries: int = setting(3, help="how often a server that does not answer is asked", minimum=1)
    transformation_urls: tuple[str, ...] = setting(
        (), help="base URLs from which a transformation may be fetched: CRIC does not say", metavar="URL,URL"
    )


def _make(settings: CricSettings, context: Context) -> QueueSource:
    """Make the source; imported here, because only pilots that use it need its libraries."""
    from pilot_queue_source_cric.source import CricQueueSource  # noqa: PLC0415

    return CricQueueSource(settings, context)


@hookimpl
def pilot_queue_sources() -> Iterator[Provider[QueueSource]]:
    """Offer `cric`."""
    yield Provider(name="cric", factory=_make, settings=CricSettings, priority=50)
