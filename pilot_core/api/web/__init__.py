"""HTTP/1.1 for stagers: requests that can be cancelled at any instant, bodies checked to the last byte, no copies.

A storage is asked from several threads, for files of any size, under a deadline, and the pilot may be told to stop at
any moment. No general client can be interrupted while it connects, shakes hands or waits, so this one is made of
sockets that never block and one wait for everything: the connection, the cancellation and the time. It knows nothing
of storages: redirects, credentials and what a status means are the stager's business.
"""

from __future__ import annotations

from pilot_core.api.web.address import WebAddress
from pilot_core.api.web.answer import WebAnswer
from pilot_core.api.web.client import WebBody, WebClient, WebRequest
from pilot_core.api.web.head import Headers, retry_after
from pilot_core.api.web.patience import ConnectionLost
from pilot_core.api.web.trust import Trust

__all__ = [
    "ConnectionLost",
    "Headers",
    "Trust",
    "WebAddress",
    "WebAnswer",
    "WebBody",
    "WebClient",
    "WebRequest",
    "retry_after",
]
