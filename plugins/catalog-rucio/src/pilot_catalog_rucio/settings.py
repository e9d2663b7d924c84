"""What a site can set, in the table `[catalog.rucio]`, and what of it makes no sense."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pilot_core import ConfigError, setting, shown_url

__all__ = ["SCHEMES", "Settings", "check"]

SCHEMES = ("root", "roots", "davs", "dav", "https", "http", "s3", "s3+https", "file")
"""Of the URLs that stagers of pilot-core serve."""


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set catalog.rucio.KEY=value`."""

    url: str = setting(help="the Rucio server, https://HOST[:PORT][/PATH]", metavar="URL")
    auth_url: str = setting("", help="the server that gives tokens, if it is another one", metavar="URL")
    account: str = setting("", help="Rucio account; empty = the one that the credential belongs to", metavar="A")
    vo: str = setting("", help="virtual organisation, for a Rucio that serves several", metavar="VO")
    token_file: Path | None = setting(None, help="file with an OIDC token (or one of Rucio's own)", metavar="F")
    username: str = setting("", help="user name, to log in with a password", metavar="U")
    password_file: Path | None = setting(None, help="file with the password of `username`", metavar="F")
    x509_proxy: Path | None = setting(
        None, help="file with an X.509 proxy, or certificate and key; default: the pilot's own", metavar="F"
    )
    ca_file: Path | None = setting(None, help="PEM file with the authorities to trust", metavar="F")
    ca_dir: Path | None = setting(None, help="directory of authorities named by hash", metavar="D")
    site: str = setting("", help="Rucio site of this pilot: what lies there is near; empty = the queue's", metavar="S")
    schemes: tuple[str, ...] = setting(
        SCHEMES, help="URL schemes to ask for; empty = the one that Rucio likes best for each storage", metavar="S,S"
    )
    sort: str = setting("", help="Rucio's order of distant replicas: geoip, random, custom_table", metavar="NAME")
    tape: bool = setting(False, help="also name replicas on tape, which have to be brought to disk first")
    attach: bool = setting(False, help="put registered outputs into the datasets that the job names")
    traces: bool = setting(False, help="tell Rucio of every attempt to move a file")
    traces_url: str = setting("", help="where traces go; empty = URL/traces/", metavar="URL")
    tries: int = setting(6, help="how often a server that does not answer well is asked", minimum=1)
    timeout: float = setting(60.0, help="seconds that the server may stay silent", minimum=0.001)


def check(settings: Settings) -> None:
    """Raise `ConfigError`, naming the key, for values that cannot be used."""
    for key in ("url", "auth_url", "traces_url"):
        url = getattr(settings, key)
        if url or key == "url":
            _check_url(key, url)
    for key in ("account", "vo", "username", "site", "sort"):
        value = getattr(settings, key)
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"catalog.rucio.{key}: {value!r:.80} is not printable ASCII on one line")
    ways = [key for key in ("token_file", "username", "x509_proxy") if getattr(settings, key)]
    if len(ways) > 1:
        raise ConfigError(f"catalog.rucio: {' and '.join(ways)} are set; set one: each is a way to log in")
    if bool(settings.username) != bool(settings.password_file):
        raise ConfigError("catalog.rucio: username and password_file go together; set both or neither")


def _check_url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is none raises
    except ValueError:
        host = None
    if not host or not (url.isascii() and url.isprintable() and " " not in url):
        raise ConfigError(f"catalog.rucio.{key}: {shown_url(url)!r} is no URL; write https://HOST[:PORT]")
    if parts.scheme != "https":
        raise ConfigError(f"catalog.rucio.{key}: {shown_url(url)}: Rucio is asked over https only: tokens go over it")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"catalog.rucio.{key}: {shown_url(url)}: a user, a query or a fragment cannot be in it")
