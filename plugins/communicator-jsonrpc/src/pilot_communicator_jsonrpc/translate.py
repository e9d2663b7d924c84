"""What a job's description means: from the words of the protocol to pilot-core's neutral `Job`.

What a pilot tells needs no translation: an update of this protocol has the fields of `JobUpdate`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot_core import BadJob, InputFile, Job, OutputFile, PilotErrorCode, Step

if TYPE_CHECKING:
    from pilot_core import Acquired

__all__ = ["acquired"]

TEXTS = (
    "name", "label", "processing_type", "user", "release", "home_package", "platform", "transfer_type",
)  # fmt: skip
CHECKSUM = re.compile("(adler32:[0-9a-f]{8}|md5:[0-9a-f]{32})?")


class Words:
    """One object of the description. What is null or missing is not said; what is of another type is a `ValueError`."""

    def __init__(self, said: Any, place: str = "") -> None:
        if not isinstance(said, dict):
            raise ValueError(f"{place or 'job'}: is no object")
        self.said: Mapping[str, Any] = said
        self.place = f"{place}." if place else ""

    def value(self, name: str, kind: type, what: str, default: Any) -> Any:
        """Return a value of one type."""
        value = self.said.get(name)
        if value is not None and type(value) is not kind:
            raise ValueError(f"{self.place}{name}: {value!r} is no {what}")
        return default if value is None else value

    def text(self, name: str) -> str:
        """Return a text, empty if nothing is said."""
        return str(self.value(name, str, "text", ""))

    def whole(self, name: str, default: int | None = None) -> Any:
        """Return a whole number."""
        return self.value(name, int, "whole number", default)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return yes or no."""
        return bool(self.value(name, bool, "true or false", default))

    def table(self, name: str) -> dict[str, Any]:
        """Return an object, empty if nothing is said."""
        return dict(self.value(name, dict, "object", {}))

    def words(self, name: str) -> Words:
        """Return an object to read further."""
        return Words(self.table(name), f"{self.place}{name}")

    def each(self, name: str) -> list[Words]:
        """Return a list of objects."""
        return [
            Words(one, f"{self.place}{name}[{place}]") for place, one in enumerate(self.value(name, list, "list", []))
        ]

    def needed(self, name: str) -> Any:
        """Return a text that has to be there and to say something."""
        return self.text(name) or fail(f"{self.place}{name}: is missing")


def acquired(said: Any) -> Acquired:
    """Return a job, or what is wrong with it: it is then reported as failed, and nothing of it is run."""
    log = None
    known = said if isinstance(said, dict) else {}
    try:
        words = Words(said)
        log = output_of(words.words("log")) if known.get("log") is not None else None
        return job_of(words, log)
    except ValueError as error:
        job_id, attempt = known.get("job_id"), known.get("attempt")
        return BadJob(
            id=job_id if type(job_id) is int else 0,
            attempt=attempt if type(attempt) is int else None,
            reason=" ".join(f"the job's description cannot be used: {error}".split())[:500],
            error_code=PilotErrorCode.CONVERSIONFAILURE,
            log=log,
        )


def job_of(words: Words, log: OutputFile | None) -> Job:
    """Return the job; raises `ValueError` if there is none in the description."""
    if reason := words.text("unusable"):
        raise ValueError(f"the server says: {reason}")
    resources, container = words.words("resources"), words.words("container")
    job_id = words.whole("job_id")
    texts: dict[str, Any] = {name: words.text(name) for name in TEXTS}
    return Job(
        id=fail("job_id: is missing") if job_id is None else job_id,
        attempt=words.whole("attempt"),
        transformation=words.needed("program"),
        parameters=words.text("arguments"),
        inputs=tuple(map(input_of, words.each("inputs"))),
        outputs=tuple(map(output_of, words.each("outputs"))),
        log=log,
        task_id=words.whole("task_id"),
        jobset_id=words.whole("jobset_id"),
        priority=words.whole("priority", 0),
        core_count=resources.whole("cores", 1),
        memory_mb=resources.whole("memory_mb", 0),
        disk_mb=resources.whole("disk_mb", 0),
        max_cpu_seconds=resources.whole("cpu_seconds", 0),
        max_wall_seconds=resources.whole("wall_seconds", 0),
        resource_type=resources.text("type"),
        looping_check=words.flag("looping_check", default=True),
        debug=words.flag("debug", default=False),
        container_image=container.text("image"),
        container_options=container.table("options"),
        input_lists={name: lfns_of(name, lfns) for name, lfns in words.table("input_lists").items()},
        secrets=words.table("secrets"),
        pilot_secrets=words.table("pilot_secrets"),
        extra=words.table("extra"),
        **steps_of(words.words("steps")),
        **texts,
    )


def steps_of(words: Words) -> dict[str, Any]:
    """Return the commands before, after and beside the payload, by the names of the job's fields."""
    told = {name: words.words(name) for name in ("preprocess", "postprocess", "coprocess") if name in words.said}
    return {name: Step(command=step.needed("command"), arguments=step.text("arguments")) for name, step in told.items()}


def input_of(words: Words) -> InputFile:
    """Return an input file."""
    checksum = words.text("checksum")
    if not CHECKSUM.fullmatch(checksum):
        raise ValueError(f"{words.place}checksum: {checksum!r} is none")
    texts = {name: words.text(name) for name in ("scope", "guid", "dataset", "rse", "token")}
    return InputFile(lfn=words.needed("lfn"), size=words.whole("size"), checksum=checksum, **texts)


def output_of(words: Words) -> OutputFile:
    """Return an output file, or the log."""
    texts: dict[str, Any] = {name: words.text(name) for name in ("scope", "guid", "dataset", "rse")}
    return OutputFile(lfn=words.needed("lfn"), may_be_missing=words.flag("may_be_missing", default=False), **texts)


def lfns_of(name: str, said: Any) -> tuple[str, ...]:
    """Return the names that go into a list of input files."""
    if not isinstance(said, list) or not all(isinstance(lfn, str) for lfn in said):
        raise ValueError(f"input_lists.{name}: is no list of names")
    return tuple(said)


def fail(reason: str) -> Any:
    """Raise `ValueError`."""
    raise ValueError(reason)
