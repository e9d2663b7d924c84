"""A real Rucio server (REST) on loopback, on SQLite, and what tests have to tell it past its REST interface.

Rucio pins other versions of common libraries than a pilot has, so it is installed in an environment of its own
(`pip install rucio rucio-clients gunicorn`) whose `bin` is on the PATH: `rucio-admin` says where. Ready in about four
seconds. It answers one request at a time: SQLite would refuse some of several.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot_core.testing.servers.common import end
from pilot_core.testing.tls import TestAuthority

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NEEDS", "KnownFile", "RucioServer", "rucio_python"]

NEEDS = "bin:rucio-admin"
"""For `pytest.mark.needs`."""
PATIENCE = 60.0
"""Seconds in which it has to start."""
_DOOR = "/pilot-core-tests"

_CONFIGURATION = """\
[common]
logdir = {folder}
loglevel = INFO

[database]
default = sqlite:///{folder}/rucio.db

[alembic]
cfg = {folder}/alembic.ini

[bootstrap]
userpass_identity = {user}
userpass_pwd = {password}
x509_identity = CN={certificate_name}

[policy]
permission = generic
schema = generic

[core]
geoip_ignore_error = True

[trace]
tracedir = {folder}
brokers = 127.0.0.1
port = 9
topic = /topic/traces
username = nobody
password = nothing

[api]
endpoints = accounts, auth, dids, identities, ping, replicas, rses, rules, scopes, traces
"""
_ALEMBIC = """\
[alembic]
script_location = rucio:db/sqla/migrate_repo
sqlalchemy.url = sqlite:///{folder}/rucio.db
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(message)s
"""
_GUNICORN = """\
bind = "fd://{descriptor}"
workers = 1
worker_class = "gthread"
threads = 1
timeout = 0
keepalive = 60
certfile = {certificate!r}
ca_certs = {authority!r}
cert_reqs = 1

def ssl_context(config, default):
    made = default()
    made.verify_flags |= 0x40  # proxies (RFC 3820) are certificates, too
    return made
"""


def rucio_python() -> Path:
    """Return the Python that has Rucio; raises `FileNotFoundError` where there is none."""
    found = shutil.which("rucio-admin")
    if not found:
        raise FileNotFoundError("rucio-admin is not on the PATH: pip install rucio rucio-clients gunicorn")
    return Path(found).parent / "python"


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """A file that Rucio is to know."""

    scope: str
    lfn: str
    size: int = 0
    adler32: str | None = None
    md5: str | None = None
    places: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """RSE, and path below its prefix; an empty path is Rucio's own."""


