"""The files of a job: PanDA gives them as parallel, comma-joined lists, which have to fit each other."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from pilot_communicator_panda.values import BadField, check_lfn, shown
from pilot_core import PilotErrorCode
from pilot_core.api.job import InputFile, OutputFile

if TYPE_CHECKING:
    from pilot_communicator_panda.values import Fields

__all__ = ["input_files", "input_lists", "log_file", "output_files"]

_CHECKSUM = re.compile(r"(?:(ad|adler32|md|md5):)?([0-9a-f]+)", re.IGNORECASE)
_KIND = re.compile(r"[A-Za-z0-9_-]+:")
_SIZE = re.compile(r"[0-9]{1,19}")


def parallel(fields: Fields, name: str, count: int, of: str) -> list[str]:
    """Return a list that must have an entry for each of `count` files; unset gives empty entries.

    Raises `BadField` with NOTSAMELENGTH. A trailing comma is no entry.
    """
    parts = fields.listing(name)
    if len(parts) == count + 1 and not parts[-1]:
        parts.pop()
    if not any(parts):
        return [""] * count
    if len(parts) != count:
        raise BadField(name, f"{len(parts)} entries for {count} files of {of}", PilotErrorCode.NOTSAMELENGTH)
    return parts


def _names(fields: Fields, name: str, code: PilotErrorCode) -> list[str]:
    """Return the file names of a list, checked."""
    names = fields.listing(name)
    if names and not names[-1]:
        names.pop()
    for lfn in names:
        if "://" in lfn:
            wrong = f"{shown(lfn)}: a prefix before the file name is not supported"
            raise BadField(name, wrong, PilotErrorCode.NOTIMPLEMENTED)
        check_lfn(name, lfn, code)
    return names


def _size(text: str) -> int | None:
    """Return a size in bytes."""
    if not text:
        return None
    if not _SIZE.fullmatch(text.strip()):
        raise BadField("fsize", f"{shown(text)} is not a size in bytes")
    return int(text)


def _checksum(text: str) -> str:
    """Return a checksum as `adler32:<8 hex>` or `md5:<32 hex>`. Without a prefix, the length tells them apart."""
    if not text:
        return ""
    match = _CHECKSUM.fullmatch(text.strip())
    if match is None:
        unknown = _KIND.match(text) and not text.lower().startswith(("ad:", "adler32:", "md:", "md5:"))
        code = PilotErrorCode.CHKSUMNOTSUP if unknown else PilotErrorCode.CONVERSIONFAILURE
        raise BadField("checksum", f"{shown(text)} is neither an adler32 (ad:) nor an md5 (md:)", code)
    kind, value = (match[1] or "").lower(), match[2].lower()
    if kind in {"md", "md5"} or (not kind and len(value) == 32):
        if len(value) == 32:
            return f"md5:{value}"
    elif len(value) <= 8:
        # some catalogues drop leading zeros
        return f"adler32:{value:0>8}"
    raise BadField("checksum", f"{shown(text)} has the wrong length")


def input_files(fields: Fields, log: logging.Logger) -> tuple[InputFile, ...]:
    """Return the input files, each name once."""
    names = _names(fields, "inFiles", PilotErrorCode.CONVERSIONFAILURE)
    lists = {
        name: parallel(fields, name, len(names), "inFiles")
        for name in ("GUID", "fsize", "checksum", "scopeIn", "ddmEndPointIn", "realDatasetsIn", "prodDBlockToken")
    }
    found: dict[str, InputFile] = {}
    for number, lfn in enumerate(names):
        entry = {name: parts[number] for name, parts in lists.items()}
        if lfn in found:
            log.warning("inFiles: %s is named twice; the second entry is dropped", lfn)
            continue
        found[lfn] = InputFile(
            lfn=lfn,
            scope=entry["scopeIn"],
            guid=entry["GUID"],
            size=_size(entry["fsize"]),
            checksum=_checksum(entry["checksum"]),
            dataset=entry["realDatasetsIn"],
            rse=entry["ddmEndPointIn"],
            token=entry["prodDBlockToken"],
        )
    return tuple(found.values())


def output_files(fields: Fields) -> tuple[tuple[OutputFile, ...], OutputFile | None]:
    """Return the output files without the log, and the log.

    `outFiles` has the log among the outputs, usually last; so have the lists of its destinations. `scopeOut` has not.
    """
    code = PilotErrorCode.BADOUTPUTFILENAME
    names = _names(fields, "outFiles", code)
    log_name = fields.text("logFile")
    if log_name:
        check_lfn("logFile", log_name, code)
    seen: set[str] = set()
    for lfn in names:
        if lfn in seen:
            raise BadField("outFiles", f"{shown(lfn)} is named twice", code)
        seen.add(lfn)
        if "|" in lfn:
            raise BadField("outFiles", f"{shown(lfn)}: a pattern is not supported", PilotErrorCode.NOTIMPLEMENTED)
    scopes = iter(parallel(fields, "scopeOut", len(names) - (log_name in names), "outFiles without the log"))
    rses = parallel(fields, "ddmEndPointOut", len(names), "outFiles")
    datasets = parallel(fields, "realDatasets", len(names), "outFiles")
    optional = {lfn.strip() for lfn in fields.listing("allowNoOutput")}
    guid, log_scope = fields.text("logGUID"), fields.text("scopeLog")
    log = OutputFile(lfn=log_name, scope=log_scope, guid=guid) if log_name else None
    outputs = []
    for lfn, rse, dataset in zip(names, rses, datasets, strict=True):
        if lfn == log_name:
            log = OutputFile(lfn=lfn, scope=log_scope, guid=guid, dataset=dataset, rse=rse)
        else:
            missing = lfn in optional
            outputs.append(OutputFile(lfn=lfn, scope=next(scopes), dataset=dataset, rse=rse, may_be_missing=missing))
    return tuple(outputs), log


def log_file(fields: Fields) -> OutputFile | None:
    """Return the log of a job whose description is otherwise of no use, as far as it can be read."""
    try:
        return output_files(fields)[1]
    except BadField:
        pass
    try:
        lfn = fields.text("logFile")
        check_lfn("logFile", lfn, PilotErrorCode.BADOUTPUTFILENAME)
        return OutputFile(lfn=lfn, scope=fields.text("scopeLog"), guid=fields.text("logGUID"))
    except BadField:
        return None


def input_lists(fields: Fields) -> dict[str, tuple[str, ...]]:
    """Return the text files to write for the payload (`writeToFile`): `name:lfn,lfn^name:lfn`."""
    made: dict[str, tuple[str, ...]] = {}
    text = fields.text("writeToFile")
    for part in text.split("^") if text else ():
        name, colon, lfns = part.partition(":")
        if not colon:
            raise BadField("writeToFile", f"{shown(part)} is not written as NAME:LFN,LFN")
        check_lfn("writeToFile", name, PilotErrorCode.CONVERSIONFAILURE)
        made[name] = tuple(lfn for lfn in lfns.split(",") if lfn)
    return made
