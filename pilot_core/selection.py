"""Which backend moves a file to or from which place, in which order: pure functions, no plugin machinery inside.

A *candidate* is a backend together with a replica that it can serve. Candidates are tried in this order:

1. what lies nearby before what lies elsewhere (`Replica.domain` wan);
2. the site's order of backends for the activity (backends that it does not name come after those it names);
3. the server's or catalogue's order of the replicas;
4. the provider's own priority, lower first;
5. backends that failed lately after those that did not;
6. the backend's name, then the replica's URL, so that the order is always the same.

`explain` gives the same answer with the rule that placed or excluded each pair, for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pilot_core.errors import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    ChecksumMismatch,
    NoSpace,
    SourceNotFound,
    TargetExists,
    TransferTimeout,
    TransientError,
)

if TYPE_CHECKING:
    from pilot_core.api.staging import Replica

__all__ = [
    "Candidate",
    "NextStep",
    "Stager",
    "Verdict",
    "candidates",
    "explain",
    "next_step",
    "remaining",
    "scheme_of",
]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


class Stager(Protocol):
    """What has to be known of a backend to choose it: a `Provider` is one, a loaded plugin too."""

    @property
    def name(self) -> str:
        """What the site's configuration calls it."""
        ...

    @property
    def schemes(self) -> frozenset[str]:
        """URL schemes served."""
        ...

    @property
    def priority(self) -> int:
        """Lower is tried first."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do beyond the minimum."""
        ...


S = TypeVar("S", bound=Stager)


@dataclass(frozen=True)
class Candidate(Generic[S]):
    """A backend and a replica that it can serve."""

    stager: S
    replica: Replica


@dataclass(frozen=True)
class Verdict(Generic[S]):
    """What became of one pair of backend and replica, and why."""

    stager: S
    replica: Replica
    place: int | None
    """1 for the one that is tried first; None = excluded."""
    rule: str
    """What excluded it (scheme, blocked, storage, capability), or placed it (domain, site, replica, priority, health,
    name)."""
    text: str
    """The rule in words."""


class NextStep(Enum):
    """What happens after a failed attempt."""

    NEXT_REPLICA = "next replica"
    """The fault lies with this replica: no backend can get it."""
    NEXT_BACKEND = "next backend"
    """The fault lies with this backend here: another one may do it."""
    RETRY = "retry"
    """Back off and try the same again; when the tries are used up, the next candidate."""
    STOP = "stop"
    """Nothing else can help, or nobody wants it any more."""
    PLUGIN_BUG = "plugin bug"
    """The plugin broke its contract: say so with its name and version, and take the next backend."""


_NEXT: tuple[tuple[type[BaseException], NextStep], ...] = (
    (Cancelled, NextStep.STOP),
    (NoSpace, NextStep.STOP),
    (KeyboardInterrupt, NextStep.STOP),
    (SourceNotFound, NextStep.NEXT_REPLICA),
    (ChecksumMismatch, NextStep.NEXT_REPLICA),
    (TargetExists, NextStep.NEXT_REPLICA),
    (BackendUnavailable, NextStep.NEXT_BACKEND),
    (AuthError, NextStep.NEXT_BACKEND),
    (TransientError, NextStep.RETRY),
    (TransferTimeout, NextStep.RETRY),
)


