"""Launcher `{{ cookiecutter.name }}` for pilot-core: starts pilots as processes of this machine.

A pilot imports this module before it knows whether it needs the launcher, so only the hook is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from {{ cookiecutter.__module }}.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, Launcher

    from {{ cookiecutter.__module }}.launcher import {{ cookiecutter.__class }}

# YOUR CODE: what must be there, for example ("bin:sbatch",)
REQUIRES: tuple[str, ...] = ()


def make(settings: Settings, context: Context) -> {{ cookiecutter.__class }}:
    """Make the launcher. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.launcher import {{ cookiecutter.__class }}

    return {{ cookiecutter.__class }}(settings, context)


@hookimpl
def pilot_launchers() -> Iterator[Provider[Launcher]]:
    """Offer the launcher."""
    yield Provider(name="{{ cookiecutter.name }}", factory=make, settings=Settings, requires=REQUIRES)
