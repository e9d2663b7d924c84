"""Catalogue `{{ cookiecutter.name }}` for pilot-core: a SQLite database that says where files lie.

A pilot imports this module before it knows whether it needs the catalogue, so only the hook is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from {{ cookiecutter.__module }}.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, ReplicaCatalog

    from {{ cookiecutter.__module }}.catalog import {{ cookiecutter.__class }}


def make(settings: Settings, context: Context) -> {{ cookiecutter.__class }}:
    """Make the catalogue's client; called once a pilot. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.catalog import {{ cookiecutter.__class }}

    return {{ cookiecutter.__class }}(settings, context)


@hookimpl
def pilot_catalogs() -> Iterator[Provider[ReplicaCatalog]]:
    """Offer the catalogue."""
    yield Provider(name="{{ cookiecutter.name }}", factory=make, settings=Settings)