def next_step(error: BaseException) -> NextStep:
    """Return what to do after this exception of a transfer; the class alone decides.

    A bare `TransferError` (a name that no file can have there, a checksum that nobody can compute) says nothing about
    what may help, so it is treated like any other exception: another backend may do better.
    """
    for kind, step in _NEXT:
        if isinstance(error, kind):
            return step
    return NextStep.PLUGIN_BUG


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case; empty if it has none. Total: any text has an answer."""
    match = _SCHEME.match(url)
    return match.group(1).lower() if match else ""


def candidates(
    stagers: Iterable[S],
    replicas: Iterable[Replica],
    *,
    activity: str,
    site_order: Mapping[str, Sequence[str]],
    needed: frozenset[str] = frozenset(),
    unhealthy: frozenset[str] = frozenset(),
    blocked: Mapping[str, str] | None = None,
    storage_stagers: Mapping[str, Sequence[str]] | None = None,
) -> list[Candidate[S]]:
    """Return the pairs to try, in order; the order in which the arguments were given plays no part.

    `activity` is read, write or log; `site_order` the names of backends by activity (`Queue.stagers`; log falls back
    to write); `needed` the capabilities without which a backend is no use; `unhealthy` the names of backends that
    failed lately; `blocked` names that must not be used, with the reason; `storage_stagers` says for an RSE which
    backends alone may be tried there, in order (`Storage.stagers`; an RSE that it does not name allows all).
    """
    verdicts = explain(
        stagers,
        replicas,
        activity=activity,
        site_order=site_order,
        needed=needed,
        unhealthy=unhealthy,
        blocked=blocked,
        storage_stagers=storage_stagers,
    )
    return [Candidate(verdict.stager, verdict.replica) for verdict in verdicts if verdict.place is not None]


def explain(
    stagers: Iterable[S],
    replicas: Iterable[Replica],
    *,
    activity: str,
    site_order: Mapping[str, Sequence[str]],
    needed: frozenset[str] = frozenset(),
    unhealthy: frozenset[str] = frozenset(),
    blocked: Mapping[str, str] | None = None,
    storage_stagers: Mapping[str, Sequence[str]] | None = None,
) -> list[Verdict[S]]:
    """Return a verdict for every pair: the candidates in their order, then what is excluded. Arguments as above."""
    order = site_order.get(activity) or (site_order.get("write") if activity == "log" else None) or ()
    places: dict[tuple[str, Replica], tuple[_Key, S]] = {}
    excluded: dict[tuple[str, Replica], Verdict[S]] = {}
    chosen = sorted(stagers, key=_identity)
    for replica in replicas:
        own = (storage_stagers or {}).get(replica.rse, ())
        for stager in chosen:
            fault = _fault(stager, replica, own, needed, blocked or {})
            if fault:
                excluded[stager.name, replica] = Verdict(stager, replica, None, *fault)
            else:
                places[stager.name, replica] = (_key(stager, replica, own or order, unhealthy), stager)
    ranked = sorted(places.items(), key=lambda item: item[1][0])
    keys = [key for _, (key, _) in ranked]
    placed = [
        Verdict(stager, replica, number + 1, *_rule(keys, number))
        for number, ((_, replica), (_, stager)) in enumerate(ranked)
    ]
    out = [verdict for pair, verdict in excluded.items() if pair not in places]
    return placed + sorted(out, key=lambda verdict: (verdict.stager.name, _replica_key(verdict.replica)))


def remaining(queue: Sequence[Candidate[S]], failed: Candidate[S], step: NextStep) -> list[Candidate[S]]:
    """Return what is left to try after `failed` ended with `step`; always fewer than before.

    A bad replica takes all its candidates with it. A bad backend is not tried on that replica again, and on other
    replicas only after all other backends: a storage that is down says little about the same backend elsewhere.
    After a retry that came to nothing only the failed pair itself is left out.
    """
    if step is NextStep.STOP:
        return []
    if step is NextStep.NEXT_REPLICA:
        return [item for item in queue if item.replica != failed.replica]
    left = [item for item in queue if not _same(item, failed)]
    if step is NextStep.RETRY:
        return left
    return sorted(left, key=lambda item: item.stager.name == failed.stager.name)


_Key = tuple[bool, int, int, int, bool, str, tuple[int, str, str, str]]
_UNNAMED = 1_000_000
"""Place in the site's order of a backend that it does not name."""
_RULES = ("domain", "site", "replica", "priority", "health", "name", "name")


def _same(one: Candidate[S], other: Candidate[S]) -> bool:
    return one.stager.name == other.stager.name and one.replica == other.replica


def _identity(stager: Stager) -> tuple[str, int, list[str], list[str]]:
    """Order stagers by everything that is known of them, so that equal names cannot bring chance in."""
    return (stager.name, -stager.priority, sorted(stager.schemes), sorted(stager.capabilities))


def _replica_key(replica: Replica) -> tuple[int, str, str, str]:
    return (replica.order, replica.url, replica.rse, replica.domain)


def _key(stager: Stager, replica: Replica, order: Sequence[str], unhealthy: frozenset[str]) -> _Key:
    """Return what candidates are sorted by."""
    site = order.index(stager.name) if stager.name in order else _UNNAMED
    far = replica.domain == "wan"
    return (far, site, replica.order, stager.priority, stager.name in unhealthy, stager.name, _replica_key(replica))


def _fault(
    stager: Stager, replica: Replica, own: Sequence[str], needed: frozenset[str], blocked: Mapping[str, str]
) -> tuple[str, str] | None:
    """Return the rule that excludes a pair and its words, or None."""
    scheme = scheme_of(replica.url)
    if scheme not in stager.schemes:
        served = ", ".join(sorted(stager.schemes)) or "none"
        return "scheme", f"serves {served}, not {scheme}" if scheme else "the URL has no scheme"
    if stager.name in blocked:
        return "blocked", blocked[stager.name]
    if own and stager.name not in own:
        return "storage", f"the storage {replica.rse} is to be reached by {', '.join(own)} only"
    missing = needed - stager.capabilities
    if missing:
        return "capability", f"lacks {', '.join(sorted(missing))}"
    return None


def _rule(keys: Sequence[_Key], number: int) -> tuple[str, str]:
    """Return the rule that put a candidate after the one before it (the first: before the one after it)."""
    if len(keys) == 1:
        return "only", "the only candidate"
    other = number - 1 if number else 1
    index = next((i for i, pair in enumerate(zip(keys[number], keys[other], strict=True)) if pair[0] != pair[1]), 6)
    rule = _RULES[index]
    far, site, order, priority, unhealthy, name, _ = keys[number]
    words = {
        "domain": "it lies elsewhere" if far else "it lies nearby",
        "site": "the site's order does not name it" if site == _UNNAMED else f"the site's order names it as {site + 1}",
        "replica": f"its replica has order {order}",
        "priority": f"its priority is {priority}",
        "health": "it failed lately" if unhealthy else "the next one failed lately",
        "name": f"all else equal: by name ({name})",
    }
    return rule, words[rule]
