"""What a site can set, in the table `[stager.http]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilot_core import ConfigError, setting

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Each field is a key of the table, and `--set stager.http.KEY=value`."""

    token_file: Path | None = setting(
        None, help="file with a bearer token for the storages; read again when it changes", metavar="FILE"
    )
    token_over_http: bool = setting(False, help="send the token over http, too, where everybody can read it")
    x509_proxy: Path | None = setting(
        None, help="X.509 proxy, or certificate, with its key (PEM); by itself the pilot's own", metavar="FILE"
    )
    x509_key: Path | None = setting(None, help="private key (PEM), if it is not in the proxy's file", metavar="FILE")
    use_pilot_certificate: bool = setting(
        True, help="without x509_proxy, present the X.509 credential that the pilot has for its server"
    )
    ca_file: Path | None = setting(
        None, help="certificate authorities to trust (PEM); by itself the pilot's, else the system's", metavar="FILE"
    )
    ca_dir: Path | None = setting(
        None, help="directory of authorities by hash, such as /etc/grid-security/certificates", metavar="DIR"
    )
    proxy: str = setting(
        "", help="URL of an HTTP proxy (http://host:port), or `none`; by itself the pilot's own", metavar="URL"
    )
    connect_timeout: float = setting(30.0, help="seconds for each address to answer, and for TLS to begin", minimum=0.1)
    timeout: float = setting(120.0, help="seconds without a byte after which a storage is given up", minimum=0.1)
    resumes: int = setting(3, help="how often a fetch that was cut goes on where it ended, by itself", minimum=0)
    expect_from: int = setting(
        1 << 20, help="bytes of a file from which `Expect: 100-continue` asks before it is sent", minimum=0
    )
    verify: str = setting(
        "checksum",
        help="what of a stored file is compared afterwards, as far as the storage tells it",
        choices=("checksum", "size"),
    )
    temporary_names: bool = setting(
        False, help="store under a temporary name and MOVE: for storages that show files while they come"
    )
    insecure_redirects: bool = setting(False, help="follow a redirect from https to http")

    def check(self) -> None:
        """Raise `ConfigError`, in one line, for values that make no sense together or on this machine."""
        for name, path in (("ca_file", self.ca_file), ("ca_dir", self.ca_dir)):
            there = path is None or (path.is_dir() if name == "ca_dir" else path.is_file())
            if not there:
                kind = "directory" if name == "ca_dir" else "file"
                raise ConfigError(f"stager.http.{name}: there is no {kind} {path}; correct the path, or leave it out")
        if self.x509_key is not None and self.x509_proxy is None:
            raise ConfigError("stager.http.x509_key: is set without x509_proxy; name the certificate's file there")
