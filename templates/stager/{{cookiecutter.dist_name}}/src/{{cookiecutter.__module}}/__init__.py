"""Stager `{{ cookiecutter.name }}` for pilot-core.

The file of `{{ cookiecutter.name }}://LIBRARY/PATH` is ROOT/LIBRARY/PATH of this machine, where the site sets ROOT.

A pilot imports this module before it knows whether it needs the stager, so only the hooks are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_core import Provider, hookimpl

from {{ cookiecutter.__module }}.settings import Settings

if TYPE_CHECKING:
    from pilot_core import Context, StageIn, StageOut

    from {{ cookiecutter.__module }}.stager import {{ cookiecutter.__class }}

NAME = "{{ cookiecutter.name }}"
SCHEMES = frozenset({"{{ cookiecutter.name }}"})  # YOUR CODE: the URL schemes that you serve
CAPABILITIES = frozenset({"checksum:adler32", "checksum:md5"})
"""What is claimed here, the kit tests."""


def make(settings: Settings, context: Context) -> {{ cookiecutter.__class }}:
    """Make the stager; called once a pilot. Import heavy libraries here, or below."""
    from {{ cookiecutter.__module }}.stager import {{ cookiecutter.__class }}

    return {{ cookiecutter.__class }}(settings, context)


@hookimpl
def pilot_stagein() -> Iterator[Provider[StageIn]]:
    """Offer the way in."""
    yield Provider(name=NAME, factory=make, settings=Settings, schemes=SCHEMES, capabilities=CAPABILITIES)


@hookimpl
def pilot_stageout() -> Iterator[Provider[StageOut]]:
    """Offer the way out. A storage that can only be read leaves this hook out."""
    yield Provider(name=NAME, factory=make, settings=Settings, schemes=SCHEMES, capabilities=CAPABILITIES)
