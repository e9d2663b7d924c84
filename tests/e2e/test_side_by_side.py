"""Many files of a job at the same time: what comes of it, what the ledger says, and that it replays."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace

import pytest
from e2e_recordings import Situation, record

from pilot_core import PilotErrorCode as Code
from pilot_core.testing.recordings import assert_replays

INPUTS = [f"in put-{number} ü.dat" for number in range(12)]
OUTPUTS = [f"out-{number}.dat" for number in range(8)]
# what strikes is drawn by URL, and with it by the test's folder: where one has to, it is as good as sure to
COPY = "for n in 0 1 2 3 4 5 6 7; do cat *.dat > out-$n.dat; done"
pytestmark = pytest.mark.needs("module:pilot_stager_fault")


@pytest.fixture
def storages(site):
    """A site with two storages, each with all inputs: `storages(faults)` has the first of them fail."""

    def choose(*faults):
        for name in INPUTS:
            (site.storage / name).write_bytes(name.encode() * 1000)
        second = site.folder / "second"
        second.mkdir()
        for name in INPUTS:
            (second / name).write_bytes((site.storage / name).read_bytes())
        prefix = f"fault://{','.join(faults)}/" if faults else ""
        site.settings["storages"] = {
            site.rse: {"url": f"{prefix}{site.storage.as_uri()}"},
            "SECOND": {"url": second.as_uri()},
        }
        site.settings |= {"read": [site.rse, "SECOND"], "log": ["SECOND"]}
        return site

    return choose


def submit(site, **more):
    """Give the server a job with many files; the first storage is for the outputs only if it says so."""

    def anywhere(job):
        return job if more.get("named") else _unnamed(job)

    return site.script(COPY, inputs=INPUTS, outputs=OUTPUTS, spec=anywhere)


def _unnamed(job):
    files = tuple(replace(file, endpoint="" if file.kind == "input" else "SECOND") for file in job.files)
    return replace(job, files=files)


def attempts_of(site, job):
    return json.loads(site.job(job).metadata)["pilot"]["attempts"]


def transfers_of(site, job):
    """Return the lines of the ledger in the job's log archive."""
    [archive] = [path for path in (site.folder / "second").iterdir() if path.name.endswith(".log.tgz")]
    with tarfile.open(archive) as tar:
        [member] = [member for member in tar if member.name.endswith("/transfers.jsonl")]
        return [json.loads(line) for line in tar.extractfile(member)]


def no_partial_files(site):
    return not list(site.folder.rglob(".*.part-*"))


def test_many_files_come_and_go_with_a_ledger_of_all_attempts(storages):
    site = storages("not-found;probability=0.5;seed=7")
    job = submit(site)
    assert site.run().code == 0
    assert site.job(job).status == "finished"
    attempts = attempts_of(site, job)
    failed = [one for one in attempts if one["outcome"] != "ok"]
    assert {one["outcome"] for one in failed} == {"SourceNotFound"}
    assert 0 < len(failed) < len(INPUTS)
    # failed attempts first, then in the order of the job's files, whatever the order in which they ended
    assert attempts[: len(failed)] == failed
    good = [one["lfn"] for one in attempts[len(failed) :] if one["activity"] != "log"]
    assert good == [*INPUTS, *OUTPUTS]
    kept = transfers_of(site, job)
    assert len(kept) == len(INPUTS) + len(OUTPUTS) + len(failed)
    numbers = {}
    for one in kept:
        numbers.setdefault(one["lfn"], []).append(one["number"])
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())
    stored = b"".join(sorted(name.encode() * 1000 for name in INPUTS))
    assert len((site.folder / "second" / OUTPUTS[0]).read_bytes()) == len(stored)


def test_a_disk_that_fills_up_in_mid_transfer_ends_all_of_them_with_its_code(storages):
    site = storages("no-space;probability=0.6;seed=3")
    job = submit(site)
    assert site.run().code == 0
    found = site.job(job)
    assert (found.status, found.fields["pilot_error_code"]) == ("failed", Code.NOLOCALSPACE)
    assert no_partial_files(site)


def test_an_output_that_fails_takes_the_others_along(storages):
    site = storages("auth;on=store;probability=0.7;seed=2")
    job = submit(site, named=True)
    assert site.run().code == 0
    found = site.job(job)
    assert (found.status, found.fields["pilot_error_code"]) == ("failed", Code.STAGEOUTAUTHENTICATIONFAILURE)
    assert not [name for name in OUTPUTS if (site.storage / name).exists()]
    assert no_partial_files(site)


@pytest.mark.parametrize(
    ("faults", "named"),
    [
        ((), False),
        (("not-found;probability=0.5;seed=7",), False),
        (("transient;first=1;probability=0.5;seed=1",), False),
        (("checksum-mismatch;probability=0.4;seed=5", "transient;probability=0.3;seed=6"), False),
        (("no-space;probability=0.2;seed=3",), False),
        (("auth;on=store;probability=0.3;seed=2",), True),
        (("no-space;on=store;probability=0.3;seed=2", "transient;on=store;probability=0.3;seed=9"), True),
    ],
)
def test_what_went_side_by_side_replays_file_by_file(storages, tmp_path, faults, named):
    site = storages(*faults)
    recording = tmp_path / "recording"
    ended = record(site, Situation(lambda site: submit(site, named=named)), recording)
    assert ended.code == 0, ended.text
    assert_replays(recording)
