"""The client of the server's own interface (`admin.py`), for the commands and the demo."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilot_core.errors import BadInput, CommunicationError, RequestRefused

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_devserver.statedir import StateDir

__all__ = ["AdminClient", "running_server"]

PREFIX = "/devserver/v1/"


def running_server(state: StateDir) -> AdminClient:
    """Return a client of the server that runs with a state directory; raises `CommunicationError` if none does."""
    running = state.running()
    if running is None:
        raise CommunicationError(
            f"no server runs with the state directory {state.path}; start one (pilot-core serve), or name another "
            "with --state-dir"
        )
    return AdminClient(running.admin_url or running.url, state.ca_file, state.admin_cert, state.admin_key)


class AdminClient:
    """Asks one server; every call is a connection of its own. Safe to use from several threads.

    Its methods raise `CommunicationError` if the server does not answer, `RequestRefused` if it does not want to,
    `BadInput` if what is asked for is not there.
    """

    def __init__(self, url: str, ca_file: Path, cert: Path, key: Path) -> None:
        self.url = url
        self._address = urlsplit(url)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._tls.load_verify_locations(ca_file)
            self._tls.load_cert_chain(cert, key)
        except OSError as error:
            raise CommunicationError(f"cannot use {ca_file} and {cert} ({error}); start the server again") from None

    def get(self, path: str) -> Any:
        """Return the answer to a GET."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer to a POST of JSON."""
        return self._ask("POST", path, json.dumps(dict(body or {})).encode())

    def changes(self) -> Iterator[dict[str, Any]]:
        """Yield every job, then `{"listed": true}`, then each job again when it changes, until the server ends."""
        try:
            with closing(self._connect()) as connection:
                connection.request("GET", f"{PREFIX}changes")
                response = connection.getresponse()
                if response.status != 200:
                    raise RequestRefused(f"{self.url} refused the stream of changes: HTTP {response.status}")
                while line := response.readline():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address.hostname or "", self._address.port, context=self._tls)

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        try:
            with closing(self._connect()) as connection:
                connection.request(method, PREFIX + path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        try:
            answer: Any = json.loads(content)
        except ValueError:
            raise CommunicationError(f"{self.url} answers HTTP {response.status} without JSON: is it ours?") from None
        if response.status != 200:
            text = answer.get("error", f"HTTP {response.status}")
            # 404: what was asked for is not there, which is no fault of the server's
            raise BadInput(text) if response.status == 404 else RequestRefused(f"{self.url}: {text}")
        return answer

    def _unreachable(self, error: Exception) -> CommunicationError:
        return CommunicationError(f"{self.url} does not answer ({error}); is 'pilot-core serve' still running?")
