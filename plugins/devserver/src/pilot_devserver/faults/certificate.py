"""Another server certificate: expired, of another host, of an authority that nobody trusts, or just a new one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_devserver.certificates import Authority, Credential, hosts_of
from pilot_devserver.files import write_secret

if TYPE_CHECKING:
    import ssl

    from pilot_core.api.clock import Clock
    from pilot_devserver.statedir import StateDir

__all__ = ["CertificateChanger"]

WRONG_HOST = "elsewhere.example"


class CertificateChanger:
    """Changes what the server's TLS shows to new connections; open ones stay as they are. Use it in the event loop."""

    def __init__(self, context: ssl.SSLContext, state: StateDir, clock: Clock) -> None:
        self._context = context
        self._state = state
        self._clock = clock
        self._shown = ""

    def show(self, kind: str) -> None:
        """Show another certificate: `expired`, `wrong-host`, `other-ca` or `renewed`; "" is the server's own."""
        if kind == self._shown:
            return
        if kind:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "server.pem")
                write_secret(file, self._made(kind).bundle_pem)
                self._context.load_cert_chain(file)
        else:
            self._context.load_cert_chain(self._state.server_cert, self._state.server_key)
        self._shown = kind

    def _made(self, kind: str) -> Credential:
        """Make a certificate for the names of the server's own, or for another."""
        authority = Authority.create(self._clock) if kind == "other-ca" else self._state.authority()
        hosts = (WRONG_HOST,) if kind == "wrong-host" else hosts_of(self._state.server_cert.read_bytes())
        return authority.server(hosts, days=-1 if kind == "expired" else 90)