class RucioServer:
    """The server, in an empty folder; use it in a `with` block. Its process ends with the block.

    Its account is `root`, known by user and password and by a client certificate of `authority` named `pilot`.
    """

    account, user, password = "root", "pilot", "a password for tests"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = TestAuthority(folder)
        self._wire = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._wire.getsockname()[1])
        self.url = f"https://localhost:{self.port}"
        self._traces_read = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._write_files()
            self._start()
            self._ask("GET", "/ping")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()
        end(self._process)
        self._process = None

    # -- what tests tell it ------------------------------------------------------------------------------------------

    def scope(self, scope: str) -> None:
        """Have a scope."""
        self._do("add_scope", scope=scope)

    def rse(
        self,
        name: str,
        *protocols: str | tuple[str, Mapping[str, int]],
        deterministic: bool = True,
        site: str = "",
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Have a storage with just these protocols, each the URL of its prefix, the preferred one first.

        Beside a URL may stand the priorities by operation, `{"read_lan": 1}`: others are not served then.
        """
        told = []
        for number, protocol in enumerate(protocols, start=1):
            url, priorities = (protocol, {}) if isinstance(protocol, str) else protocol
            every = [f"{what}_{domain}" for what in ("read", "write", "delete") for domain in ("lan", "wan")]
            told.append({"url": url, **(priorities or dict.fromkeys(every, number))})
        known = {**({"site": site} if site else {}), **(attributes or {})}
        self._do("add_rse", rse=name, deterministic=deterministic, protocols=told, attributes=known)

    def file(self, file: KnownFile) -> None:
        """Have a file that lies in just these places. Its name may be one that Rucio's own interface refuses."""
        told = {"size": file.size, "adler32": file.adler32, "md5": file.md5}
        self._do("add_file", scope=file.scope, name=file.lfn, places=list(file.places), **told)

    def dataset(self, scope: str, name: str) -> None:
        """Have a dataset."""
        self._do("add_dataset", scope=scope, name=name)

    def entries(self) -> Sequence[Mapping[str, Any]]:
        """Return every replica that Rucio knows: `scope`, `name`, `rse`, `url`, `guid`, `sizes` ..."""
        return list(self._do("entries"))

    def contents(self, scope: str, name: str) -> Sequence[str]:
        """Return what a dataset holds, as `scope:name`."""
        return list(self._do("contents", scope=scope, name=name))

    def empty(self) -> None:
        """Have it forget every file and token, and what datasets hold."""
        self._do("empty")

    def traces(self) -> Sequence[Mapping[str, Any]]:
        """Return the traces that it had since the last time; `problem` is added to one that Rucio's schema refuses."""
        with (self.folder / "trace").open(encoding="utf-8") as log:
            log.seek(self._traces_read)
            lines = log.read().splitlines()
            self._traces_read = log.tell()
        found: list[dict[str, Any]] = []
        for line in lines:
            if line.startswith('{"'):
                found.append(json.loads(line))
            elif line.startswith("Problem validating") and found:
                found[-1]["problem"] = line
        return found

    # -- what tests do to it -----------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Have it answer nobody, as a machine that hangs."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it answer again."""
        self._signal(signal.SIGCONT)

    def requests(self) -> Sequence[str]:
        """Return the requests that it had since the last time, as `METHOD PATH`, without the tests' own."""
        return list(self._do("asked"))

    def native(self, code: str) -> Any:
        """Run Python with Rucio's own client (`client`) in Rucio's environment; return what it puts into `result`."""
        program = f"import json\nfrom rucio.client import Client\nclient = Client()\n{code}\nprint(json.dumps(result))"
        done = subprocess.Popen(
            [str(rucio_python()), "-c", program],
            env=self._environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = done.communicate()
        if done.returncode:
            raise RuntimeError(f"Rucio's client: {err.decode(errors='replace')[-2000:]}")
        return json.loads(out.splitlines()[-1])

    # -- within ------------------------------------------------------------------------------------------------------

    def _write_files(self) -> None:
        client = {
            "rucio_host": self.url,
            "auth_host": self.url,
            "auth_type": "userpass",
            "username": self.user,
            "password": self.password,
            "account": self.account,
            "ca_cert": self.authority.ca_file,
            "auth_token_file_path": self.folder / "native-token",
        }
        told = {"folder": self.folder, "user": self.user, "password": self.password, "certificate_name": "pilot"}
        client_lines = "\n".join(f"{name} = {value}" for name, value in client.items())
        (self.folder / "rucio.cfg").write_text(_CONFIGURATION.format(**told) + f"\n[client]\n{client_lines}\n")
        (self.folder / "alembic.ini").write_text(_ALEMBIC.replace("{folder}", str(self.folder)))
        gunicorn = _GUNICORN.format(
            descriptor=self._wire.fileno(),
            certificate=str(self.authority.server_file()),
            authority=str(self.authority.ca_file),
        )
        (self.folder / "gunicorn.conf.py").write_text(gunicorn)
        # a copy: beside the original this very module would stand in for the package rucio
        shutil.copyfile(Path(__file__).with_name("rucio_inside.py"), self.folder / "rucio_inside.py")

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUCIO", "X509"))}
        return {
            **kept,
            "RUCIO_CONFIG": str(self.folder / "rucio.cfg"),
            "HOME": str(self.folder),
        }

    def _start(self) -> None:
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(rucio_python()), "-m", "gunicorn", "-c", "gunicorn.conf.py", "rucio_inside:application"],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._wire.fileno()],
                start_new_session=True,
            )
        self._wire.close()  # should it die, whoever connects learns it at once

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("Rucio is not running")
        os.killpg(self._process.pid, number)

    def _do(self, what: str, **told: Any) -> Any:
        return json.loads(self._ask("POST", _DOOR, json.dumps({"do": what, **told}).encode()))

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Ask the server; raises `RuntimeError` with the end of its log if it does not answer well."""
        tls = ssl.create_default_context(cafile=self.authority.ca_file)
        wire = http.client.HTTPSConnection("localhost", self.port, timeout=PATIENCE, context=tls)
        try:
            wire.request(method, path, body, {"Content-Type": "application/json"})
            answer = wire.getresponse()
            said = answer.read()
        except OSError as error:
            raise RuntimeError(f"Rucio does not answer: {error}; its log ends: {self._log_end()}") from error
        finally:
            wire.close()
        if answer.status != 200:
            raise RuntimeError(f"Rucio answered {answer.status}: {said[:500]!r}; its log ends: {self._log_end()}")
        return said

    def _log_end(self) -> str:
        log = self.folder / "server.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""
