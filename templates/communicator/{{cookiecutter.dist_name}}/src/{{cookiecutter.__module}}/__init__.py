"""Communicator `{{ cookiecutter.name }}` for pilot-core: how the pilot talks to a server of that protocol.

The protocol is JSON over HTTPS: an object posted to `/{{ cookiecutter.name }}/v1/CALL` is answered by one
with `"ok": true`. Its other side, for the development server and the tests, is in `server/`; the two share no code,
and so no mistakes.

A pilot imports this module before it knows whether it needs the communicator, so only the hook is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from {{ cookiecutter.__module }}.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Communicator, Context

    from {{ cookiecutter.__module }}.client import {{ cookiecutter.__class }}


def make(settings: Settings, context: Context) -> {{ cookiecutter.__class }}:
    """Make the communicator; called once a pilot. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.client import {{ cookiecutter.__class }}

    return {{ cookiecutter.__class }}(settings, context)


@hookimpl
def pilot_communicators() -> Iterator[Provider[Communicator]]:
    """Offer the communicator."""
    yield Provider(name="{{ cookiecutter.name }}", factory=make, settings=Settings)
