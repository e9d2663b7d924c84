"""Jobs with files on real storages: inputs on XRootD, outputs on WebDAV, replicas of which the first is no good."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tarfile
import zipfile
import zlib
from dataclasses import replace

import pytest

from pilot_core import deterministic_path
from pilot_core.testing.recordings import assert_replays
from pilot_core.testing.servers.nginx import NginxServer
from pilot_core.testing.servers.xrootd import XrootdServer
from pilot_core.testing.tls import TestAuthority

real = pytest.mark.needs(
    "bin:xrootd", "bin:nginx", "module:XRootD", "module:pilot_stager_http", "module:pilot_stager_xrootd"
)

CONTENT = bytes(range(256)) * 4096
COMMAND = "cat in.dat in.dat > out.dat; echo done > small"


def adler(data):
    return f"{zlib.adler32(data):08x}"


@pytest.fixture(scope="module")
def xrootd():
    with XrootdServer() as server:
        yield server


@pytest.fixture
def nginx(tmp_path):
    """A WebDAV server with TLS, whose certificate is the site's authority's."""
    folder = tmp_path / "authority"
    folder.mkdir()
    authority = TestAuthority(folder)
    with NginxServer(tmp_path / "nginx", certificate=authority.server_file()) as server:
        server.ca_file = authority.ca_file
        yield server


class Grid:
    """A site whose inputs lie on XRootD, at BAD and GOOD, and whose outputs go to WEB."""

    def __init__(self, site, xrootd, nginx):
        self.site = site
        self.web = nginx.folder
        self.folders = {rse: xrootd.folder / f"{site.queue}-{rse}" for rse in ("BAD", "GOOD")}
        self.server = xrootd
        for folder in self.folders.values():
            folder.mkdir()
            xrootd.give(folder)
        site.settings = {
            "read": ["BAD", "GOOD"],
            "write": ["WEB"],
            "storages": {
                **{rse: {"url": f"{xrootd.url}/{folder.name}"} for rse, folder in self.folders.items()},
                "WEB": {"url": nginx.url.replace("https:", "davs:")},
            },
            "environment": site.settings["environment"],
        }
        site.tables["stager.http"] = {"ca_file": nginx.ca_file}

    def put(self, rse, content, name="in.dat"):
        path = self.folders[rse] / name
        path.write_bytes(content)
        self.server.give(path)
        return path

    def submit(self, command=COMMAND, *words, **changes):
        """Submit a job with the input `in.dat`, of which the server knows the content and no storage."""
        (self.site.storage / "in.dat").write_bytes(CONTENT)

        def spec(job):
            return replace(job, files=tuple(replace(file, endpoint="") for file in job.files), **changes)

        parameters = shlex.join(["-c", command, *words])
        return self.site.submit("/bin/sh", parameters, inputs=["in.dat"], outputs=["out.dat", "small"], spec=spec)

    def files(self, job_id):
        """Return what the server was told of the job's files."""
        return json.loads(self.site.job(job_id).report)

    def ledger(self, log):
        """Return the attempts as they are in the job's log."""
        with tarfile.open(self.web / log) as tar:
            member = next(name for name in tar.getnames() if name.endswith("/transfers.jsonl"))
            return [json.loads(line) for line in tar.extractfile(member)]

    def attempts(self, job_id):
        """Return the attempts at files that the server was told of."""
        return json.loads(self.site.job(job_id).metadata)["pilot"]["attempts"]


@pytest.fixture
def grid(site, xrootd, nginx):
    return Grid(site, xrootd, nginx)


@real
def test_inputs_come_by_one_protocol_outputs_go_by_another_and_a_corrupt_replica_is_passed_over(grid):
    grid.put("BAD", CONTENT[:-1] + b"?")
    grid.put("GOOD", CONTENT)
    job = grid.submit()
    assert grid.site.run().code == 0
    assert grid.site.job(job).status == "finished"
    assert (grid.web / "out.dat").read_bytes() == CONTENT * 2
    assert (grid.web / "small").read_bytes() == b"done\n"
    files, attempts = grid.files(job), grid.attempts(job)
    log = next(name for name in files if name.endswith(".job.log.tgz"))
    for name in ("out.dat", "small", log):
        data = (grid.web / name).read_bytes()
        assert (files[name]["fsize"], files[name]["adler32"]) == (len(data), adler(data)), name
        assert files[name]["endpoint"] == "WEB"
        assert files[name]["surl"].endswith(f"/{name}")
    told = [(one["lfn"], one["rse"], one["backend"], one["outcome"]) for one in attempts]
    assert sorted(told) == sorted(
        [
            ("in.dat", "BAD", "xrootd", "ChecksumMismatch"),
            ("in.dat", "GOOD", "xrootd", "ok"),
            ("out.dat", "WEB", "http", "ok"),
            ("small", "WEB", "http", "ok"),
            (log, "WEB", "http", "ok"),
        ]
    )
    assert [(one["lfn"], one["outcome"]) for one in grid.ledger(log)][:2] == [
        ("in.dat", "ChecksumMismatch"),
        ("in.dat", "ok"),
    ]


