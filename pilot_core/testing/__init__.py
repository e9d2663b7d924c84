"""What authors of plugins test with: the conformance kits, one for each kind of plugin.

A test file is a class with a few fixtures (`pilot_core.testing.kits.base` tells how)::

    from pilot_core.testing import DirectoryStorage, StagerKit

    class TestTape(StagerKit):
        @pytest.fixture
        def plugin(self):
            return "stager.tape"

        @pytest.fixture
        def storage(self, tmp_path):
            return DirectoryStorage(tmp_path / "tape", "tape://library")

It needs the extra `pilot-core[testing]`. A name's module is imported when the name is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot_core.testing.clock import FakeClock, SteppedClock
    from pilot_core.testing.kits.base import Kit
    from pilot_core.testing.kits.catalog import CatalogKit
    from pilot_core.testing.kits.catalog_server import CatalogServer, Registered
    from pilot_core.testing.kits.communicator import CommunicatorKit
    from pilot_core.testing.kits.credential import CredentialKit
    from pilot_core.testing.kits.dialect import Dialect
    from pilot_core.testing.kits.executor import ExecutorKit
    from pilot_core.testing.kits.extension import ExtensionKit
    from pilot_core.testing.kits.issuer import CredentialIssuer
    from pilot_core.testing.kits.launcher import LauncherKit
    from pilot_core.testing.kits.otherside import OtherSide
    from pilot_core.testing.kits.protocol_server import ProtocolServer
    from pilot_core.testing.kits.queue_site import QueueSite
    from pilot_core.testing.kits.queue_source import QueueSourceKit
    from pilot_core.testing.kits.server_protocol import ServerProtocolKit
    from pilot_core.testing.kits.stager import StagerKit
    from pilot_core.testing.kits.storage import DirectoryStorage, Storage
    from pilot_core.testing.kits.watchdog import WatchdogKit
    from pilot_core.testing.kits.watched_payload import WatchdogCase
    from pilot_core.testing.memory_store import MemoryStore

__all__ = [
    "CatalogKit",
    "CatalogServer",
    "CommunicatorKit",
    "CredentialIssuer",
    "CredentialKit",
    "Dialect",
    "DirectoryStorage",
    "ExecutorKit",
    "ExtensionKit",
    "FakeClock",
    "Kit",
    "LauncherKit",
    "MemoryStore",
    "OtherSide",
    "ProtocolServer",
    "QueueSite",
    "QueueSourceKit",
    "Registered",
    "ServerProtocolKit",
    "StagerKit",
    "SteppedClock",
    "Storage",
    "WatchdogCase",
    "WatchdogKit",
]

_MODULE_OF = {
    "CatalogKit": "pilot_core.testing.kits.catalog",
    "CatalogServer": "pilot_core.testing.kits.catalog_server",
    "CommunicatorKit": "pilot_core.testing.kits.communicator",
    "CredentialIssuer": "pilot_core.testing.kits.issuer",
    "CredentialKit": "pilot_core.testing.kits.credential",
    "Dialect": "pilot_core.testing.kits.dialect",
    "DirectoryStorage": "pilot_core.testing.kits.storage",
    "ExecutorKit": "pilot_core.testing.kits.executor",
    "ExtensionKit": "pilot_core.testing.kits.extension",
    "FakeClock": "pilot_core.testing.clock",
    "Kit": "pilot_core.testing.kits.base",
    "LauncherKit": "pilot_core.testing.kits.launcher",
    "MemoryStore": "pilot_core.testing.memory_store",
    "OtherSide": "pilot_core.testing.kits.otherside",
    "ProtocolServer": "pilot_core.testing.kits.protocol_server",
    "QueueSite": "pilot_core.testing.kits.queue_site",
    "QueueSourceKit": "pilot_core.testing.kits.queue_source",
    "Registered": "pilot_core.testing.kits.catalog_server",
    "ServerProtocolKit": "pilot_core.testing.kits.server_protocol",
    "StagerKit": "pilot_core.testing.kits.stager",
    "SteppedClock": "pilot_core.testing.clock",
    "Storage": "pilot_core.testing.kits.storage",
    "WatchdogCase": "pilot_core.testing.kits.watched_payload",
    "WatchdogKit": "pilot_core.testing.kits.watchdog",
}
"""Where each public name lives."""


def __getattr__(name: str) -> Any:
    """Import the module that a public name lives in (PEP 562); a kit's so that its assertions tell what they saw."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import sys  # noqa: PLC0415
    from importlib import import_module  # noqa: PLC0415

    module = _MODULE_OF[name]
    if ".kits." in module and "pilot_core.testing.kits" not in sys.modules:
        import pytest  # noqa: PLC0415

        pytest.register_assert_rewrite("pilot_core.testing.kits")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
