"""A real XRootD server on loopback: `root://`, `roots://`, logins by X.509 and by token, HTTP(S) beside it.

Needs the programs of the Debian packages xrootd-server and xrootd-client (`bin:xrootd`).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilot_core.api.clock import Event, SystemClock
from pilot_core.testing import DirectoryStorage
from pilot_core.testing.servers.common import account_of, end, free_ports

if TYPE_CHECKING:
    from typing_extensions import Self

    from pilot_core.testing.tls import TestAuthority

__all__ = ["XrootdServer", "XrootdStorage", "XrootdTls"]

PATIENCE = 30.0
"""Seconds for the server to begin, and to end."""
ACCOUNTS = ("xrootd", "nobody")
"""Who the server runs as where the superuser starts it, which it refuses."""
SHORT = Path("/tmp")  # noqa: S108  (names of its sockets may have 107 bytes only)
EXPORT = "/store"
"""The path below which the server shows its files."""
TRIES = 3
"""How often another port is tried: somebody may take the one that was free."""


@dataclass(frozen=True, kw_only=True)
class XrootdTls:
    """What a server with TLS has: PEM files that only their owner writes, and a folder of authorities by hash."""

    certificate: Path
    key: Path
    """For gsi: RSA."""
    authorities: Path
    """A folder as /etc/grid-security/certificates; `TestAuthority` (`pilot_core.testing.tls`) makes one."""

    @classmethod
    def of(cls, authority: TestAuthority) -> XrootdTls:
        """Have an authority issue a certificate for localhost."""
        certificate, key = authority.server_files()
        return cls(certificate=certificate, key=key, authorities=authority.folder_of_authorities())


class XrootdServer:
    """One server process; use it in a `with` block, at whose end it and its files are gone.

    `login` is what clients have to log in with: nothing, or `gsi` (an X.509 proxy), which needs `tls`. `more` are
    further lines of its configuration, `options` those of its export (`r/o`); its files lie below `data`, a folder of
    its own by itself.
    """

    def __init__(
        self,
        *,
        http: bool = False,
        tls: XrootdTls | None = None,
        login: str = "",
        more: tuple[str, ...] = (),
        data: Path | None = None,
        options: str = "",
        checksums: bool = True,
    ) -> None:
        self.account = account_of("xrootd", ACCOUNTS)
        self.home = Path(tempfile.mkdtemp(prefix="xrootd-", dir=SHORT))
        self.data = data or self.home / "data"
        """The folder that the server exports; its files lie below `folder`."""
        self.folder = self.data / EXPORT.strip("/")
        """Where the files of `url` lie."""
        self.more = more
        self.port = 0
        self.http_port = 0
        self._options = options
        self._checksums = checksums
        self._http = http
        self._tls = tls
        self._login = login
        self._clock = SystemClock()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._log: list[str] = []
        self._awaited: list[tuple[re.Pattern[str], Event]] = []

    # -- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            for folder in (
                self.home,
                self.data,
                self.folder,
                self.home / "admin",
                self.home / "run",
                self.home / "tls",
            ):
                folder.mkdir(exist_ok=True)
                self.give(folder)
            self.home.chmod(0o755)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self) -> None:
        """Start it, on the ports that it had before; raises `RuntimeError`, with its log, if it does not begin."""
        chosen = bool(self.port)
        for _ in range(TRIES):
            if not chosen:
                self.port, self.http_port = free_ports(2)
            if self._began():
                return
            self.stop()
        raise RuntimeError(f"xrootd did not start:\n{self.log()}")

    def stop(self) -> None:
        """End it and wait for that; its ports stay its own for `start`."""
        process, self._process = self._process, None
        end(process)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def freeze(self) -> None:
        """Have it stand still: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what it wrote."""
        return "".join(self._log)

    def await_log(self, pattern: str) -> None:
        """Return once it has written a line with this regular expression; raises `TimeoutError` after half a minute."""
        written = Event()
        with self._lock:
            if any(re.search(pattern, line) for line in self._log):
                return
            self._awaited.append((re.compile(pattern), written))
        if not self._clock.wait(written, until=self._clock.monotonic() + PATIENCE):
            raise TimeoutError(f"xrootd wrote nothing like {pattern!r}:\n{self.log()}")

    # -- where it is -----------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Host and port."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """The URL of `folder`."""
        return f"{'roots' if self._tls else 'root'}://{self.address}/{EXPORT}"

    @property
    def http_url(self) -> str:
        """The URL of `folder` over HTTP or, with TLS, HTTPS."""
        return f"{'https' if self._tls else 'http'}://localhost:{self.http_port}{EXPORT}"

    def give(self, path: Path) -> None:
        """Make a file or folder the server's own."""
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def _began(self) -> bool:
        """Start the process and return whether it is ready."""
        config = self.home / "xrootd.cfg"
        config.write_text("\n".join(self._config()) + "\n", encoding="utf-8")
        account = self.account
        groups: dict[str, object] = {}
        if account is not None:
            groups = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "xrootd", "-I", "v4", "-n", "test", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.home,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": str(self.home)},
            start_new_session=True,
            **groups,  # type: ignore[call-overload]
        )
        ready, ended = Event(), Event()
        threading.Thread(target=self._listen, args=(self._process, ready, ended), daemon=True).start()
        self._clock.wait(ready, ended, until=self._clock.monotonic() + PATIENCE)
        return ready.is_set()

    def _listen(self, process: subprocess.Popen[bytes], ready: Event, ended: Event) -> None:
        """Read the log until its end."""
        assert process.stderr is not None  # noqa: S101  (asked for)
        with process.stderr as stream:
            for line in stream:
                text = line.decode("utf-8", "replace")
                with self._lock:
                    self._log.append(text)
                    awaited = [event for pattern, event in self._awaited if pattern.search(text)]
                for event in awaited:
                    event.set()
                if re.search(r"xrootd \S+ initialization completed", text):
                    ready.set()
        ended.set()

    def _config(self) -> list[str]:
        """Return the lines of its configuration."""
        lines = [
            "all.role server",
            f"all.adminpath {self.home}/admin",
            f"all.pidpath {self.home}/run",
            f"oss.localroot {self.data}",
            f"all.export {EXPORT} {self._options}".strip(),
            f"xrd.port {self.port}",
            "xrd.allow host localhost",
            "xrd.allow host 127.0.0.1",
            "xrd.network nodnr norpipa",
            "ofs.persist manual hold 1",
        ]
        if self._checksums:
            lines.append("xrootd.chksum max 4 adler32 crc32 crc32c md5")
        if self._http:
            lines += [f"xrd.protocol XrdHttp:{self.http_port} libXrdHttp.so", "http.listingdeny no"]
        if self._tls:
            lines += self._tls_config(self._tls)
        return [*lines, *self.more]

    def _tls_config(self, tls: XrootdTls) -> list[str]:
        """Return the lines for TLS and logins; copies the files, for the server reads its own account's only."""
        own = self.home / "tls"
        for source, name, mode in ((tls.certificate, "host.pem", 0o644), (tls.key, "host-key.pem", 0o400)):
            (own / name).unlink(missing_ok=True)
            shutil.copyfile(source, own / name)
            (own / name).chmod(mode)
            self.give(own / name)
        shutil.rmtree(own / "ca", ignore_errors=True)
        shutil.copytree(tls.authorities, own / "ca")
        (own / "ca").chmod(0o755)
        for path in (own / "ca").iterdir():
            path.chmod(0o644)
        lines = [
            f"xrd.tls {own}/host.pem {own}/host-key.pem",
            f"xrd.tlsca certdir {own}/ca",
            "xrootd.tls capable all",
        ]
        if self._http:
            lines += ["http.httpsmode manual", f"http.cert {own}/host.pem", f"http.key {own}/host-key.pem"]
            lines += [f"http.cadir {own}/ca"]
        if self._login:
            how = f"-certdir:{own}/ca -cert:{own}/host.pem -key:{own}/host-key.pem -crl:0 -gmapopt:10"
            lines += ["xrootd.seclib libXrdSec.so", f"sec.protocol gsi {how}", "sec.protbind * only gsi"]
        return lines


class XrootdStorage(DirectoryStorage):
    """What the kit for stagers needs: a folder that a server exports, and trouble with that server."""

    def __init__(self, server: XrootdServer, folder: str) -> None:
        super().__init__(server.folder / folder, f"{server.url}/{quote(folder)}", direct=False)
        server.give(self.folder)
        self.server = server
        self._elsewhere: dict[str, str] = {}

    def url(self, name: str) -> str:
        """Return the URL of a file."""
        prefix = self._elsewhere.get(name, self.prefix)
        return f"{prefix}/{quote(name, safe='/')}"

    def put(self, name: str, data: bytes) -> None:
        """Write a file, which is the server's own, like the folders that it needs."""
        path = self.path(name)
        missing = [folder for folder in path.parents if not folder.exists()]
        super().put(name, data)
        for made in (path, *missing):
            self.server.give(made)

    def reach(self, name: str, port: int) -> None:
        """From now on a file is reached through another port of this machine."""
        self._elsewhere[name] = self.prefix.replace(f":{self.server.port}/", f":{port}/", 1)

    def down(self) -> None:
        """From now on the storage does not answer."""
        self.server.stop()