@real
@pytest.mark.parametrize(
    ("replicas", "code", "outcomes"),
    [
        ({}, 1331, ["SourceNotFound"] * 2),
        ({"BAD": CONTENT[:-1] + b"?", "GOOD": b"!" + CONTENT[1:]}, 1171, ["ChecksumMismatch"] * 2),
        ({"BAD": CONTENT[:-1]}, 1171, ["SizeMismatch", "SourceNotFound"]),
    ],
)
def test_a_job_whose_replicas_are_all_bad_fails_with_the_code_of_the_first(grid, replicas, code, outcomes):
    for rse, content in replicas.items():
        grid.put(rse, content)
    job = grid.submit()
    assert grid.site.run().code == 0
    failed = grid.site.job(job)
    assert (failed.status, int(failed.fields["pilot_error_code"])) == ("failed", code)
    # the log is all that there is of it
    [log] = grid.web.iterdir()
    assert [one["outcome"] for one in grid.ledger(log.name)] == outcomes


READER = """
import sys
from XRootD.client import File

file = File()
file.open(sys.argv[1])
open("out.dat", "wb").write(file.read()[1])
"""


@real
def test_a_payload_reads_from_xrootd_what_is_not_copied(grid):
    grid.site.settings["direct_access_lan"] = True
    grid.put("BAD", CONTENT)
    reader = grid.site.folder / "reader.py"
    reader.write_text(READER)
    job = grid.submit(f"{sys.executable} {reader} $0; ls > small", "in.dat", transfer_type="direct")
    assert grid.site.run().code == 0
    assert grid.site.job(job).status == "finished"
    assert (grid.web / "out.dat").read_bytes() == CONTENT
    assert "in.dat" not in (grid.web / "small").read_text().split()
    assert "PoolFileCatalog.xml" in (grid.web / "small").read_text().split()
    [one] = [one for one in grid.attempts(job) if one["lfn"] == "in.dat"]
    assert (one["outcome"], one["rse"], one["bytes"]) == ("remote-io", "BAD", 0)


CATALOGUE = """
from pilot_core import Provider, Replica, hookimpl


class Shelf:
    def __init__(self, *_):
        pass

    def replicas(self, files, *, cancel, deadline):
        return {file.lfn: [Replica(url="WHERE/" + file.lfn, rse="GOOD")] for file in files}

    def register(self, job, files, *, cancel, deadline):
        pass


@hookimpl
def pilot_catalogs():
    yield Provider(name="shelf", factory=Shelf)
"""


@real
def test_what_a_catalogue_said_replays_without_it(grid, tmp_path):
    grid.put("GOOD", CONTENT)
    folder = tmp_path / "plugins"
    info = folder / "shelf-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pilot-catalog-shelf\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pilot_core.plugins.v1]\ncatalog.shelf = shelf\n")
    where = grid.site.settings["storages"]["GOOD"]["url"]
    (folder / "shelf.py").write_text(CATALOGUE.replace("WHERE", where))
    grid.site.tables["plugins"] = {"paths": [str(folder)]}
    grid.site.settings |= {"catalog": "shelf", "register_outputs": True}
    job = grid.submit()
    assert grid.site.run("--record", tmp_path / "recording").code == 0
    assert grid.site.job(job).status == "finished"
    shutil.rmtree(folder)
    grid.server.stop()
    try:
        assert_replays(tmp_path / "recording")
    finally:
        grid.server.start()


