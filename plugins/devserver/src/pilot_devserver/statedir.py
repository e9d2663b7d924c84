"""The server's directory: keys and certificates, tokens, roles, storages, the database; made once, then used again."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pilot_core.errors import ConfigError
from pilot_devserver.certificates import Authority, Credential, covers, make_proxy, slash_dn
from pilot_devserver.files import write_file, write_secret
from pilot_devserver.tokens import TokenIssuer, read_key

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock

__all__ = ["TOKEN_ORIGIN", "Running", "StateDir"]

TOKEN_ORIGIN = "wlcg.production"  # noqa: S105  (the role that the token is for)
HOSTS = ("localhost", "127.0.0.1", "::1")
RENEW_BEFORE = timedelta(days=1)
"""What is valid for less than this is made anew at the server's start."""
PILOT_FQANS = ("/wlcg/Role=production", "/wlcg/Role=pilot")
ROLES_TEXT = """\
# Which VOMS attributes the holder of a certificate has: the development server does not read VOMS extensions.
# A pilot needs Role=production; whoever is not listed has none.
[fqans]
{dn} = {fqans}
"""


@dataclass(frozen=True)
class Running:
    """How a running server is reached, as its state directory says."""

    url: str
    plain_url: str
    """Empty = it serves no plain HTTP."""
    pid: int
    admin_url: str = ""
    """Where its own commands reach it even while faults keep everybody else away; empty = at `url`."""


