"""Clauses for credentials and the company they keep: TLS is verified, tokens stay home, the environment has no say."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilot_core.api.clock import Event, SystemClock
from pilot_core.errors import HandledError
from pilot_core.testing.kits.canary import CANARY, CanaryCredential, shows_secret
from pilot_core.testing.kits.communicator_base import CommunicatorBase, check_text
from pilot_core.testing.kits.communicator_samples import plain_job, plain_update
from pilot_core.testing.tls import TestAuthority

if TYPE_CHECKING:
    from pilot_core.testing.kits.communicator_base import HurriedClock, Link
    from pilot_core.testing.kits.otherside import OtherSide

__all__ = ["SecretClauses"]

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
NOBODY = "http://127.0.0.1:9"
"""Where nobody listens (the discard port)."""


class Eavesdropper:
    """Listens on a plain port, says nothing, and keeps what it is told."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = Event()
        self._clock = SystemClock()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def listen(self) -> None:
        """Take connections and what comes on them until `stop`."""
        connections: list[socket.socket] = []
        with self._listener:
            while True:
                self._clock.wait(self._listener, *connections, self._stop)
                if self._stop.is_set():
                    break
                for thing in [self._listener, *connections]:
                    if self._clock.wait(thing, until=0.0):
                        self._take(thing, connections)
        for connection in connections:
            connection.close()

    def _take(self, thing: socket.socket, connections: list[socket.socket]) -> None:
        if thing is self._listener:
            connections.append(thing.accept()[0])
            return
        data = b""
        with contextlib.suppress(OSError):
            data = thing.recv(65536)
        self.heard += data
        if not data:
            connections.remove(thing)
            thing.close()

    def stop(self) -> None:
        """End it."""
        self._stop.set()


