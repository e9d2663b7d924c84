"""The settings of `pilot-core run`: the file's table `[pilot]`, the command's options, the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pilot_core.api.settings import setting
from pilot_core.errors import ConfigError

__all__ = ["PilotSettings", "batch_id", "node_name"]

BATCH_VARIABLES = (
    "PANDA_BATCH_ID",
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "JOB_ID",
    "K8S_JOB_ID",
)
"""Where batch systems say the job's id; PanDA Pilot 3 reads most of them. HTCondor's has no variable of its own."""


@dataclass(frozen=True)
class PilotSettings:
    """What a pilot has to know before it knows its queue."""

    server: str = setting("", help="base URL of the PanDA server", metavar="URL", env="PILOT_CORE_SERVER")
    queue: str = setting("", help="PanDA queue to take jobs for", metavar="NAME", env="PILOT_CORE_QUEUE")
    label: str = setting(
        "managed",
        help="kind of job to ask for (prodSourceLabel): managed, user, unified, test ...",
        metavar="L",
        env="PILOT_CORE_LABEL",
    )
    ca_file: Path | None = setting(
        None,
        help="PEM file with the certificate authorities to trust, instead of Python's own",
        metavar="F",
        env="PILOT_CORE_CA_FILE",
    )
    cert: Path | None = setting(
        None,
        help="PEM file with the pilot's certificate, or an X.509 proxy with its key in the same file",
        metavar="F",
        env="PILOT_CORE_CERT",
    )
    key: Path | None = setting(
        None, help="PEM file with the certificate's key, if it is not in --cert", metavar="F", env="PILOT_CORE_KEY"
    )
    token_file: Path | None = setting(
        None,
        help="file with a bearer token, read again when it changes",
        metavar="F",
        env="PILOT_CORE_TOKEN_FILE",
    )
    token_origin: str = setting(
        "", help="VO and role that the token is for", metavar="VO.ROLE", env="PILOT_CORE_TOKEN_ORIGIN"
    )
    jobs: int = setting(
        1, help="jobs to run, one after the other; 0 = until the server has none", metavar="N", minimum=0
    )
    work_dir: Path = setting(Path(), help="directory to work in; must exist", metavar="D", env="PILOT_CORE_WORK_DIR")
    communicator: str = setting("panda", help="plugin that talks to the server: panda or panda-legacy", metavar="NAME")
    credential: str = setting(
        "",
        help="plugin that holds the credential; by itself x509 with --cert, token-file with --token-file",
        metavar="NAME",
    )
    queue_sources: tuple[str, ...] = setting(
        ("toml", "cric"), help="plugins that know queues, asked in this order; those not installed are passed over"
    )
    proxy: str = setting(
        "",
        help="URL of the HTTP proxy; HTTPS_PROXY and its like are not read",
        metavar="URL",
        env="PILOT_CORE_PROXY",
        secret=True,  # it may hold a password
    )
    node: str = setting("", help="this node's name for the server; by itself slot@host or host", metavar="NAME")
    batch_id: str = setting("", help="the batch system's id of this pilot; by itself from its variables", metavar="ID")
    scheduler_id: str = setting("", help="id of what submitted this pilot", metavar="ID", env="PANDA_JSID")
    version_tag: str = setting("PR", help="version tag in the pilot's id: PR, RC1 ...", metavar="TAG")
    log_url: str = setting("", help="where this pilot's log can be seen, for the pilot's id", metavar="URL", env="GTAG")
    harvester_id: str = setting("", help="Harvester that submitted this pilot", metavar="ID", env="HARVESTER_ID")
    worker_id: int | None = setting(
        None, help="this pilot's worker number in Harvester", metavar="N", env="HARVESTER_WORKER_ID"
    )
    resource_type: str = setting("", help="take only jobs of this resource type: SCORE, MCORE ...", metavar="TYPE")
    computing_element: str = setting("", help="computing element to name to the server", metavar="CE")
    memory_mb: int | None = setting(None, help="memory that a job may need, MB; by itself the queue's", minimum=0)
    remaining_seconds: int | None = setting(None, help="how long jobs may still run here, seconds", minimum=0)
    report_node: bool = setting(False, help="describe this machine to the server at the start")
    report_budget: float = setting(
        1800.0, help="seconds for which a final report is tried before it is kept for later", minimum=1
    )
    last_budget: float = setting(
        10.0, help="the same, once the pilot was told to end by a signal: soon it may be killed", minimum=0
    )
    acquire_budget: float = setting(60.0, help="seconds for which asking for a job is tried", minimum=1)
    min_free_mb: int = setting(
        100, help="free space that the work directory must have before a job is taken, MB", minimum=0
    )
    transfers: int = setting(4, help="files of a job that are moved at the same time", metavar="N", minimum=1)
    stall_seconds: float = setting(
        300.0, help="seconds without a byte after which a transfer that has begun is given up", minimum=1
    )
    keep_outputs_hours: float = setting(
        0.0,
        help="hours for which outputs that no storage takes are kept, for a later pilot or flush to store; "
        "the server may give such a job up before; 0 = the job fails at once",
        minimum=0,
    )
    keep_job_dirs: bool = setting(False, help="keep the jobs' directories")
    log_level: str = setting(
        "info",
        help="least level of the log on standard error",
        metavar="LEVEL",
        choices=("debug", "info", "warning", "error"),
        env="PILOT_CORE_LOG_LEVEL",
    )

    def check(self) -> None:
        """Raise `ConfigError` for what is missing or contradicts itself."""
        self._need("server", self.server)
        self._need("queue", self.queue)
        self.check_server()

    def check_server(self) -> None:
        """Raise `ConfigError` for what is missing of the server and the credential, or contradicts itself."""
        self._need("server", self.server)
        _check_url(self.server)
        self.check_credential()
        if self.token_file and not self.server.lower().startswith("https:"):
            raise ConfigError(f"server {self.server}: a token is sent over https only; give an https URL")

    def _need(self, name: str, value: str) -> None:
        if not value:
            raise ConfigError(
                f"no {name}: give --{name}, set pilot.{name} in the --config file, or PILOT_CORE_{name.upper()}"
            )

    def check_credential(self) -> None:
        """Raise `ConfigError` for a credential that is not whole, or one too many."""
        if self.cert and self.token_file:
            raise ConfigError(
                "both a certificate (--cert, PILOT_CORE_CERT) and a token (--token-file, PILOT_CORE_TOKEN_FILE) "
                "are given; use one of them"
            )
        if self.key and not self.cert:
            raise ConfigError("--key needs --cert: the certificate that the key belongs to")
        if self.token_file and not self.token_origin:
            raise ConfigError("--token-file needs --token-origin VO.ROLE: PanDA wants to know what the token is for")
        if self.token_origin and not self.token_file:
            raise ConfigError("--token-origin needs --token-file")


def _check_url(url: str) -> None:
    """Raise `ConfigError` unless `url` can be a server's base URL; nothing before an `@` is shown."""
    if "@" in url:
        raise ConfigError("server: the URL holds a user or a password; give credentials by --cert or --token-file")
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(char.isspace() or not char.isprintable() for char in url):
        raise ConfigError(f"server {url!r}: not a URL like https://pandaserver.example:25443")
    if "?" in url or "#" in url:
        raise ConfigError(f"server {url!r}: give the base URL only, without ? and #")


def node_name(settings: PilotSettings, environment: Mapping[str, str]) -> str:
    """Return the node's name for the server: the setting, or `slot@host` under HTCondor, or `host`."""
    if settings.node:
        return settings.node
    host = environment.get("PANDA_HOSTNAME") or socket.gethostname()
    slot = environment.get("_CONDOR_SLOT", "")
    return f"{slot}@{host}" if slot else host


def batch_id(settings: PilotSettings, environment: Mapping[str, str]) -> str:
    """Return the batch system's id of this pilot; the process's own where there is none.

    It must stay the same for all updates of a job: another one makes the server lose the update (observed on
    panda-server 1.0.4: StatusCode 30).
    """
    if settings.batch_id:
        return settings.batch_id
    for name in BATCH_VARIABLES:
        if environment.get(name):
            return environment[name]
    return f"{os.getpid()}.{socket.gethostname()}"
