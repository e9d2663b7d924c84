"""The settings of the `panda` communicator."""

from __future__ import annotations

from dataclasses import dataclass

from pilot_core.api.settings import setting

__all__ = ["PandaSettings", "ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of every communicator for PanDA servers: time limits, retries."""

    connect_timeout: float = setting(30.0, help="seconds to open a connection, TLS included", minimum=0.001)
    timeout: float = setting(120.0, help="seconds to wait for an answer on an open connection", minimum=0.001)
    retry_budget: float = setting(
        86400.0, help="seconds during which a job update is repeated, if the pilot has so much time", minimum=0
    )
    acquire_retry_budget: float = setting(
        86400.0, help="seconds during which a request for jobs is repeated, if the pilot has so much time", minimum=0
    )
    info_retry_budget: float = setting(30.0, help="seconds during which any other request is repeated", minimum=0)
    retry_pause: float = setting(1.0, help="longest first pause before a repetition, seconds; doubles", minimum=0.001)
    retry_pause_limit: float = setting(30.0, help="longest pause before any repetition, seconds", minimum=0.001)
    encoded_parameters: str = setting(
        "auto",
        help="job parameters in base64: recognise them (auto), never decode (never)",
        choices=("auto", "never"),
    )


@dataclass(frozen=True, kw_only=True)
class PandaSettings(ServerSettings):
    """Settings of the communicator `panda`."""

    gzip_above: int = setting(1024, help="compress request bodies above this many bytes; -1 = never", minimum=-1)
