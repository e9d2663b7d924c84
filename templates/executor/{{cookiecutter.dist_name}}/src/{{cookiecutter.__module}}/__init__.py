"""Executor `{{ cookiecutter.name }}` for pilot-core: runs each payload under a command of the site's choice.

A pilot imports this module before it knows whether it needs the executor, so only the hook is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from {{ cookiecutter.__module }}.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, Executor

    from {{ cookiecutter.__module }}.executor import {{ cookiecutter.__class }}

# YOUR CODE: what must be there, for example ("bin:bwrap",)
REQUIRES: tuple[str, ...] = ()
CAPABILITIES = frozenset({"shell-exit-codes"})
"""A wrapper exits with 126 or 127 where it cannot execute a program. What is claimed here, the kit tests."""


def make(settings: Settings, context: Context) -> {{ cookiecutter.__class }}:
    """Make the executor; called once a pilot. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.executor import {{ cookiecutter.__class }}

    return {{ cookiecutter.__class }}(settings, context)


@hookimpl
def pilot_executors() -> Iterator[Provider[Executor]]:
    """Offer the executor."""
    yield Provider(
        name="{{ cookiecutter.name }}",
        factory=make,
        settings=Settings,
        requires=REQUIRES,
        capabilities=CAPABILITIES,
    )
