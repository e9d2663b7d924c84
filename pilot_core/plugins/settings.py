"""The `[plugins]` table of the pilot's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from pilot_core.api.settings import setting
from pilot_core.errors import ConfigError

__all__ = ["PluginSettings"]


@dataclass(frozen=True)
class PluginSettings:
    """What a site says about its plugins."""

    only: tuple[str, ...] = setting(
        (),
        help="the only plugins that may be used, by entry point (stager.http) or distribution; the pilot's own "
        "are pilot-core; empty = all that are found",
    )
    block: tuple[str, ...] = setting(
        (), help="plugins that are never imported, by entry point (stager.http) or distribution (pilot-stager-http)"
    )
    paths: tuple[str, ...] = setting(
        (), help="absolute paths of further directories in which plugins are looked for, beside site-packages"
    )
    prefer: tuple[str, ...] = setting(
        (), help="which distribution wins where several offer one name: stager.http=pilot-stager-http"
    )
    import_timeout: float = setting(5.0, help="seconds that the import of one plugin may take", minimum=0.1)

    def preferred(self) -> dict[str, str]:
        """Return `prefer` as entry point -> distribution; raises `ConfigError` for what cannot be read."""
        wanted: dict[str, str] = {}
        for text in self.prefer:
            entry, equals, distribution = (part.strip() for part in text.partition("="))
            if not (entry and equals and distribution):
                raise ConfigError(f"plugins.prefer: {text!r} must be like 'stager.http=pilot-stager-http'")
            if wanted.get(entry, distribution) != distribution:
                raise ConfigError(f"plugins.prefer: {entry} is given to both {wanted[entry]} and {distribution}")
            wanted[entry] = distribution
        return wanted
