"""Credential source `{{ cookiecutter.name }}` for pilot-core.

It gives the token that an agent of the site keeps fresh in a file.

A pilot imports this module before it knows whether it needs the source, so only the hook is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from {{ cookiecutter.__module }}.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, CredentialSource

    from {{ cookiecutter.__module }}.source import {{ cookiecutter.__class }}


def make(settings: Settings, context: Context) -> {{ cookiecutter.__class }}:
    """Make the source; called once a pilot. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.source import {{ cookiecutter.__class }}

    return {{ cookiecutter.__class }}(settings, context)


@hookimpl
def pilot_credentials() -> Iterator[Provider[CredentialSource]]:
    """Offer the source."""
    yield Provider(name="{{ cookiecutter.name }}", factory=make, settings=Settings)
