"""Running payloads, each under its own small supervisor process that outlives the pilot.

Four sorts of process, each forked from the one before it::

    pilot -> fork server -> supervisor (one a payload) -> payload -> whatever it starts

The *fork server* is forked while the pilot is small and has one thread; it forks a supervisor in about a
millisecond, which a pilot with threads could not do safely. The *supervisor* is the subreaper of its payload: every
orphan below it becomes its child, so it can find all that a payload started, daemons included, and end it without
ever touching another process. It writes what happened into the payload's control directory (`records`), from where
any later pilot reads it. The *pilot* waits for a pidfd of the supervisor.

Needs Linux 5.4 or newer when used; importing it works anywhere.
"""

from pilot_core.supervision.payload import SupervisedPayload
from pilot_core.supervision.procfs import ProcessId
from pilot_core.supervision.spawner import Spawner

__all__ = ["ProcessId", "Spawner", "SupervisedPayload"]
