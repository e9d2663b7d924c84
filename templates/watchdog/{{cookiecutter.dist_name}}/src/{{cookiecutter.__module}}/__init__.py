"""Watchdog `{{ cookiecutter.name }}` for pilot-core: ends a payload that makes too many files.

A pilot imports this module before it knows whether it needs the watchdog, so only the hook is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from {{ cookiecutter.__module }}.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, Watchdog

    from {{ cookiecutter.__module }}.watchdog import {{ cookiecutter.__class }}


def make(settings: Settings, context: Context) -> {{ cookiecutter.__class }}:
    """Make the watchdog; called once a pilot. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.watchdog import {{ cookiecutter.__class }}

    return {{ cookiecutter.__class }}(settings, context)


@hookimpl
def pilot_watchdogs() -> Iterator[Provider[Watchdog]]:
    """Offer the watchdog."""
    yield Provider(name="{{ cookiecutter.name }}", factory=make, settings=Settings)
