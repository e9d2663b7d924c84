"""Real storage servers for tests: each module starts one on loopback, waits until it answers, and ends it.

They come from packages of the distribution; `pytest.mark.needs("bin:...")` says which program a test needs.
"""

from __future__ import annotations

__all__: list[str] = []
