"""Where a job's files lie, and where they go.

What a queue says (storages with their protocols, what is near, what may be read or written) is put together with what
the catalogue knows, where the queue names one, and with what the server suggests. What is near comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pilot_core.api.staging import Replica
from pilot_core.catalogs import Asked
from pilot_core.errors import JobDescriptionError, PilotErrorCode, TransferError
from pilot_core.selection import scheme_of

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.job import InputFile, Job, OutputFile
    from pilot_core.api.queue import Queue
    from pilot_core.catalogs import Catalogue

__all__ = ["LAN", "WAN", "Routes"]

LAN = "lan"
WAN = "wan"
_Doors = tuple[str, Sequence[tuple[str, str]]]
_LOOK = "check its name, whether it still exists, and which stagers are installed"


class Routes:
    """Knows the replicas of a job's inputs, and the places for its outputs."""

    def __init__(self, queue: Queue, job: Job | None = None, catalogue: Catalogue | None = None) -> None:
        """Without a job, nothing is known of its wishes; without a catalogue, only what the queue says."""
        self._queue = queue
        self._job = job
        self._catalogue = catalogue
        self._known: Asked | None = None
        self._named: dict[str, Asked] = {}
        self._known_doors: dict[tuple[str, str, str], _Doors] = {}

    # -- inputs --------------------------------------------------------------------------------------------------

    def ask_for_inputs(self, files: Sequence[InputFile], *, cancel: CancelToken) -> None:
        """Ask the catalogue, if there is one, where the inputs lie: once for all of them. Raises `Cancelled`."""
        if self._catalogue is not None:
            self._known = self._catalogue.replicas(files, cancel=cancel)

    def sources(self, file: InputFile) -> list[Replica]:
        """Return where an input may be read, in order: what is near first.

        Raises `TransferError` if there is no such place: NOREPLICAS if the catalogue knows none that may be read.
        """
        known = self._known
        if known is None or known.trouble:
            return self._by_the_queue(file, known.trouble if known else "")
        found = known.replicas.get(file.lfn, ())
        order = list(self._wished(file))
        near = [replica for replica in found if self._domain(replica.rse, file, replica.domain) == LAN]
        far = [replica for replica in found if replica not in near]
        urls = [
            *(self._near(near, order, file) if self._queue.allow_lan else ()),
            *(self._far(far, order) if self._queue.allow_wan else self._far_by_name(far)),
        ]
        places = self._numbered(self._allowed(urls, "read"))
        if not places:
            raise self._none_allowed(file, found, len(far))
        return places

    def _by_the_queue(self, file: InputFile, trouble: str) -> list[Replica]:
        """Return where an input may be read by what the queue says alone."""
        queue = self._queue
        names = [file.rse] if file.rse in queue.storages else [*queue.read, *queue.read_wan]
        known = list(self._replicas(names, file.scope, file.lfn, "read"))
        found = [replica for replica in known if queue.allow_lan or replica.domain != LAN]
        allowed = self._allowed(found, "read")
        places = self._numbered(sorted(allowed, key=_is_far) if len(allowed) > 1 else allowed)
        if places:
            return places
        why = f"; add [queues.{queue.name}.storages.{file.rse}]" if file.rse else " (queue's `read` is empty)"
        if found:
            why = f" by the schemes {', '.join(self._schemes('read'))}"
        elif trouble:
            why = f", and the catalogue does not answer: {trouble}"
        elif known:
            why = ": all are near, from where it does not allow to read (allow_lan)"
        raise TransferError(
            f"input {file.lfn}: queue {queue.name} has no storage to read it from{why}",
            error_code=PilotErrorCode.RUCIOLISTREPLICASFAILED if trouble else PilotErrorCode.NOSTORAGEPROTOCOL,
        )

    def _wished(self, file: InputFile) -> Iterator[str]:
        """Yield the RSEs to prefer: what the server suggests, then as the queue has them."""
        yield from dict.fromkeys([*([file.rse] if file.rse else ()), *self._queue.read, *self._queue.read_wan])

    def _domain(self, rse: str, file: InputFile, said: str) -> str:
        """Say whether a storage is near: one of the queue's `read`; without these, as the catalogue or server says."""
        if self._queue.read:
            return LAN if rse in self._queue.read else WAN
        return LAN if said == LAN or rse == file.rse else WAN

    def _near(self, found: Sequence[Replica], order: Sequence[str], file: InputFile) -> Iterator[Replica]:
        """Yield near replicas by the queue's own protocols for them, then as the catalogue has them."""
        for rse in _ranked(found, order):
            storage = self._queue.storages.get(rse)
            if storage is not None and storage.layout == "rucio":
                yield from self._replicas([rse], file.scope, file.lfn, "read", domain=LAN)
            for replica in found:
                if replica.rse == rse:
                    yield replace(replica, domain=LAN, root=storage.root_of(replica.url) if storage else "")

    def _far(self, found: Sequence[Replica], order: Sequence[str]) -> Iterator[Replica]:
        """Yield replicas elsewhere: where the server suggests first, else as the catalogue has them."""
        for rse in _ranked(found, order):
            yield from (replace(replica, domain=WAN) for replica in found if replica.rse == rse)

    def _far_by_name(self, found: Sequence[Replica]) -> Iterator[Replica]:
        """Yield replicas elsewhere that the queue itself names (`read_wan`), where others are not allowed."""
        names = self._queue.read_wan
        return self._far([replica for replica in found if replica.rse in names], names)

    def _none_allowed(self, file: InputFile, found: Sequence[Replica], far: int) -> TransferError:
        """Return the error for an input without a replica that may be read."""
        name = f"{file.scope}:{file.lfn}" if file.scope else file.lfn
        if not found:
            why = "the catalogue knows no replica of it that can be read here; "
            why += _LOOK if file.scope else "it has no scope, by which catalogues know files"
        elif far == len(found) and not self._queue.allow_wan:
            rses = ", ".join(dict.fromkeys(replica.rse for replica in found))
            why = f"it lies elsewhere only ({rses}), which queue {self._queue.name} does not allow (allow_wan)"
        else:
            schemes = ", ".join(sorted({scheme_of(replica.url) for replica in found}))
            why = f"its {len(found)} replicas ({schemes}) are none that queue {self._queue.name} allows"
        return TransferError(f"input {name}: {why}", error_code=PilotErrorCode.NOREPLICAS)

    # -- outputs -------------------------------------------------------------------------------------------------

    def ask_for_outputs(self, files: Sequence[OutputFile], activity: str, *, cancel: CancelToken) -> None:
        """Ask the catalogue how storages are written that the queue names and does not describe. Raises `Cancelled`."""
        if self._catalogue is None:
            return
        wanted: dict[str, list[OutputFile]] = {}
        for file in files:
            for rse in self._places(file, activity):
                known = self._named.get(rse)
                new = known is None or (not known.trouble and file.lfn not in known.replicas)
                if new and rse not in self._queue.storages:
                    wanted.setdefault(rse, []).append(file)
        for rse, some in wanted.items():
            told = self._catalogue.destinations(rse, some, cancel=cancel)
            before = self._named[rse].replicas if rse in self._named else {}
            self._named[rse] = replace(told, replicas={**before, **told.replicas})

    def destinations(self, file: OutputFile, activity: str) -> list[Replica]:
        """Return where an output or the log (`activity`: write or log) may be stored, in order; raises likewise."""
        queue = self._queue
        rses = self._places(file, activity)
        found = list(self._replicas(rses, file.scope, file.lfn, activity))
        places = self._numbered(self._allowed(found, activity))
        if places:
            return places
        why = f"; add [queues.{queue.name}.storages.{file.rse}]" if file.rse else " (queue's `write` is empty)"
        asked = {rse: self._named[rse].trouble for rse in rses if rse in self._named}
        if found:
            why = f" by the schemes {', '.join(self._schemes(activity))}"
        elif asked:
            why = "".join(f"; of {rse} the catalogue says: {said or 'no place'}" for rse, said in asked.items())
        raise TransferError(
            f"output {file.lfn}: queue {queue.name} has no storage to write it to{why}",
            error_code=PilotErrorCode.NOSTORAGEPROTOCOL,
        )

    def removals(self, rse: str, url: str) -> list[Replica]:
        """Return by which URLs a stored file may be removed: the storage's protocols for that, then its own."""
        storage = self._queue.storages.get(rse)
        urls = [url]
        if storage is not None:
            prefixes = [storage.url, *(protocol.url for protocol in storage.protocols)]
            own = [prefix.rstrip("/") for prefix in prefixes if url.startswith(prefix.rstrip("/") + "/")]
            if own:
                path = url[len(max(own, key=len)) :]
                urls = [prefix.rstrip("/") + path for prefix in storage.prefixes("delete")]
                # by the way it came, where that is a way to remove it
                urls.sort(key=lambda each: each != url)
                urls.append(url)
        return [Replica(url=each, rse=rse, order=order) for order, each in enumerate(dict.fromkeys(urls))]

    def elsewhere(self, file: OutputFile, activity: str, rse: str) -> bool:
        """Say whether an output that was stored on an RSE is not where it belongs."""
        places = self._places(file, activity)
        return bool(places) and rse != places[0]

    def _places(self, file: OutputFile, activity: str) -> list[str]:
        """Return the RSEs to try for an output or the log: where it belongs, then the alternatives."""
        queue, alternatives = self._queue, self._alternatives()
        own = list((queue.log or queue.write) if activity == "log" else queue.write)
        usable = file.rse in queue.storages or (self._catalogue is not None and bool(file.rse) and not own)
        if usable or (self._catalogue is not None and file.rse in own):
            first, others = [file.rse], _after(file.rse, own)
            # a log is of use wherever it is
            more = others if alternatives == "on" or (activity == "log" and alternatives != "off") else []
        else:
            first, others = own[:1], own[1:]
            more = others if alternatives != "off" else []
            if alternatives == "on" and file.rse and self._catalogue is not None:
                more = [*more, file.rse]
        if alternatives == "on":
            more = [*more, *queue.write_wan]
        return list(dict.fromkeys([*first, *(rse for rse in more if not self._is_nucleus(rse))]))

    def _alternatives(self) -> str:
        """Return whether outputs may go elsewhere: on, off, or nothing where neither queue nor job says."""
        if self._queue.alt_stageout != "job":
            return self._queue.alt_stageout
        return self._job.alt_stageout if self._job else ""

    def _is_nucleus(self, rse: str) -> bool:
        """Say whether an RSE is the site's that gathers the task's outputs: Pilot 3 takes it for no alternative."""
        nucleus = self._job.nucleus if self._job else ""
        return bool(nucleus) and (rse == nucleus or rse.startswith(f"{nucleus}_"))

    # -- both ----------------------------------------------------------------------------------------------------

    def _replicas(
        self, places: Iterable[str], scope: str, lfn: str, activity: str, domain: str = ""
    ) -> Iterator[Replica]:
        """Yield where a file lies, or goes, on the named storages, in their order, by each of their protocols.

        Raises `JobDescriptionError` for a scope that would lead out of a storage, or that is needed and not there.
        """
        order = 0
        for rse in dict.fromkeys(places):
            storage = self._queue.storages.get(rse)
            if storage is None:
                yield from self._named.get(rse, Asked(replicas={})).replicas.get(lfn, ())
                continue
            _check_scope(scope, lfn, needed=storage.layout == "rucio")
            path = storage.path_of(scope, lfn)
            where, prefixes = self._doors(rse, "read" if activity == "read" else "write", domain)
            for prefix, root in prefixes:
                yield Replica(url=f"{prefix}/{path}", rse=rse, order=order, domain=where, root=root)
                order += 1

    def _doors(self, rse: str, way: str, domain: str) -> _Doors:
        """Return the domain of a storage for a way (read, write), and its prefixes with what their root is."""
        found = self._known_doors.get((rse, way, domain))
        if found is None:
            queue, storage = self._queue, self._queue.storages[rse]
            near = queue.read if way == "read" else (*queue.write, *queue.log)
            where = domain or (LAN if rse in near or not near else WAN)
            prefixes = [prefix.rstrip("/") for prefix in storage.prefixes(f"{way}_{where}")]
            found = where, [(prefix, storage.root_of(f"{prefix}/")) for prefix in prefixes]
            self._known_doors[rse, way, domain] = found
        return found

    def _allowed(self, found: Iterable[Replica], activity: str) -> list[Replica]:
        """Return the replicas whose schemes the queue allows, those of one storage in the order of these."""
        schemes = self._schemes(activity)
        found = list(found)
        if not schemes:
            return found
        rses = list(dict.fromkeys(replica.rse for replica in found))
        known = [replica for replica in found if scheme_of(replica.url) in schemes]
        return sorted(known, key=lambda one: (rses.index(one.rse), schemes.index(scheme_of(one.url))))

    def _schemes(self, activity: str) -> Sequence[str]:
        """Return the schemes that the queue allows for an activity; empty = all."""
        schemes: Mapping[str, Sequence[str]] = self._queue.schemes
        return schemes.get(activity) or (schemes.get("write", ()) if activity == "log" else ())

    @staticmethod
    def _numbered(found: Iterable[Replica]) -> list[Replica]:
        """Return replicas in their order, each URL once."""
        unique: dict[str, Replica] = {}
        for replica in found:
            unique.setdefault(replica.url, replica)
        return [
            replica if replica.order == order else replace(replica, order=order)
            for order, replica in enumerate(unique.values())
        ]


def _is_far(replica: Replica) -> bool:
    return replica.domain == WAN


def _ranked(found: Iterable[Replica], order: Sequence[str]) -> list[str]:
    """Return the RSEs of replicas: those of `order` first, in that order."""
    rses = list(dict.fromkeys(replica.rse for replica in found))
    return [*(rse for rse in order if rse in rses), *(rse for rse in rses if rse not in order)]


def _after(name: str, names: Sequence[str]) -> list[str]:
    """Return the others of a list, from the one after `name` on, round to the one before it."""
    if name not in names:
        return list(names)
    place = names.index(name)
    return [*names[place + 1 :], *names[:place]]


def _check_scope(scope: str, lfn: str, *, needed: bool) -> None:
    """Raise `JobDescriptionError` for a scope that would lead out of a storage, or that is needed and not there."""
    if not scope and needed:
        raise JobDescriptionError(f"file {lfn}: has no scope, which the storage's layout (rucio) needs")
    if scope in {".", ".."} or "/" in scope or not scope.isprintable():
        raise JobDescriptionError(f"file {lfn}: scope {scope[:80]!r} is not the name of a Rucio scope")
