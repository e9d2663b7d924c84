"""What authors of plugins test with: the conformance kits, one for each kind of plugin.

A test file is a class with one or two fixtures (`pilot_core.testing.kits.base` tells how)::

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
    from pilot_core.testing.kits.executor import ExecutorKit
    from pilot_core.testing.kits.stager import StagerKit
    from pilot_core.testing.kits.storage import DirectoryStorage, Storage

__all__ = [
    "DirectoryStorage",
    "ExecutorKit",
    "FakeClock",
    "Kit",
    "StagerKit",
    "SteppedClock",
    "Storage",
]

_MODULE_OF = {
    "DirectoryStorage": "pilot_core.testing.kits.storage",
    "ExecutorKit": "pilot_core.testing.kits.executor",
    "FakeClock": "pilot_core.testing.clock",
    "Kit": "pilot_core.testing.kits.base",
    "StagerKit": "pilot_core.testing.kits.stager",
    "SteppedClock": "pilot_core.testing.clock",
    "Storage": "pilot_core.testing.kits.storage",
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