class SecretClauses(CommunicatorBase):
    """Credentials, TLS, the environment, the server's address."""

    def needs_tls(self, server: OtherSide) -> Path:
        """Leave a clause out where the other side speaks no TLS; return its authority's file."""
        if server.ca_file is None:
            self.does_not_apply("the other side speaks no TLS")
        return Path(str(server.ca_file))

    @pytest.fixture
    def stranger(self, tmp_path: Path) -> Path:
        """The file of an authority that the server's certificate is not from."""
        folder = tmp_path / "stranger"
        folder.mkdir()
        return TestAuthority(folder, "Somebody Else").ca_file

    def test_the_credential_is_sent_and_not_in_an_address(self, running: Link, server: OtherSide) -> None:
        """The server gets to see the credential with each request, and never as part of the address."""
        self.needs_tls(server)
        running.update()
        assert shows_secret(server.seen()), "the credential of the context was not sent"
        first_lines = [
            line for line in server.seen().splitlines() if " /" in line and ": " not in line.partition(" /")[0]
        ]
        assert not any(map(shows_secret, first_lines)), "the credential is in the address, which every proxy logs"

    @pytest.mark.parametrize("call", ["acquire", "update", "is_alive"])
    def test_a_server_that_repeats_the_credential_tells_nobody(
        self, call: str, running: Link, server: OtherSide
    ) -> None:
        """An error text of the server that has the credential in it is not passed on with it."""
        self.need(server, "echo")
        server.fault("echo", times=None)
        running.seconds = 60.0
        try:
            answer = getattr(running, call)()
        except HandledError as error:
            check_text(error, f"{call}, when the server repeats the credential")
        else:
            assert answer is False, f"the server refused, and {call} returned {answer!r}"

    def test_it_does_not_show_in_a_repr(self, link: Link) -> None:
        """The communicator's repr does not show the credential."""
        link.is_alive()
        assert not shows_secret(repr(link.communicator)), "repr() of the communicator shows the credential"
        assert not shows_secret(str(vars(link.communicator))) if hasattr(link.communicator, "__dict__") else True

    def test_no_credential_goes_in_the_clear(self, connect: Callable[..., Link], server: OtherSide) -> None:
        """A credential is never sent over plain http, whatever URL is configured."""
        self.needs_tls(server)
        import threading  # noqa: PLC0415

        ear = Eavesdropper()
        thread = threading.Thread(target=ear.listen, name="kit", daemon=True)
        thread.start()
        try:
            for call in ("is_alive", "acquire", "update"):
                with contextlib.suppress(HandledError):
                    link = connect(server_url=ear.url, clock=SystemClock(), credential=CanaryCredential())
                    link.seconds = 0.3
                    getattr(link, call)()
        finally:
            ear.stop()
            thread.join()
        heard = ear.heard.decode("latin-1")
        assert not shows_secret(heard), "the credential was sent over plain http"

    @pytest.mark.parametrize("trust", ["somebody else's authority", "the machine's authorities"])
    def test_an_untrusted_server_is_told_nothing(
        self, trust: str, connect: Callable[..., Link], server: OtherSide, stranger: Path
    ) -> None:
        """A server whose certificate is from nobody that is trusted is an error, and gets no request."""
        self.needs_tls(server)
        server.offer(plain_job())
        link = connect(ca_file=stranger if "else" in trust else None)
        link.seconds = 60.0
        error = self.refused(link.acquire, HandledError, what=f"acquire, trusting {trust}")
        assert "certif" in str(error).lower() or "tls" in str(error).lower(), f"the error does not say why: {error}"
        self.refused(link.update, HandledError, what=f"update, trusting {trust}")
        assert server.requests() == 0, "a request was sent to a server that is not trusted"
        assert not server.dispatched()

    @pytest.mark.parametrize("fault", ["wrong-name", "expired-certificate"])
    def test_a_wrong_certificate_is_an_error(self, fault: str, link: Link, server: OtherSide) -> None:
        """A certificate that is another host's, or has expired, is an error, and no request is sent."""
        self.needs_tls(server)
        self.need(server, fault)
        server.fault(fault)
        link.seconds = 60.0
        self.refused(link.acquire, HandledError, what=f"acquire, with a certificate that is wrong ({fault})")
        assert server.requests() == 0, "a request was sent to a server that may be anybody"

    def test_the_environment_has_no_say(
        self,
        connect: Callable[..., Link],
        server: OtherSide,
        stranger: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Proxies, authorities and passwords come from the pilot's settings, not from variables or a .netrc."""
        home = tmp_path / "home"
        home.mkdir()
        netrc = home / ".netrc"
        netrc.write_text("machine 127.0.0.1 login kit password from-netrc\ndefault login kit password from-netrc\n")
        netrc.chmod(0o600)
        with monkeypatch.context() as patch:
            for name in PROXIES:
                patch.setenv(name, NOBODY)
            for name in BUNDLES:
                patch.setenv(name, str(stranger))
            for name in ("NO_PROXY", "no_proxy"):
                patch.delenv(name, raising=False)
            patch.setenv("HOME", str(home))
            patch.setenv("NETRC", str(netrc))
            link = connect()
            link.seconds = 60.0
            server.offer(plain_job())
            assert [job.id for job in link.acquire()] == [plain_job().id], "variables of the environment led it astray"
            link.update(plain_update())
        assert server.requests() == 2
        assert "Basic " not in server.seen(), "a password out of .netrc was sent"
        if server.ca_file is not None:
            assert shows_secret(server.seen(), CANARY), "a .netrc took the place of the credential"

    # -- the server's address ------------------------------------------------------------------------------------

    def test_making_it_asks_nobody(self, connect: Callable[..., Link], server: OtherSide) -> None:
        """Making a communicator sends nothing, and works while the server is down."""
        self.need(server, "refuse")
        server.fault("refuse")
        connect()
        server.heal()
        assert server.requests() == 0, "the factory talked to the server; a call should"

    @pytest.mark.parametrize(
        "url", ["no-url", "http://", "https://", "ftp://kit.example", "https://a b/", "https://kit.example:port"]
    )
    def test_a_wrong_address_is_told(self, url: str, connect: Callable[..., Link], clock: HurriedClock) -> None:
        """A server URL that is none is an error in one line that names it, when it is made or first used."""
        clock.patience = 1.0

        def use() -> object:
            link = connect(server_url=url)
            link.seconds = 5.0
            return link.update()

        self.refused(use, HandledError, what=f"the server URL {url!r}")

    def test_a_path_before_the_protocols_own_is_kept(self, connect: Callable[..., Link], server: OtherSide) -> None:
        """A server URL with a path (behind a portal) is used with it."""
        if not server.url.startswith("http"):
            self.does_not_apply("the protocol is no HTTP")
        link = connect(server_url=f"{server.url}/portal/panda")
        link.seconds = 5.0
        with contextlib.suppress(HandledError):
            link.acquire()
        assert "/portal/panda/" in server.seen(), "the path of the server's URL was left out"
