"""What the server tells of its queues: queuedata and storages in CRIC's format, and the pilot's own configuration.

CRIC's field names are those that PanDA Pilot 3.11.5.1 reads (`info/queuedata.py`, `info/storagedata.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pilot_core.errors import BadInput

if TYPE_CHECKING:
    from pilot_devserver.statedir import StateDir

__all__ = ["Site", "SiteQueue"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", re.ASCII)


@dataclass(frozen=True)
class SiteQueue:
    """One queue with its storage: a directory of this machine."""

    name: str
    storage: Path
    """Directory that is the queue's storage endpoint."""

    @property
    def rse(self) -> str:
        """Return the name of the storage endpoint."""
        return f"{self.name}_DATADISK"

    @property
    def storage_url(self) -> str:
        """Return the URL below which the files lie."""
        return f"file://{quote(str(self.storage))}"

    def path_of(self, lfn: str) -> Path:
        """Return where a file of this name lies; the layout is flat."""
        return self.storage / lfn

    def queuedata(self) -> dict[str, Any]:
        """Return the queue in CRIC's format."""
        activities = ("read_lan", "write_lan", "pl")
        return {
            "nickname": self.name,
            "name": self.name,
            "panda_resource": self.name,
            "siteid": self.name,
            "atlas_site": self.name,
            "gstat": self.name,
            "cloud": "DEV",
            "type": "unified",
            "state": "ACTIVE",
            "status": "online",
            "resource_type": "grid",
            "cmtconfig": "",
            "catchall": "",
            "environ": "",
            "appdir": "",
            "container_type": "",
            "container_options": "",
            "copytools": {"mv": {"setup": ""}},
            "acopytools": {activity: ["mv"] for activity in activities},
            "astorages": {activity: [self.rse] for activity in activities},
            "allow_lan": True,
            "allow_wan": False,
            "direct_access_lan": False,
            "direct_access_wan": False,
            "use_pcache": False,
            "is_cvmfs": False,
            "maxwdir": 10000,
            "maxinputsize": 10000,
            "maxrss": 4000,
            "maxtime": 86400,
            "timefloor": 0,
            "corecount": 1,
            "params": {},
        }

    def endpoint(self, number: int) -> dict[str, Any]:
        """Return the storage in the format of CRIC's `ddmendpoints.json`."""
        protocol = {"endpoint": "file://", "path": str(self.storage), "flavour": "POSIX", "id": number}
        activities = ("read_lan", "write_lan", "read_wan", "write_wan", "delete")
        return {
            "id": number,
            "name": self.rse,
            "site": self.name,
            "state": "ACTIVE",
            "type": "DATADISK",
            "token": "ATLASDATADISK",
            "is_deterministic": False,
            "arprotocols": {activity: [protocol] for activity in activities},
            "rprotocols": {},
            "resource": {},
        }


class Site:
    """All queues of a server."""

    def __init__(self, names: Sequence[str], storage: Path) -> None:
        """Raise `BadInput` for a name that cannot be a queue's."""
        for name in names:
            if not _NAME.fullmatch(name):
                raise BadInput(f"queue {name!r}: use letters, digits, dots, dashes and underscores, at most 60")
        self.queues: Mapping[str, SiteQueue] = {
            name: SiteQueue(name, storage / f"{name}_DATADISK") for name in dict.fromkeys(names)
        }

    def prepare(self) -> None:
        """Make the directories of the storages."""
        for queue in self.queues.values():
            queue.storage.mkdir(parents=True, exist_ok=True)

    def endpoints(self) -> dict[str, Any]:
        """Return all storages by name."""
        return {queue.rse: queue.endpoint(number) for number, queue in enumerate(self.queues.values(), start=1)}

    def pilot_toml(self, url: str, state: StateDir) -> str:
        """Return a configuration with which `pilot-core run --config` takes jobs of the first queue."""
        text = json.dumps  # a JSON string is a TOML string
        lines = [
            "# written by pilot-core serve at each start",
            "[pilot]",
            f"server = {text(url)}",
            f"queue = {text(next(iter(self.queues)))}",
            'label = "unified"',
            f"ca_file = {text(str(state.ca_file))}",
            f"cert = {text(str(state.pilot_proxy))}",
        ]
        for queue in self.queues.values():
            lines += [
                "",
                f"[queues.{text(queue.name)}]",
                *(f"{activity} = [{text(queue.rse)}]" for activity in ("read", "write", "log")),
                f"transformation_urls = [{text(url + '/trf')}]",
                "",
                f"[queues.{text(queue.name)}.storages.{text(queue.rse)}]",
                f"url = {text(queue.storage_url)}",
                'layout = "flat"',
            ]
        return "\n".join([*lines, ""])
