"""A real Apache with mod_dav on loopback: WebDAV that wants its folders to be made before files are put into them.

Needs the program of the Debian package apache2-bin (`bin:apache2`). Measured with 2.4: a PUT into a folder that is not
there is 409, MKCOL of one that is there 405, a PUT appears whole; no `Digest`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.testing.servers.common import account_of, end, free_ports

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ApacheServer"]

PATIENCE = 30.0
"""Seconds for the server to begin."""
TRIES = 5
"""How often another port is tried: somebody may take the one that was free."""
ACCOUNTS = ("www-data", "nobody")
"""As whom it serves where this process is root: the first that is here."""
_GLANCE = 0.02
"""Seconds between two attempts to connect to a server that starts."""
_MODULES = Path("/usr/lib/apache2/modules")

_CONFIGURATION = """\
ServerRoot {home}
ServerName localhost
PidFile {home}/apache.pid
ErrorLog {home}/error.log
DefaultRuntimeDir {home}
Listen 127.0.0.1:{port}
{account}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule dav_module {modules}/mod_dav.so
LoadModule dav_fs_module {modules}/mod_dav_fs.so
StartServers 1
MinSpareThreads 4
MaxSpareThreads 25
DocumentRoot {home}/data
DavLockDB {home}/locks/lock
KeepAlive On
MaxKeepAliveRequests 0
<Directory {home}/data>
  Dav On
  Require all granted
</Directory>
"""


class ApacheServer:
    """One server, and all that it has in an empty folder; use it in a `with` block, at whose end both are gone.

    Started by the superuser it serves as `www-data` or `nobody`, as whom it has to reach the folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "data" / "store"
        """Where the files of `url` lie."""
        self.port = 0
        self._clock = SystemClock()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            for folder in (self.folder, self.home / "locks"):
                folder.mkdir(parents=True)
                if (account := account_of("Apache", ACCOUNTS)) is not None:
                    os.chown(folder, account.pw_uid, account.pw_gid)
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def url(self) -> str:
        """The URL of `folder`."""
        return f"http://127.0.0.1:{self.port}/store"

    def log(self) -> str:
        """Return what it wrote."""
        log = self.home / "error.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def _start(self) -> None:
        for _ in range(TRIES):
            [self.port] = free_ports(1)
            if self._began():
                return
            self._stop()
        raise RuntimeError(f"apache2 did not start:\n{self.log()}")

    def _began(self) -> bool:
        """Start the process and say whether it answers."""
        program = shutil.which("apache2", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if program is None:
            raise RuntimeError("Apache is not installed: apt-get install apache2-bin")
        account = account_of("Apache", ACCOUNTS)
        config = self.home / "apache.conf"
        config.write_text(
            _CONFIGURATION.format(
                home=self.home,
                port=self.port,
                modules=_MODULES,
                account=f"User {account.pw_name}\nGroup #{account.pw_gid}" if account else "",
            ),
            encoding="utf-8",
        )
        process = self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", program, "-f", str(config), "-D", "FOREGROUND"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.home,
            start_new_session=True,
        )
        until = self._clock.monotonic() + PATIENCE
        while process.poll() is None and self._clock.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            self._clock.wait(until=self._clock.monotonic() + _GLANCE)
        return False

    def _stop(self) -> None:
        process, self._process = self._process, None
        end(process)
