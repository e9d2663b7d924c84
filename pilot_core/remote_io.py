"""Inputs that the payload reads where they lie (direct access, remote I/O), and how it is told where that is.

The rules are those of PanDA Pilot 3 (`info/filespec.py`, `info/jobdata.py`, `api/data.py`, `user/atlas/common.py`):

- the queue allows it (`direct_access_lan`, `direct_access_wan`), and the job asks for it: `--accessmode` among its
  parameters, else `transferType` direct, else that it is an analysis (its transformation is a URL); a file's token
  `local` says no;
- archives and raw data are copied all the same;
- what lies nearby is taken first, elsewhere only where nothing lies nearby.

A payload is told in three ways: an analysis by the options `--usePFCTurl --directIn`; any other by URLs in the place
of the LFNs, among its arguments and in its lists of inputs; both by `PoolFileCatalog.xml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilot_core.api.url import has_login
from pilot_core.payload import plain_name
from pilot_core.routes import LAN, WAN
from pilot_core.selection import scheme_of

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.job import InputFile, Job
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import Replica

__all__ = ["POOL_FILE_CATALOG", "RemoteInputs", "is_analysis", "may_be_remote", "replicas_for"]

POOL_FILE_CATALOG = "PoolFileCatalog.xml"
"""Where POOL, and ATLAS' programs with it, look up the place of a file."""
COPY_ALWAYS = "local"
"""The storage token of a file that is never read where it lies."""
OPTIONS = ("--usePFCTurl", "--directIn")
"""How PanDA's analysis scripts are told to read inputs where the catalogue of files says."""
SCHEMES: Mapping[str, frozenset[str]] = {
    LAN: frozenset({"root", "roots", "xroot", "xroots", "dcap", "dcache", "file", "http", "https", "dav", "davs"}),
    WAN: frozenset({"root", "roots", "xroot", "xroots", "https", "davs"}),
}
"""By which URLs payloads read: nearby, and elsewhere."""

_COPIED = re.compile(r"^raw\.|\.raw\.|\.tar(\.|$)|\.tgz(\.|$)", re.IGNORECASE)
"""Names of files that are copied whatever the job says: raw data, and archives (libraries, DBReleases, logs)."""
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9:/._%+=@,~-]+")


def is_analysis(job: Job) -> bool:
    """Say whether a job is a user's: its transformation is fetched from a URL, as PanDA's are."""
    return job.transformation.startswith(("https://", "http://"))


def may_be_remote(job: Job, file: InputFile) -> bool:
    """Say whether a job wants an input to be read where it lies, as far as the job says."""
    wanted = (is_analysis(job) or job.transfer_type == "direct") and file.token != COPY_ALWAYS
    if job.access_mode:
        wanted = job.access_mode == "direct"
    return wanted and not _COPIED.search(file.lfn)


def replicas_for(queue: Queue, replicas: Sequence[Replica]) -> list[Replica]:
    """Return the replicas of an input that a payload may read where they lie, in order; none = it is to be copied."""
    near = [replica for replica in replicas if replica.domain != WAN]
    domain, allowed = (LAN, queue.direct_access_lan) if near else (WAN, queue.direct_access_wan)
    return [replica for replica in near or replicas if _is_fit(replica, queue, domain)] if allowed else []


def _is_fit(replica: Replica, queue: Queue, domain: str) -> bool:
    """Say whether a payload can be given a replica's URL."""
    # a login is nothing for the payload's eyes; a signed URL is made for whoever reads that file
    fit = scheme_of(replica.url) in SCHEMES[domain] and not has_login(replica.url)
    # a shell would take a signed URL apart
    return fit and (not queue.shell or _NEEDS_NO_QUOTES.fullmatch(replica.url) is not None)


@dataclass(frozen=True)
class RemoteInputs:
    """The inputs of a job that its payload reads where they lie, by LFN, and what the payload is told of them."""

    replicas: Mapping[str, Replica] = field(default_factory=dict)

    def __contains__(self, lfn: object) -> bool:
        return lfn in self.replicas

    def argv(self, job: Job, words: Sequence[str], *, shell: bool = False) -> tuple[str, ...]:
        """Return program and arguments so that they tell a payload where its inputs are.

        `shell`: the last of them is a line for a shell.
        """
        if not self.replicas:
            return tuple(words)
        if not is_analysis(job):
            return tuple(self._told(word) for word in words)
        given = " ".join(words).split()
        more = [option for option in OPTIONS if option not in given]
        return (*words[:-1], " ".join([words[-1], *more])) if shell else (*words, *more)

    def write_files(self, job: Job, folder: Path) -> None:
        """Write the job's lists of inputs, and the catalogue of files if any input stays where it lies."""
        for name, lfns in self.lists(job).items():
            (folder / plain_name(name)).write_text("".join(f"{lfn}\n" for lfn in lfns), encoding="utf-8")
        if self.replicas and all(file.lfn != POOL_FILE_CATALOG for file in job.inputs):
            (folder / POOL_FILE_CATALOG).write_text(self.pool_file_catalog(job), encoding="utf-8")

    def lists(self, job: Job) -> Mapping[str, Sequence[str]]:
        """Return the job's lists of inputs (`writeToFile`) with URLs in the place of LFNs."""
        if is_analysis(job):
            return job.input_lists
        return {
            name: [self.replicas[lfn].url if lfn in self.replicas else lfn for lfn in lfns]
            for name, lfns in job.input_lists.items()
        }

    def pool_file_catalog(self, job: Job) -> str:
        """Return the catalogue of the job's inputs in POOL's format: URLs, or names in the payload's directory."""
        from xml.sax.saxutils import quoteattr  # noqa: PLC0415  (milliseconds, and hardly ever needed)

        lines = [
            '<?xml version="1.0" encoding="UTF-8" standalone="no" ?>',
            '<!DOCTYPE POOLFILECATALOG SYSTEM "InMemory">',
            "<POOLFILECATALOG>",
        ]
        for file in job.inputs:
            place = self.replicas[file.lfn].url if file.lfn in self.replicas else file.lfn
            lines += [
                f"  <File ID={quoteattr(file.guid)}>",
                f'    <physical><pfn filetype="ROOT_All" name={quoteattr(place)}/></physical>',
                f"    <logical><lfn name={quoteattr(file.lfn)}/></logical>",
                "  </File>",
            ]
        return "\n".join([*lines, "</POOLFILECATALOG>", ""])

    def _told(self, text: str) -> str:
        """Return a text with URLs in the place of whole LFNs, also of such with `./` before them."""
        names = "|".join(re.escape(lfn) for lfn in sorted(self.replicas, key=len, reverse=True))
        pattern = rf"(?<![\w.+/@%-])(?:\./)?({names})(?![\w+/@%-]|\.\w)"
        return re.sub(pattern, lambda match: self.replicas[match[1]].url, text)
