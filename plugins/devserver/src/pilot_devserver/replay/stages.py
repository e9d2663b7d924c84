"""The two stages for a replay: everything in this process, or a running server over sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.errors import BadInput
from pilot_devserver.certificates import Authority
from pilot_devserver.devserver import installed_protocols
from pilot_devserver.identity import Authenticator
from pilot_devserver.replay.direct import Direct
from pilot_devserver.replay.runner import Outcome, replay
from pilot_devserver.replay.who import Wallet
from pilot_devserver.store import SqliteStore
from pilot_devserver.tokens import TokenIssuer

if TYPE_CHECKING:
    from pilot_core.api.server import ServerProtocol
    from pilot_devserver.replay.recording import Exchange

__all__ = ["replay_in_process", "replay_over_sockets"]

PILOT_FQANS = ("/wlcg/Role=production",)


def replay_in_process(
    exchanges: Sequence[Exchange], *, known: Mapping[str, ServerProtocol] | None = None
) -> list[Outcome]:
    """Replay against the protocols themselves, with credentials made for it. `known` = the installed ones."""
    clock = SystemClock()
    authority = Authority.create(clock)
    pilot = authority.client("pilot")
    wallet = Wallet(pilot, authority, TokenIssuer.create(clock), clock)
    store = SqliteStore(None, clock=clock, adder_delay=None)
    try:
        asked = installed_protocols(clock, Path.cwd()) if known is None else known
        authenticator = Authenticator(wallet.issuer, {pilot.dn: PILOT_FQANS})
        return replay(exchanges, store, Direct(asked, store, wallet, authenticator))
    finally:
        store.close()


def replay_over_sockets(exchanges: Sequence[Exchange], state_dir: Path) -> list[Outcome]:
    """Replay against the running server of a state directory; its database is prepared from here."""
    from pilot_devserver.replay.sockets import Sockets  # noqa: PLC0415
    from pilot_devserver.statedir import StateDir  # noqa: PLC0415

    clock = SystemClock()
    state = StateDir(state_dir, clock)
    running = state.running()
    if running is None:
        raise BadInput(f"{state_dir}: no server runs there; start one with pilot-core serve --state-dir {state_dir}")
    wallet = Wallet(state.pilot(), state.authority(), state.tokens(), clock)
    store = SqliteStore(state.database, clock=clock, adder_delay=None)
    try:
        if store.counts():
            raise BadInput(f"{state.database}: has jobs already; start the server with a new --state-dir")
        return replay(exchanges, store, Sockets(running, state.ca_file, wallet))
    finally:
        store.close()
