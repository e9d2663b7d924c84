"""The table of faults of a storage: names, what they do, the keys that they take. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["CONDITIONS", "KINDS", "OPERATIONS", "Key", "Kind", "documentation"]

OPERATIONS = ("fetch", "store", "stat", "remove")
"""What a stager can be asked for."""
MOVING = ("fetch", "store")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a fault."""

    name: str
    type: type
    """`int`, `float` or `str`."""
    help: str
    default: float | str | None = None
    minimum: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One fault."""

    name: str
    help: str
    keys: tuple[Key, ...] = ()
    operations: tuple[str, ...] = MOVING
    """What it can strike; without `on` it strikes those of `fetch` and `store` that are among them."""


CONDITIONS = (
    Key(name="first", type=int, minimum=1, help="only the first so many attempts at a file"),
    Key(name="after", type=int, help="not the first so many attempts at a file"),
    Key(name="on", type=str, help="what it strikes: `fetch`, `store`, `stat`, `remove`, joined by `+`"),
    Key(name="probability", type=float, help="how likely it strikes an attempt, 0 to 1"),
    Key(name="seed", type=str, default="0", help="what chance is drawn from: the same seed, the same attempts"),
)
"""What every fault may say of when it strikes."""

_ALL = (
    Kind(name="none", help="nothing: the other stager does it all", operations=OPERATIONS),
    Kind(
        name="transient",
        help="`TransientError`: worth another try",
        keys=(Key(name="retry-after", type=float, help="the pause in seconds that the storage asks for"),),
        operations=OPERATIONS,
    ),
    Kind(name="not-found", help="`SourceNotFound`: the next replica", operations=OPERATIONS),
    Kind(name="auth", help="`AuthError`: the storage takes no credential", operations=OPERATIONS),
    Kind(name="no-space", help="`NoSpace`: the target is full"),
    Kind(name="unavailable", help="`BackendUnavailable`: the next stager", operations=OPERATIONS),
    Kind(name="timeout", help="`TransferTimeout`, at once", operations=OPERATIONS),
    Kind(name="checksum-mismatch", help="`ChecksumMismatch`: the storage's copy is damaged, and that is noticed"),
    Kind(name="size-mismatch", help="`SizeMismatch`: likewise"),
    Kind(name="crash", help="an exception that is none of the pilot's: a bug of the stager", operations=OPERATIONS),
    Kind(
        name="slow",
        help="the file comes or goes at a limited rate",
        keys=(Key(name="rate", type=float, default=1000.0, minimum=0.001, help="bytes a second"),),
    ),
    Kind(
        name="stall",
        help="nothing moves any more; ends with the cancellation or at the deadline (`TransferTimeout`)",
        keys=(Key(name="bytes", type=int, help="after so many bytes [0]", default=0),),
    ),
    Kind(name="hang", help="never returns until it is cancelled, whatever the deadline", operations=OPERATIONS),
    Kind(name="corrupt", help="one byte is wrong, and nobody says so"),
    Kind(
        name="truncate",
        help="the end is missing, and nobody says so",
        keys=(Key(name="bytes", type=int, help="what is left [half]"),),
    ),
    Kind(
        name="partial",
        help="`TransientError`, and part of the file is left at its final place",
        keys=(Key(name="bytes", type=int, help="how much [half]"),),
    ),
    Kind(
        name="wrong-checksum",
        help="all goes well, but the checksum that the stager tells is wrong",
        operations=("fetch", "store", "stat"),
    ),
    Kind(
        name="wrong-size",
        help="all goes well, but the size that the stager tells is one byte too large",
        operations=("fetch", "store", "stat"),
    ),
)

KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL})
"""Every fault, by name."""


def documentation() -> str:
    """Return the tables of faults and conditions in Markdown, as the README has them."""
    rows = ["| fault | what happens | keys |", "|---|---|---|"]
    for kind in _ALL:
        rows.append(f"| `{kind.name}` | {kind.help} | {'; '.join(_described(key) for key in kind.keys)} |")
    rows += ["", "| when | what it means |", "|---|---|"]
    rows += [f"| `{key.name}` | {key.help} |" for key in CONDITIONS]
    return "\n".join(rows)


def _described(key: Key) -> str:
    default = f" = {key.default:g}" if isinstance(key.default, (int, float)) and key.default else ""
    return f"`{key.name}{default}`: {key.help}"
