"""Server protocol `{{ cookiecutter.name }}` for pilot-core's development server.

The protocol is JSON over HTTPS: an object posted to `/{{ cookiecutter.name }}/v1/CALL` is answered by one
with `"ok": true`. For a new protocol with both its sides in one project, see `pilot-core new communicator`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import NoSettings, Provider, hookimpl

if TYPE_CHECKING:
    from pilot_core import Context, ServerProtocol


def make(settings: NoSettings, context: Context) -> ServerProtocol:
    """Make the protocol; called once a server. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.protocol import Protocol

    return Protocol(settings, context)


@hookimpl
def pilot_server_protocols() -> Iterator[Provider[ServerProtocol]]:
    """Offer the protocol."""
    yield Provider(name="{{ cookiecutter.name }}", factory=make)
