"""Jobs as people write them: TOML or JSON files and options, turned into what the store keeps.

A file has one table `[[jobs]]` for each job (JSON: a list, or an object with a list `jobs`), with the fields of
`JobTemplate`. `{n}` in texts becomes the number of the copy, `{server}` the server's URL.
"""

from __future__ import annotations

import difflib
import filecmp
import json
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import tomli

from pilot_core.errors import BadInput, ConfigError
from pilot_devserver.store_jobs import FileSpec, JobSpec

if TYPE_CHECKING:
    from pilot_devserver.site import SiteQueue

__all__ = ["InputTemplate", "JobTemplate", "Preparation", "read_job_file"]

SCOPE = "dev"
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class InputTemplate:
    """One input file: a file of this machine, or one that lies on the storage already. What is given wins."""

    path: Path | None = None
    lfn: str = ""
    """Empty = the path's last part."""
    size: int | None = None
    checksum: str = ""
    guid: str = ""
    scope: str = SCOPE
    dataset: str = ""
    rse: str = ""
    """Empty = the queue's own storage."""


@dataclass(frozen=True, kw_only=True)
class JobTemplate:
    """One kind of job, of which `count` copies are submitted."""

    transformation: str = ""
    """A path, a program on PATH, or a URL."""
    script: Path | None = None
    """A file that the server is to offer as the transformation, instead."""
    parameters: str = ""
    inputs: tuple[InputTemplate, ...] = ()
    outputs: tuple[str, ...] = ()
    log: bool = True
    """Whether the pilot is to store a log file."""
    queue: str = ""
    """Empty = the server's first."""
    label: str = "managed"
    name: str = ""
    count: int = 1
    user: str = "Development User"
    priority: int = 1000
    cores: int = 1
    memory_mb: int = 0
    disk_mb: int = 0
    walltime_seconds: int | None = None
    resource_type: str = "SCORE"
    task_id: int | None = None
    special: str = ""
    """PanDA's `specialHandling`: comma-separated flags."""
    scope: str = SCOPE


def read_job_file(path: Path) -> list[JobTemplate]:
    """Return the jobs of a TOML or JSON file; raises `ConfigError` that names the key."""
    try:
        text = path.read_text(encoding="utf-8")
        found: Any = json.loads(text) if path.suffix == ".json" else tomli.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the jobs: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: neither TOML nor JSON (*.json): {error}") from None
    jobs = found.get("jobs") if isinstance(found, dict) and set(found) == {"jobs"} else found
    if not isinstance(jobs, list) or not jobs:
        raise ConfigError(f"{path}: has no jobs: write one [[jobs]] table for each, and nothing else")
    return [_template(job, f"{path}: jobs[{number}]", path.parent) for number, job in enumerate(jobs)]


def _template(value: Any, place: str, base: Path) -> JobTemplate:
    values = _checked(value, JobTemplate, place, base)
    if "inputs" in values:
        if not isinstance(values["inputs"], list):
            raise ConfigError(f"{place}.inputs: must be a list of paths or tables")
        values["inputs"] = tuple(
            _input(item, f"{place}.inputs[{number}]", base) for number, item in enumerate(values["inputs"])
        )
    return JobTemplate(**values)


def _input(value: Any, place: str, base: Path) -> InputTemplate:
    table = {"path": value} if isinstance(value, str) else value
    return InputTemplate(**_checked(table, InputTemplate, place, base))


