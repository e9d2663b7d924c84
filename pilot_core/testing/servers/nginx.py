"""A real nginx on loopback that takes files in and gives them out: GET, PUT, DELETE, MKCOL, MOVE, over HTTP or HTTPS.

Needs the program of the Debian package nginx-light (`bin:nginx`). Measured with 1.22:
a PUT appears whole (a temporary file, renamed), makes the folders that it needs and answers 201 or 204; MKCOL wants a
slash at the end; no `Digest`; `If-None-Match` of a PUT is not looked at.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilot_core.api.clock import Event, SystemClock
from pilot_core.testing.kits.storage import DirectoryStorage
from pilot_core.testing.servers.common import end, free_ports

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NginxServer", "NginxStorage"]

PATIENCE = 30.0
"""Seconds for the server to begin."""
TRIES = 5
"""How often another port is tried: somebody may take the one that was free."""
EXPORT = "/store"
"""The path below which the files lie."""

_CONFIGURATION = """\
{user}
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
  access_log {home}/access.log;
  sendfile on;
  client_max_body_size 0;
  keepalive_requests 1000000;
  client_body_temp_path {home}/incoming;
  proxy_temp_path {home}/unused;
  fastcgi_temp_path {home}/unused;
  uwsgi_temp_path {home}/unused;
  scgi_temp_path {home}/unused;
  {access}
  server {{
    listen 127.0.0.1:{port}{tls};
    root {data};
    {certificates}
    location / {{
      if ($known = 0) {{ return 403; }}
      if (-f {home}/refuse) {{ return 401; }}
      if (-f {home}/stall$uri) {{ set $limit_rate 1; }}
      limit_rate_after 64k;
      dav_methods PUT DELETE MKCOL MOVE;
      create_full_put_path on;
      dav_access user:rw group:r all:r;
    }}
  }}
}}
"""


class NginxServer:
    """One server, and all that it has in an empty folder; use it in a `with` block, at whose end both are gone.

    With `certificate` (a PEM file with certificate and key) it speaks TLS. `clients`, a PEM file with authorities, and
    `token` say who is let in: whoever has one of the two; without either it is everybody.
    """

    def __init__(
        self, home: Path, *, certificate: Path | None = None, clients: Path | None = None, token: str = ""
    ) -> None:
        self.home = home
        self.data = self.home / "data"
        self.folder = self.data / EXPORT.strip("/")
        """Where the files of `url` lie."""
        self.port = 0
        self._certificate = certificate
        self._clients = clients
        self._token = token
        self._clock = SystemClock()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: list[str] = []

    def __enter__(self) -> Self:
        try:
            for folder in (self.folder, self.home / "stall"):
                folder.mkdir(parents=True)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def url(self) -> str:
        """The URL of `folder`."""
        secure = self._certificate is not None
        return f"{'https' if secure else 'http'}://{'localhost' if secure else '127.0.0.1'}:{self.port}{EXPORT}"

    def start(self) -> None:
        """Start it, on the port that it had before; raises `RuntimeError`, with its log, if it does not begin."""
        tries = 1 if self.port else TRIES
        for _ in range(tries):
            if tries > 1:
                [self.port] = free_ports(1)
            if self._began():
                return
            self.stop()
        raise RuntimeError(f"nginx did not start:\n{self.log()}")

    def stop(self) -> None:
        """End it at once, in whatever it does."""
        process, self._process = self._process, None
        end(process)

    def refuse(self) -> None:
        """From now on let nobody in."""
        (self.home / "refuse").touch()

    def stall(self, path: str) -> None:
        """From now on send a file's first 64 KiB, and then one byte a second; `path` is that of its URL."""
        marker = self.home / "stall" / path.strip("/")
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()

    def log(self) -> str:
        """Return what it wrote."""
        return "".join(self._log)

    def requests(self) -> list[str]:
        """Return the lines of its log of requests."""
        return (self.home / "access.log").read_text(encoding="utf-8").splitlines()

    def _began(self) -> bool:
        """Start the process and say whether it is ready."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if program is None:
            raise RuntimeError("nginx is not installed: apt-get install nginx-light")
        config = self.home / "nginx.conf"
        config.write_text(self._config(), encoding="utf-8")
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", program, "-e", "stderr", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.home,
            start_new_session=True,
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
                self._log.append(text)
                if "start worker process " in text:
                    ready.set()
        ended.set()

    def _config(self) -> str:
        known = "map $host $known { default 1; }"
        if self._clients is not None or self._token:
            known = f"""map "$ssl_client_verify $http_authorization" $known {{
    default 0;
    "~^SUCCESS " 1;
    "~ Bearer {self._token or "."}$" 1;
  }}"""
        certificates = ""
        if self._certificate is not None:
            certificates = f"ssl_certificate {self._certificate}; ssl_certificate_key {self._certificate};"
        if self._clients is not None:
            certificates += f" ssl_client_certificate {self._clients}; ssl_verify_client optional;"
        return _CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            home=self.home,
            data=self.data,
            port=self.port,
            tls=" ssl" if certificates else "",
            access=known,
            certificates=certificates,
        )


class NginxStorage(DirectoryStorage):
    """What the kit for stagers needs: a folder that a server exports, and trouble with that server."""

    def __init__(self, server: NginxServer, folder: str, *, scheme: str = "") -> None:
        self.server = server
        self._scheme = scheme
        super().__init__(server.folder / folder, self._url(folder), direct=False)

    def down(self) -> None:
        """From now on the storage does not answer."""
        self.server.stop()

    def refuse(self) -> None:
        """From now on it takes no credential."""
        self.server.refuse()

    def stall(self, name: str, data: bytes) -> None:
        """Have a file lie there, of which only a part ever arrives."""
        self.put(name, data)
        self.server.stall(f"{EXPORT}/{self.folder.name}/{name}")

    def _url(self, folder: str) -> str:
        scheme, rest = self.server.url.split("://", 1)
        return f"{self._scheme or scheme}://{rest}/{quote(folder)}"