@real
def test_a_sites_entry_in_cric_is_enough_one_storage_read_by_one_protocol_and_written_by_another(site):
    with XrootdServer(http=True) as server:
        folder = server.folder / "disk"
        folder.mkdir()
        server.give(folder)
        root, web = (
            {"endpoint": url.rsplit("/store", 1)[0], "path": "/store/disk"} for url in (server.url, server.http_url)
        )
        root["endpoint"] += "/"
        endpoint = {
            "state": "ACTIVE",
            "is_deterministic": True,
            "arprotocols": {"read_lan": [root, web], "read_wan": [web], "write_lan": [web], "delete": [web]},
        }
        entry = {
            "nickname": site.queue,
            "status": "online",
            "state": "ACTIVE",
            "type": "unified",
            "environ": f"E2E_SITE={site.queue}",
            "acopytools": {"read_lan": ["rucio"], "write_lan": ["rucio"]},
            "astorages": {activity: ["DISK"] for activity in ("read_lan", "write_lan", "pl")},
        }
        for name, document in (("queue.json", {site.queue: entry}), ("endpoints.json", {"DISK": endpoint})):
            (site.folder / name).write_text(json.dumps(document))
        site.pilot["queue_sources"] = ["cric"]
        site.tables["queue-source.cric"] = {
            "file": site.folder / "queue.json",
            "endpoints_file": site.folder / "endpoints.json",
        }
        source = site.storage / "in.dat"
        source.write_bytes(CONTENT)

        def at_disk(job):
            return replace(job, files=tuple(replace(file, endpoint="DISK") for file in job.files))

        job = site.script(COMMAND, inputs=["in.dat"], outputs=["out.dat", "small"], spec=at_disk)
        path = folder / deterministic_path(site.job(job).description["scopeIn"], "in.dat")
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        for each in (path, *path.parents):
            if each.is_relative_to(folder):
                server.give(each)
        assert site.run().code == 0
        found = site.job(job)
        assert found.status == "finished"
        told = [(one["lfn"], one["backend"]) for one in json.loads(found.metadata)["pilot"]["attempts"]]
        assert [backend for _, backend in told] == ["xrootd", "http", "http", "http"]
        surl = json.loads(found.report)["out.dat"]["surl"]
        assert surl.startswith(f"{server.http_url}/disk/")
        assert (folder / surl.split("/disk/", 1)[1]).read_bytes() == CONTENT * 2


# -- what goes out -----------------------------------------------------------------------------------------------------


def test_outputs_go_out_in_one_archive_and_the_server_takes_what_it_is_told_of_each(site):
    def zipped(job):
        return replace(job, parameters=f"{job.parameters} <ZIP_MAP>all.zip:a.root,b.root</ZIP_MAP>")

    job = site.script("printf one > a.root; printf two > b.root", outputs=["a.root", "b.root", "all.zip"], spec=zipped)
    assert site.run().code == 0
    site.until(lambda: site.job(job).status in {"finished", "failed"})
    found = site.job(job)
    assert found.status == "finished", found.diag
    assert "a.root" not in {path.name for path in site.storage.iterdir()}
    with zipfile.ZipFile(site.storage / "all.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a.root": b"one", "b.root": b"two"}
    files = json.loads(found.report)
    assert (files["b.root"]["fsize"], files["b.root"]["adler32"]) == (3, adler(b"two"))
    assert files["b.root"]["endpoint"] == files["all.zip"]["endpoint"] == site.rse


@pytest.mark.parametrize(("flag", "status"), [("ao:on", "finished"), ("ao:off", "failed"), ("", "failed")])
def test_an_output_goes_to_another_storage_if_the_job_allows_that(site, flag, status):
    (site.folder / "other").mkdir()
    site.settings["storages"] = {
        site.rse: {"url": "file:///nowhere/at/all"},
        "OTHER": {"url": f"file://{site.folder / 'other'}"},
    }
    site.settings |= {"write": [site.rse, "OTHER"], "log": ["OTHER"]}

    def allowed(job):
        files = [replace(file, endpoint="OTHER") if file.kind == "log" else file for file in job.files]
        return replace(job, special=flag, files=tuple(files))

    job = site.script("printf x > o.dat", outputs=["o.dat"], spec=allowed)
    assert site.run().code == 0
    found = site.job(job)
    assert found.status == status
    assert (site.folder / "other/o.dat").exists() == (status == "finished")
    if status == "finished":
        assert json.loads(found.report)["o.dat"]["endpoint"] == "OTHER"
        assert "altTransferred=o.dat" in found.fields["job_metrics"]
