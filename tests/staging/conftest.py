"""Fixtures of the staging engine's tests."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from pilot_core import CancelToken

# pytest's import mode finds no module beside this one
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def folder(tmp_path):
    """A payload's folder; no transfer goes on when its test is over."""
    path = tmp_path / "payload"
    path.mkdir()
    yield path
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("transfer-")]
    assert not left, "a transfer's thread goes on"


@pytest.fixture
def cancel():
    return CancelToken()
