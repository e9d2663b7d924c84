"""Queue source `{{ cookiecutter.name }}` for pilot-core: each queue is a JSON file in a directory of the site.

A pilot imports this module before it knows whether it needs the source, so only the hook is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from {{ cookiecutter.__module }}.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, QueueSource

    from {{ cookiecutter.__module }}.source import {{ cookiecutter.__class }}


def make(settings: Settings, context: Context) -> {{ cookiecutter.__class }}:
    """Make the source; called once a pilot. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.source import {{ cookiecutter.__class }}

    return {{ cookiecutter.__class }}(settings, context)


@hookimpl
def pilot_queue_sources() -> Iterator[Provider[QueueSource]]:
    """Offer the source."""
    yield Provider(name="{{ cookiecutter.name }}", factory=make, settings=Settings)