def _checked(value: Any, cls: type, place: str, base: Path) -> dict[str, Any]:
    """Return a table's values in the types of a dataclass; raises `ConfigError`."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place}: must be a table")
    known = {field.name: str(field.type) for field in fields(cls)}
    values: dict[str, Any] = {}
    for name, item in value.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{place}.{name}: unknown key; {hint}")
        values[name] = _typed(item, known[name], f"{place}.{name}", base)
    return values


def _typed(value: Any, kind: str, place: str, base: Path) -> Any:
    """Return one value in the type that an annotation names."""
    if kind.startswith("tuple[InputTemplate"):
        return value
    if kind.startswith("tuple[str"):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"{place}: must be a list of texts")
    wanted, name = {
        "str": (str, "a text"),
        "int": (int, "a whole number"),
        "bool": (bool, "true or false"),
        "Path": (str, "a path"),
    }[kind.removesuffix(" | None")]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ConfigError(f"{place}: must be {name}, not {value!r}")
    return base / cast("str", value) if kind.startswith("Path") else value


class Preparation:
    """Makes specifications for one server: puts inputs on its storages and scripts where it offers them."""

    def __init__(
        self, queues: Iterable[SiteQueue], transformations: Path, server_url: str, *, copy: bool = True
    ) -> None:
        self._queues = {queue.name: queue for queue in queues}
        self._transformations = transformations
        self._url = server_url
        self._copy = copy

    def specs(self, template: JobTemplate) -> list[JobSpec]:
        """Return the specifications of all copies of a job. Raises `BadInput` for what cannot be."""
        queue = self._queue(template.queue)
        if bool(template.transformation) == bool(template.script):
            raise BadInput("a job needs a transformation or a script, and not both")
        if template.count < 1:
            raise BadInput(f"count {template.count}: must be 1 or more")
        if template.count > 1 and any("{n}" not in lfn for lfn in template.outputs):
            raise BadInput("several copies would write the same outputs: put {n} into the outputs' names")
        if template.script:
            template = replace(template, transformation=self._offer(template.script), script=None)
        inputs = tuple(self._input(item, queue) for item in template.inputs)
        return [self._spec(template, inputs, queue, number) for number in range(1, template.count + 1)]

    def _queue(self, name: str) -> SiteQueue:
        if not name:
            return next(iter(self._queues.values()))
        if name not in self._queues:
            raise BadInput(f"the server has no queue {name!r}; it has {', '.join(self._queues)}")
        return self._queues[name]

    def _offer(self, script: Path) -> str:
        """Put a script where the server offers transformations; return its URL."""
        if not self._url:
            raise BadInput("a script is offered by a running server; start it, or give a transformation")
        _copy_file(script, self._transformations / script.name, lambda _: None, replace_other=True)
        return f"{self._url}/trf/{script.name}"

    def _input(self, item: InputTemplate, queue: SiteQueue) -> FileSpec:
        """Register an input, and bring it to the queue's storage if it is a file of this machine."""
        lfn = item.lfn or (item.path.name if item.path else "")
        if not lfn or "/" in lfn:
            raise BadInput(f"input {lfn!r}: needs a path, or an lfn without slashes")
        size, checksum = item.size, item.checksum or "NULL"
        if item.path:
            target = queue.path_of(lfn) if self._copy else None
            actual_size, adler32 = _register(item.path, target)
            size = actual_size if size is None else size
            checksum = item.checksum or f"ad:{adler32}"
        dataset = item.dataset or f"{item.scope}.inputs"
        return FileSpec(
            lfn=lfn,
            size=size,
            checksum=checksum,
            guid=item.guid,
            scope=item.scope,
            dataset=dataset,
            block=dataset,
            endpoint=item.rse or queue.rse,
        )

    def _spec(self, template: JobTemplate, inputs: tuple[FileSpec, ...], queue: SiteQueue, number: int) -> JobSpec:
        """Return one copy's specification."""

        def text(value: str) -> str:
            return value.replace("{n}", str(number)).replace("{server}", self._url)

        name = text(template.name) or f"devserver.{uuid.uuid4().hex[:8]}"
        if template.count > 1 and "{n}" not in template.name:
            name = f"{name}.{number}"
        outputs = [text(lfn) for lfn in template.outputs]
        files = [_product(lfn, "output", template.scope, name, queue) for lfn in outputs]
        if template.log:
            lfn = f"{name}.{uuid.uuid4().hex[:8]}.job.log.tgz"
            files.append(_product(lfn, "log", template.scope, name, queue))
        own = {"queue", "name", "transformation", "parameters", "inputs", "outputs", "log", "script", "count", "scope"}
        values = {key: value for key, value in asdict(template).items() if key not in own}
        return JobSpec(
            queue=queue.name,
            name=name,
            transformation=text(template.transformation),
            parameters=text(template.parameters),
            files=(*inputs, *files),
            **values,
        )


def _product(lfn: str, kind: str, scope: str, name: str, queue: SiteQueue) -> FileSpec:
    """Return an output or the log."""
    dataset = f"{scope}.{name}.{kind}"
    return FileSpec(
        lfn=lfn, kind=kind, scope=scope, dataset=dataset, block=dataset, endpoint=queue.rse, destination="local"
    )


def _register(source: Path, target: Path | None) -> tuple[int, str]:
    """Return size and Adler-32 of a file and copy it to `target`, if that is given."""
    size, value = 0, 1

    def look(block: bytes) -> None:
        nonlocal size, value
        size, value = size + len(block), zlib.adler32(block, value)

    if target is None:
        with _readable(source) as reader:
            for block in iter(lambda: reader.read(_BLOCK), b""):
                look(block)
    else:
        _copy_file(source, target, look, replace_other=False)
    return size, f"{value:08x}"


def _copy_file(source: Path, target: Path, look: Callable[[bytes], None], *, replace_other: bool) -> None:
    """Copy a file, which appears whole or not at all; `look` is shown every block. Raises `BadInput`."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with _readable(source) as reader, part.open("wb") as writer:
            for block in iter(lambda: reader.read(_BLOCK), b""):
                look(block)
                writer.write(block)
        if not replace_other and target.exists() and not filecmp.cmp(part, target, shallow=False):
            raise BadInput(f"{target}: another file of this name is there; remove it, or give the input another lfn")
        part.replace(target)
    except OSError as error:
        raise BadInput(f"{target}: cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _readable(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except OSError as error:
        raise BadInput(f"{source}: cannot be read: {error.strerror}") from None
