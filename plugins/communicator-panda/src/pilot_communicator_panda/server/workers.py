"""`pilot/update_worker_status`, `pilot/update_worker_node` and `pilot/update_worker_node_gpu`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.server.call import Envelope, answer
from pilot_core.api.server import StoreUnavailable

if TYPE_CHECKING:
    from pilot_communicator_panda.server.call import Call

__all__ = ["update_worker_node", "update_worker_node_gpu", "update_worker_status"]

STATES = ("started", "finished")


def update_worker_status(call: Call) -> Envelope:
    """Keep what a pilot says of itself; a worker that nobody knows is no error."""
    given = call.arguments
    if given["status"] not in STATES:
        return answer(False, f"Invalid worker state. The worker state has to be in {STATES}")
    if not _keep_status(call):
        return answer(False, "Failed to update worker status")
    return answer(True)


def _keep_status(call: Call) -> bool:
    worker, harvester, node = (call.arguments[name] for name in ("worker_id", "harvester_id", "node_id"))
    if worker is None or harvester is None:
        return True  # the database compares with NULL, which no worker equals
    whole = isinstance(worker, (str, int)) and not isinstance(worker, bool)
    if not whole or not isinstance(harvester, str) or isinstance(node, (dict, list)):
        # PostgreSQL refuses to compare such values; a number with decimals it compares, and finds nothing
        return isinstance(worker, float) and isinstance(harvester, str)
    values: dict[str, Any] = {"status": call.arguments["status"], "node_id": None if node is None else str(node)}
    try:
        return call.store.worker_status(harvester, str(worker), values)
    except StoreUnavailable:
        return False


def update_worker_node(call: Call) -> Envelope:
    """Keep what a pilot says of its machine."""
    given = dict(call.arguments)
    return answer(*call.store.worker_node(given.pop("site"), given.pop("host_name"), given))


def update_worker_node_gpu(call: Call) -> Envelope:
    """Keep what a pilot says of its machine's GPUs."""
    given = dict(call.arguments)
    return answer(*call.store.worker_gpu(given.pop("site"), given.pop("host_name"), given))
