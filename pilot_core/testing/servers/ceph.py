"""A real Ceph object gateway (S3) on loopback: one monitor, one object store in memory, one `radosgw`.

It checks signatures and digests, which imitations of S3 do not. Needs the Debian packages `ceph-mon`, `ceph-osd`,
`radosgw` and `ceph-common`; ready in two seconds. What is stored stays in the memory of `ceph-osd` until a few seconds
after it was removed, so keep the data small.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.clock import SystemClock
from pilot_core.testing.servers.common import free_ports

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PROGRAMS", "CephGateway"]

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool", "setpriv")
"""What has to be on the PATH."""

PATIENCE = 60.0
"""Seconds in which each step of the start has to be done."""
_GLANCE = 0.02
"""Seconds between two attempts to connect to a server that starts."""

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
keyring = {folder}/keyring
run dir = {folder}
pid file =
admin socket =
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
auth allow insecure global id reclaim = false
# a test's machine may have little room on its disk
mon data avail warn = 2
mon data avail crit = 1
# one copy, few placement groups; and no waiting for other monitors, of which there are none
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
paxos propose interval = 0.02
paxos min wait = 0.01
mon tick interval = 1
# a gateway that was killed is soon forgotten
osd client watch timeout = 2
osd objectstore = memstore
memstore device bytes = 4294967296
memstore page size = 1048576

[client.rgw.a]
rgw data = {folder}/rgw
rgw frontends = beast {endpoints}
rgw enable ops log = false
rgw thread pool size = 32
# a multipart upload of small parts is a test's upload
rgw multipart min part size = {part}
debug rgw = 0
# removed objects leave the memory soon
rgw gc obj min wait = 1
rgw gc processor period = 2
rgw gc processor max time = 2
"""

_CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *"),
    "client.rgw.a": ("mon", "allow rw", "osd", "allow rwx"),
}


class CephGateway:
    """A cluster with an S3 gateway and one user, in an empty folder; use it in a `with` block.

    `certificate` is a PEM file with a server's certificate and key: then it listens with TLS, too. Runs as whoever
    starts it; every process ends with the block, or with the process that started it.
    """

    def __init__(self, folder: Path, *, certificate: Path | None = None, part: int = 5 << 20) -> None:
        self.folder = folder
        self.access_key = "PILOTACCESSKEY"
        self.secret_key = f"pilot/{secrets.token_hex(12)}+"
        self.port, self._monitor, tls_port = free_ports(3)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.tls_endpoint = f"https://localhost:{tls_port}" if certificate else ""
        endpoints = f"endpoint=127.0.0.1:{self.port}"
        if certificate:
            endpoints += f" ssl_endpoint=127.0.0.1:{tls_port}"
            endpoints += f" ssl_certificate={certificate} ssl_private_key={certificate}"
        self._fsid = str(uuid.uuid4())
        self._configuration = _CONFIGURATION.format(
            fsid=self._fsid, folder=folder, monitor=self._monitor, endpoints=endpoints, part=part
        )
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._clock = SystemClock()
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ceph-starter")

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "ceph.conf").write_text(self._configuration, encoding="utf-8")
        try:
            self._start_cluster()
            self.start()
            self.admin("user", "create", "--uid=pilot", "--display-name=pilot", *self._keys())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self._end(name)
        self._starter.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the gateway -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the gateway, and return when it answers; the cluster keeps what was stored."""
        self._daemon("radosgw", "-n", "client.rgw.a")
        self._await_port("radosgw", self.port)

    def stop(self) -> None:
        """End the gateway at once, in whatever it does."""
        self._end("radosgw")

    def admin(self, *arguments: str) -> str:
        """Run `radosgw-admin` and return what it prints (mostly JSON)."""
        return self._run("radosgw-admin", *arguments)

    def limit(self, size: int | None) -> None:
        """Allow the user so many bytes in all, None = no limit; a gateway keeps the old quota for a while."""
        self.admin("quota", "set", "--uid=pilot", "--quota-scope=user", f"--max-size={-1 if size is None else size}")
        self.admin("quota", "disable" if size is None else "enable", "--uid=pilot", "--quota-scope=user")

    def _keys(self) -> tuple[str, str]:
        return f"--access-key={self.access_key}", f"--secret-key={self.secret_key}"

    # -- the cluster -------------------------------------------------------------------------------------------------

    def _start_cluster(self) -> None:
        for number, (name, rights) in enumerate(_CAPABILITIES.items()):
            caps = [word for pair in zip(rights[::2], rights[1::2], strict=True) for word in ("--cap", *pair)]
            made = () if number else ("--create-keyring",)
            self._run("ceph-authtool", str(self.folder / "keyring"), *made, "--gen-key", "-n", name, *caps)
        monmap, disk = str(self.folder / "monmap"), str(uuid.uuid4())
        address = f"[v2:127.0.0.1:{self._monitor}]"
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, monmap)
        for folder in ("mon", "osd", "rgw"):
            (self.folder / folder).mkdir()
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", str(self.folder / "keyring"))
        self._daemon("ceph-mon", "-i", "a")
        self._run("ceph", "osd", "new", disk)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._daemon("ceph-osd", "-i", "0")

    # -- processes ---------------------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        """Return the environment of Ceph's programs: somebody's `CEPH_ARGS` shall not reach another cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CEPH_")}
        return {**kept, "CEPH_CONF": str(self.folder / "ceph.conf")}

    def _run(self, *argv: str) -> str:
        """Run a program to its end and return its stdout; raises `RuntimeError` with its stderr if it fails."""
        process = subprocess.Popen(
            argv,
            env=self._environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = process.communicate()
        if process.returncode:
            text = err.decode(errors="replace").strip()[-2000:]
            raise RuntimeError(f"{argv[0]} {argv[1]} ended with {process.returncode}: {text}")
        return out.decode()

    def _daemon(self, program: str, *arguments: str) -> None:
        """Start a daemon in the foreground; the kernel ends it, should this process die."""

        def begin() -> subprocess.Popen[bytes]:
            with (self.folder / f"{program}.out").open("ab") as out:
                return subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", program, "-f", *arguments],
                    env=self._environment(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )

        # for the kernel it is the thread that must not end (prctl(2), PR_SET_PDEATHSIG)
        self._running[program] = self._starter.submit(begin).result()

    def _end(self, program: str) -> None:
        """Kill a daemon: an orderly end would write the memory's content to disk."""
        process = self._running.pop(program, None)
        if process is not None:
            process.kill()
            process.wait()

    def _await_port(self, program: str, port: int) -> None:
        """Return when somebody listens on the port; raises `RuntimeError` if the daemon dies, or takes too long."""
        end = self._clock.monotonic() + PATIENCE
        while self._clock.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if self._running[program].poll() is not None:
                break
            self._clock.wait(until=self._clock.monotonic() + _GLANCE)
        told = (self.folder / f"{program}.out").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{program} does not listen on port {port} of 127.0.0.1: {told}")
