"""The other side of a queue source under test: a site that says what its queues are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pilot_core.api.queue import Queue, Storage

__all__ = ["QUEUE", "QueueSite", "sample_queue"]

QUEUE = "KIT_QUEUE"
"""Name of the queue that most clauses ask for."""


class QueueSite(ABC):
    """What the plugin under test reads, as its author's test makes it: a file, a directory, a server on loopback.

    Write it without the plugin's own code: it is what the plugin is compared with.
    """

    faults: ClassVar[tuple[str, ...]] = ("malformed",)
    """The ways in which `spoil` can spoil a queue's data; each is tried."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """The plugin's settings with which it reads this site."""

    @abstractmethod
    def publish(self, queue: Queue) -> Queue:
        """Describe a queue here, as real sites do, in the place of an older description of it if there is one.

        Return the queue as the plugin must then answer it: fields that the format has no room for at their defaults.
        Its `source` and `extra` are not compared. Other queues stay as they are.
        """

    @abstractmethod
    def withdraw(self, name: str) -> None:
        """Take a queue's description away."""

    @abstractmethod
    def spoil(self, name: str, fault: str) -> str:
        """Make a published queue's description unusable in one of the ways of `faults`.

        Return what the error has to name so that the site finds the place: a file's name, a URL, a key.
        """

    def break_down(self) -> bool:
        """Let the site as a whole fail to answer; return False if that cannot be (a local file)."""
        return False


def sample_queue(name: str = QUEUE, *, number: int = 1) -> Queue:
    """Return a queue that says something in every field, different for each number."""
    disk, tape = f"DISK-{number}", f"TAPE_{number}"
    return Queue(
        name=name,
        site=f"SITE-{number}",
        status=("online", "test", "brokeroff", "offline")[number % 4],
        storages={
            disk: Storage(rse=disk, url=f"file:///data/{number}", layout="rucio", stagers=("file",)),
            tape: Storage(
                rse=tape, url=f"davs://tape{number}.example.org:443/store/%7Eatlas", stagers=("http", "file")
            ),
        },
        read=(tape, disk),
        write=(disk, tape),
        log=(tape,),
        stagers={"read": ("http", "file"), "write": ("file",)},
        executor="bubblewrap" if number % 2 else "process",
        heartbeat_seconds=60.5 + number,
        shell=bool(number % 2),
        environment={"SITE_NAME": f"ünï {number}", "OPTIONS": "a=b", "EMPTY": "", f"ONLY_{number}": "x"},
        pass_environment=("LC_*", f"OWN_{number}"),
        transformation_urls=(f"https://example.org/trf/{number}",),
        allow_http=not number % 2,
        max_memory_mb=2000 + number,
        max_disk_mb=30_000 + number,
        kill_grace_seconds=2.5 + number,
    )
