"""For pytest: the fixture `pilot_server`, a development server of one's own over TLS, to which faults can be done.

pytest finds this module by itself where the development server is installed. It imports nothing until a test asks.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pilot_devserver.devserver import DevServer

__all__ = ["pilot_server", "pilot_server_keys", "pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    text = "pilot_server(**options): other arguments of the DevServer behind the fixture pilot_server"
    config.addinivalue_line("markers", text)


@pytest.fixture(scope="session")
def pilot_server_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with keys and certificates, made once for all tests; servers run on copies of it."""
    from pilot_core.api.clock import SystemClock  # noqa: PLC0415
    from pilot_devserver.statedir import StateDir  # noqa: PLC0415

    path = tmp_path_factory.mktemp("pilot-server") / "state"
    StateDir(path, SystemClock()).prepare()
    return path


@pytest.fixture
def pilot_server(request: pytest.FixtureRequest, pilot_server_keys: Path, tmp_path: Path) -> Iterator[DevServer]:
    """A server that runs while the test does, with all protocols that are installed.

    `pilot_server.fault("reset-after", endpoint="update_job", count=2)` does a fault and returns its handle.
    """
    from pilot_devserver.devserver import DevServer  # noqa: PLC0415

    marker = request.node.get_closest_marker("pilot_server")
    state = shutil.copytree(pilot_server_keys, tmp_path / "pilot-server")
    with DevServer(state, **(marker.kwargs if marker else {})) as server:
        yield server