class StateDir:
    """One server's files. `prepare` makes what is missing or too old; nothing else changes them."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path.absolute()
        self._clock = clock
        self.ca_file = self.path / "ca.pem"
        self.server_cert, self.server_key = self.path / "server.pem", self.path / "server.key"
        self.pilot_cert, self.pilot_key = self.path / "pilot.pem", self.path / "pilot.key"
        self.pilot_proxy = self.path / "pilot-proxy.pem"
        self.user_cert, self.user_key = self.path / "user.pem", self.path / "user.key"
        self.admin_cert, self.admin_key = self.path / "admin.pem", self.path / "admin.key"
        self.token_file = self.path / "pilot.token"
        self.roles_file = self.path / "roles.toml"
        self.config_file = self.path / "pilot.toml"
        self.database = self.path / "jobs.sqlite"
        self.transformations = self.path / "trf"
        self.storage = self.path / "storage"
        self._running_file = self.path / "server.json"
        self._token_key = self.path / "token-key.pem"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the directory for one server while it lasts; raises `ConfigError` if another one has it."""
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                file = stack.enter_context((self.path / "lock").open("wb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"another server runs with the state directory {self.path}; end it, or name another by --state-dir"
                ) from None
            except OSError as error:
                raise self._unusable(error) from None
            yield

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(f"state directory {self.path}: {error.strerror or error}; name another by --state-dir")

    def prepare(self, hosts: Sequence[str] = ()) -> None:
        """Make the directory and whatever in it is missing, does not belong together or ends soon.

        `hosts` are names and addresses of the server beside those of the loopback. Raises `ConfigError`.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.transformations, self.storage):
                folder.mkdir(exist_ok=True)
            self._prepare_certificates([*dict.fromkeys((*HOSTS, *hosts))])
            self._prepare_token()
        except OSError as error:
            raise self._unusable(error) from None

    # -- certificates ----------------------------------------------------------------------------------------------

    def authority(self) -> Authority:
        """Return the certificate authority; raises `ConfigError` if its files are damaged."""
        return Authority(self._load(self.ca_file, self.path / "ca.key"), self._clock)

    def pilot(self) -> Credential:
        """Return the pilot's certificate with its key."""
        return self._load(self.pilot_cert, self.pilot_key)

    def _prepare_certificates(self, hosts: Sequence[str]) -> None:
        ca_key = self.path / "ca.key"
        renewed = not self._lasts(self.ca_file, ca_key)
        if renewed:
            self._save(Authority.create(self._clock).credential, self.ca_file, ca_key)
        authority = self.authority()
        lasts = self._lasts(self.server_cert, self.server_key)
        if renewed or not lasts or not covers(self.server_cert.read_bytes(), hosts):
            self._save(authority.server(hosts), self.server_cert, self.server_key)
        for name, cert, key in (
            ("pilot", self.pilot_cert, self.pilot_key),
            ("user", self.user_cert, self.user_key),
            ("admin", self.admin_cert, self.admin_key),
        ):
            if renewed or not self._lasts(cert, key):
                self._save(authority.client(name), cert, key)
        pilot = self.pilot()
        if not self.roles_file.exists():
            text = ROLES_TEXT.format(dn=json.dumps(pilot.dn), fqans=json.dumps(list(PILOT_FQANS)))
            write_file(self.roles_file, text)
        proxy = self._end(self.pilot_proxy)
        if renewed or proxy is None or proxy <= self._soon():
            write_secret(self.pilot_proxy, make_proxy(pilot, self._clock).bundle_pem)

    def _save(self, credential: Credential, cert: Path, key: Path) -> None:
        write_secret(key, credential.key_pem)
        write_file(cert, credential.certificate_pem)

    def _load(self, cert: Path, key: Path) -> Credential:
        try:
            private = serialization.load_pem_private_key(key.read_bytes(), password=None)
            if not isinstance(private, ec.EllipticCurvePrivateKey):
                raise ConfigError(f"{key}: not one of this server's keys; remove {self.path} and start again")
            return Credential(x509.load_pem_x509_certificate(cert.read_bytes()), private)
        except (ValueError, OSError) as error:
            raise ConfigError(f"{cert} and {key.name}: {error}; remove {self.path} and start again") from None

    def _lasts(self, cert: Path, key: Path) -> bool:
        """Say whether a certificate with its key is there and valid for a while."""
        end = self._end(cert)
        return key.exists() and end is not None and end > self._soon()

    def _soon(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), tz=timezone.utc) + RENEW_BEFORE

    @staticmethod
    def _end(cert: Path) -> datetime | None:
        """Return the end of a certificate's validity; None if there is none to read."""
        try:
            return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc
        except (ValueError, OSError):
            return None

    # -- tokens and roles ------------------------------------------------------------------------------------------

    def _prepare_token(self) -> None:
        if not self._token_key.exists():
            write_secret(self._token_key, TokenIssuer.create(self._clock).key_pem)
        # one for every start: its lifetime is short, and making it costs a millisecond
        write_secret(self.token_file, self.tokens().issue(seconds=7 * 86400) + "\n")

    def tokens(self) -> TokenIssuer:
        """Return the issuer of this server's tokens."""
        try:
            return TokenIssuer(read_key(self._token_key.read_bytes()), self._clock)
        except (ValueError, OSError) as error:
            raise ConfigError(f"{self._token_key}: {error}; remove it and start the server again") from None

    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """Return the FQANs by DN from `roles.toml`; raises `ConfigError` if the file makes no sense."""
        try:
            table: Any = tomli.loads(self.roles_file.read_text(encoding="utf-8")).get("fqans", {})
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.roles_file}: {error}; correct it, or remove it and start again") from None
        if not isinstance(table, dict) or not all(
            isinstance(fqans, list) and all(isinstance(fqan, str) for fqan in fqans) for fqans in table.values()
        ):
            raise ConfigError(f'{self.roles_file}: must be like [fqans] with "/O=x/CN=y" = ["/vo/Role=production"]')
        return {dn: tuple(fqans) for dn, fqans in table.items()}

    def admin_dn(self) -> str:
        """Return the DN of the certificate that may use the server's own interface."""
        return slash_dn(x509.load_pem_x509_certificate(self.admin_cert.read_bytes()).subject)

    # -- the running server ----------------------------------------------------------------------------------------

    def set_running(self, running: Running) -> None:
        """Leave word of how this server is reached."""
        write_file(self._running_file, json.dumps(vars(running)))

    def clear_running(self) -> None:
        """Take that word back."""
        self._running_file.unlink(missing_ok=True)

    def running(self) -> Running | None:
        """Return how the server of this directory is reached; None if none was started or the last one ended."""
        try:
            return Running(**json.loads(self._running_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{self._running_file}: {error}; start the server again") from None
