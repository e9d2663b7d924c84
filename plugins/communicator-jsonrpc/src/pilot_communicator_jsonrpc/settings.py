"""What a site can set, in the table `[communicator.jsonrpc]`."""

from __future__ import annotations

from dataclasses import dataclass

from pilot_core import setting


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set communicator.jsonrpc.KEY=value`."""

    first_pause: float = setting(1.0, help="seconds before the first repetition; doubled before each further one")
    longest_pause: float = setting(60.0, help="seconds before a repetition, at most", minimum=0.1)
