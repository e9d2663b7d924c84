"""Who the pilot is towards the storage, and how its client behaves: the environment of a worker process.

XRootD's client takes credentials and authorities from environment variables (XrdSecgsi, XrdSecztn, XrdTls), and its
numbers (XrdClConstants.hh). A worker gets these and next to nothing else, so that nothing in the pilot's own
environment has a part in it, and nothing that lies about in a shared /tmp is used unasked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core import AuthError, ClientCertificate

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline
    from pilot_stager_xrootd.settings import Settings

__all__ = ["Access", "access"]

LARGEST = 1 << 20
"""Bytes that are read of a credential's file."""
USUAL_AUTHORITIES = Path("/etc/grid-security/certificates")
"""Where grid sites keep them; the client's own default."""


@dataclass(frozen=True)
class Access:
    """A worker's environment, and what messages say of it."""

    environment: Mapping[str, str]
    credentials: str
    """What was logged in with, or why with nothing."""
    authorities: str
    """Where the trusted ones are."""


def access(settings: Settings, context: Context, *, cancel: CancelToken, deadline: Deadline) -> Access:
    """Return what a worker starts with now; another one if a credential's file has changed since.

    Raises `AuthError` for a file that the settings name and that cannot be read, and `Cancelled`.
    """
    proxy, trouble = settings.x509_proxy, ""
    if proxy is None:
        proxy, trouble = _pilots_proxy(context, cancel=cancel, deadline=deadline)
    else:
        _look(proxy, "x509_proxy")
    if settings.token_file is not None:
        _look(settings.token_file, "token_file")
    names = ["unix", *(("gsi",) if proxy else ()), *(("ztn",) if settings.token_file else ())]
    environment = {
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
        "HOME": str(context.work_dir),
        # blocks are as large as those that the C library gives back to the system each time, to fault them in anew
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": "268435456",
        "XRD_APPNAME": "pilot-core",
        "XRD_CONNECTIONRETRY": "1",
        # the client itself sets it to 1 for the rest of its life once TLS has failed; what the environment says stays
        "XRD_NOTLSOK": "0",
        "XRD_CONNECTIONWINDOW": str(settings.connect_timeout),
        "XRD_REDIRECTLIMIT": str(settings.redirects),
        "XRD_STREAMERRORWINDOW": "0",
        "XRD_STREAMTIMEOUT": str(settings.stall_timeout),
        "XRD_TIMEOUTRESOLUTION": "1",
        "XrdSecPROTOCOL": ",".join(names),
        **_authorities(settings, context),
    }
    if proxy is not None:
        environment["X509_USER_PROXY"] = str(proxy.absolute())
    if settings.token_file is not None:
        environment["BEARER_TOKEN_FILE"] = str(settings.token_file.absolute())
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    # not read by anything: it makes the environment another one when a credential has been renewed
    environment["PILOT_CREDENTIALS"] = " ".join(_version(path) for path in (proxy, settings.token_file) if path)
    shown = [f"{what} {path}" for what, path in (("proxy", proxy), ("token", settings.token_file)) if path]
    none = "no credential was given (stager.xrootd.x509_proxy, stager.xrootd.token_file)"
    return Access(
        environment,
        credentials=trouble or (f"logged in with {' and '.join(shown)}" if shown else none),
        authorities=environment.get("X509_CERT_FILE") or environment["X509_CERT_DIR"],
    )


def _pilots_proxy(context: Context, *, cancel: CancelToken, deadline: Deadline) -> tuple[Path | None, str]:
    """Return the file of the pilot's own proxy, and what is wrong with its credential."""
    if context.credential is None:
        return None, ""
    try:
        found = context.credential.credential(cancel=cancel, deadline=deadline)
    except AuthError as error:
        return None, str(error)  # a storage that asks for none can be used all the same
    if isinstance(found, ClientCertificate) and found.cert_file == found.key_file:
        return found.cert_file, ""
    return None, ""  # the token is for the PanDA server alone


def _authorities(settings: Settings, context: Context) -> dict[str, str]:
    """Return where the authorities are: what the site says, else what grids have, else the pilot's own."""
    folder, file = settings.ca_dir, settings.ca_file
    if folder is None and USUAL_AUTHORITIES.is_dir():
        folder = USUAL_AUTHORITIES
    if folder is None and file is None and context.ca_file is not None:
        folder, file = (context.ca_file, None) if context.ca_file.is_dir() else (None, context.ca_file)
    if folder is None and file is None:
        folder = USUAL_AUTHORITIES  # so that the message names it
    told = {"X509_CERT_DIR": folder, "X509_CERT_FILE": file}
    return {name: str(path.absolute()) for name, path in told.items() if path is not None}


def _look(path: Path, setting: str) -> None:
    """Raise `AuthError` unless a credential's file can be read, and a proxy's has a certificate and its key.

    With another file the client has no TLS, and does not say why.
    """
    wanted = (b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----") if setting == "x509_proxy" else ()
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST) if wanted else b""
    except OSError as error:
        raise AuthError(f"stager.xrootd.{setting}: {path}: {error.strerror}; renew or correct it") from None
    if not all(mark in content for mark in wanted):
        raise AuthError(f"stager.xrootd.{setting}: {path}: holds no proxy, a certificate with its key (PEM); renew it")


def _version(path: Path) -> str:
    """Return a text that changes when the file is replaced or written."""
    try:
        found = path.stat()
    except OSError:
        return "gone"
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
