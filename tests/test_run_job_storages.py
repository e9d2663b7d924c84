"""Whole jobs and their storages: direct access, archives, alternatives, and a catalogue, as `run-job` shows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest

CATALOGUE = r"""
import json, pathlib
from pilot_core import CancelToken, CommunicationError, Deadline, Provider, Replica, RequestRefused, hookimpl

HERE = pathlib.Path(__file__).parent


def shown(context):
    # note what a plugin is given to show to others
    source = context.credential
    limits = {"cancel": CancelToken(), "deadline": Deadline.after(context.clock, 30)}
    found = source and type(source.credential(**limits)).__name__
    with (HERE / "shown").open("a") as stream:
        stream.write(f"{found}\n")


class Shelf:
    def __init__(self, settings, context):
        self.data = json.loads((HERE / "known.json").read_text())
        shown(context)

    def replicas(self, files, *, cancel, deadline):
        if "trouble" in self.data:
            raise CommunicationError(self.data["trouble"])
        return {
            file.lfn: [Replica(url=url, rse=rse, order=n) for n, (rse, url) in enumerate(self.data[file.lfn])]
            for file in files
            if file.lfn in self.data
        }

    def destinations(self, rse, files, *, cancel, deadline):
        if rse not in self.data.get("places", {}):
            raise RequestRefused(f"no RSE {rse}")
        return {file.lfn: [Replica(url=f"{self.data['places'][rse]}/{file.lfn}", rse=rse)] for file in files}

    def register(self, job, files, *, cancel, deadline):
        if "refuses" in self.data:
            raise RequestRefused(self.data["refuses"])
        with (HERE / "registered").open("a") as stream:
            stream.writelines(f"{file.lfn} {file.size} {file.rse}\n" for file in files)

    def attempted(self, job, attempt):
        with (HERE / "heard").open("a") as stream:
            stream.write(f"{job.id} {attempt.activity} {attempt.lfn} {attempt.outcome}\n")

    def settle(self, *, cancel, deadline):
        with (HERE / "heard").open("a") as stream:
            stream.write("settled\n")


@hookimpl
def pilot_catalogs():
    yield Provider(name="shelf", factory=Shelf)
"""
BOARD = """
from kit_shelf import shown
from pilot_core import Provider, hookimpl


@hookimpl
def pilot_stagein():
    yield Provider(name="board", factory=lambda _, context: shown(context), schemes=frozenset({"board"}))
"""


def adler(data):
    return f"adler32:{zlib.adler32(data):08x}"


class Bench:
    """A directory with storages A and B, a queue that has them, and jobs."""

    def __init__(self, folder):
        self.folder = folder
        self.queue = {"read": ["A"], "write": ["A"]}
        self.plugins = []
        for rse in "AB":
            (folder / rse).mkdir()
        self.storages = {rse: {"url": f"file://{folder / rse}"} for rse in "AB"}

    def put(self, rse, name, content=b"what is in the file"):
        (self.folder / rse / name).write_bytes(content)
        return {"lfn": name, "size": len(content), "checksum": adler(content), "guid": f"GUID-{name}"}

    def plant_catalogue(self, **known):
        """Install the catalogue `shelf`, which knows that, and have the queue name it."""
        site = self.folder / "site"
        site.mkdir(mode=0o755)
        (site / "kit_shelf.py").write_text(CATALOGUE)
        (site / "kit_board.py").write_text(BOARD)
        (site / "known.json").write_text(json.dumps(known))
        info = site / "kit_shelf-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kit-shelf\nVersion: 1.0\n")
        points = ("[pilot_core.plugins.v1]", "catalog.shelf = kit_shelf", "stager.board = kit_board", "")
        (info / "entry_points.txt").write_text("\n".join(points))
        self.plugins = [str(site)]
        self.queue["catalog"] = "shelf"

    def text_of(self, name):
        file = self.folder / "site" / name
        return file.read_text() if file.exists() else ""

    def start(self, job, *options):
        (self.folder / "job.json").write_text(json.dumps({"id": 7, "transformation": "/bin/sh", **job}))
        lines = ["[plugins]", f"paths = {json.dumps(self.plugins)}", "[queues.Q]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in self.queue.items()]
        for rse, storage in self.storages.items():
            lines += [f"[queues.Q.storages.{rse}]", *(f"{key} = {json.dumps(value)}" for key, value in storage.items())]
        (self.folder / "pilot.toml").write_text("\n".join([*lines, ""]))
        command = [sys.executable, "-m", "pilot_core", "run-job", "job.json", "--config", "pilot.toml", "--queue", "Q"]
        done = subprocess.run(
            [*command, *options],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def run(self, job, *options):
        """Run a job to its end; returns what `--json` says."""
        done = self.start(job, "--json", *options)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def shell(self, text, **job):
        return self.run({"parameters": f"-c '{text}'", **job})

    def stored(self, rse):
        return sorted(path.name for path in (self.folder / rse).iterdir())


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def failures(done):
    return [(failure["code"], failure["message"]) for failure in done["errors"]]


# -- direct access -----------------------------------------------------------------------------------------------------


def test_a_payload_reads_an_input_where_it_lies_and_nothing_is_copied(bench):
    bench.queue["direct_access_lan"] = True
    one, lib = bench.put("A", "AOD.1.root"), bench.put("A", "lib.tgz")
    done = bench.run(
        {
            "parameters": "-c 'ls > seen; cat list.txt >> seen; echo $0 $1 >> seen' --in=AOD.1.root lib.tgz",
            "transfer_type": "direct",
            "inputs": [one, lib],
            "input_lists": {"list.txt": ["AOD.1.root", "lib.tgz"]},
            "outputs": ["seen"],
        }
    )
    assert done["state"] == "finished"
    url = f"file://{bench.folder}/A/AOD.1.root"
    assert (bench.folder / "A/seen").read_text().splitlines() == [
        *("PoolFileCatalog.xml", "lib.tgz", "list.txt", "payload.stderr", "payload.stdout", "seen"),
        *(url, "lib.tgz", f"--in={url} lib.tgz"),
    ]
    assert [(one["lfn"], one["outcome"], one["url"], one["bytes"]) for one in done["attempts"][:2]] == [
        ("AOD.1.root", "remote-io", url, 0),
        ("lib.tgz", "ok", f"file://{bench.folder}/A/lib.tgz", lib["size"]),
    ]
    assert done["report"]["metadata"]["pilot"]["remote_io"] == {"AOD.1.root": url}


def test_an_input_is_read_at_the_first_place_where_it_really_is(bench):
    bench.queue |= {"direct_access_lan": True, "read": ["C", "A", "B"]}
    bench.storages["C"] = {"url": f"file://{bench.folder}"}
    one = bench.put("B", "AOD.1.root")
    bench.put("A", "AOD.1.root", b"too short")
    done = bench.run({"parameters": "-c 'echo $0' AOD.1.root", "transfer_type": "direct", "inputs": [one]})
    assert done["output"]["stdout"] == f"file://{bench.folder}/B/AOD.1.root\n"
    assert [(each["outcome"], each["rse"]) for each in done["attempts"]] == [("remote-io", "B")]


def test_an_input_that_is_nowhere_fails_the_job_before_the_payload(bench):
    bench.queue["direct_access_lan"] = True
    done = bench.shell("touch ran", inputs=["AOD.1.root"], transfer_type="direct", outputs=["ran"])
    assert [failure["code"] for failure in done["errors"]] == [1331]
    assert done["payload"] is None


def test_an_input_is_copied_where_queue_or_job_do_not_allow_direct_access(bench):
    one = bench.put("A", "AOD.1.root")
    job = {"inputs": [one], "transfer_type": "direct"}
    assert [each["outcome"] for each in bench.shell("cat AOD.1.root", **job)["attempts"]] == ["ok"]
    bench.queue["direct_access_lan"] = True
    copied = bench.shell("cat AOD.1.root", **{**job, "access_mode": "copy"})
    assert [each["outcome"] for each in copied["attempts"]] == ["ok"]
    assert "remote_io" not in copied["report"]["metadata"]["pilot"]


def test_a_phase_that_is_run_again_is_told_the_same_urls(bench):
    bench.queue["direct_access_lan"] = True
    job = {"parameters": "-c 'echo $0' AOD.1.root", "transfer_type": "direct", "inputs": [bench.put("A", "AOD.1.root")]}
    first = bench.run(job, "--keep")
    again = bench.run(job, "--from", "payload", "--in", first["job_dir"])
    assert first["output"]["stdout"] == again["output"]["stdout"] == f"file://{bench.folder}/A/AOD.1.root\n"


def test_an_explanation_says_what_is_read_where_it_lies(bench):
    bench.queue["direct_access_lan"] = True
    job = {"parameters": "-c 'echo $0' AOD.1.root", "transfer_type": "direct", "inputs": [bench.put("A", "AOD.1.root")]}
    found = bench.run(job, "--explain")
    url = f"file://{bench.folder}/A/AOD.1.root"
    assert [(file["lfn"], file["remote"]) for file in found["files"]] == [("AOD.1.root", url)]
    assert found["payload"]["argv"][-1] == url
    text = bench.start(job, "--explain").stdout
    assert f"  not copied: the payload reads it at {url}" in text.splitlines()


# -- archives ----------------------------------------------------------------------------------------------------------


def test_outputs_that_belong_into_an_archive_go_out_in_it_and_are_told_with_its_place(bench):
    done = bench.shell(
        "printf one > a.root; printf two2 > b.root; printf x > c.txt",
        outputs=["a.root", "all.zip", "b.root", "c.txt"],
        archives={"all.zip": ["*.root"]},
        log="log.tgz",
    )
    assert done["state"] == "finished"
    assert bench.stored("A") == ["all.zip", "c.txt", "log.tgz"]
    with zipfile.ZipFile(bench.folder / "A/all.zip") as made:
        assert {name: made.read(name) for name in made.namelist()} == {"a.root": b"one", "b.root": b"two2"}
    told = {file["lfn"]: file for file in done["files"]}
    assert list(told) == ["a.root", "all.zip", "b.root", "c.txt", "log.tgz"]
    archive = (bench.folder / "A/all.zip").read_bytes()
    assert (told["all.zip"]["size"], told["all.zip"]["checksum"]) == (len(archive), adler(archive))
    assert (told["b.root"]["size"], told["b.root"]["checksum"]) == (4, adler(b"two2"))
    assert told["a.root"]["surl"] == told["all.zip"]["surl"]
    assert told["a.root"]["rse"] == "A"
    assert len({file["guid"] for file in told.values()}) == 5
    with tarfile.open(bench.folder / "A/log.tgz") as log:
        assert not [name for name in log.getnames() if "root" in name or "zip" in name]


def test_an_archive_that_the_payload_made_is_stored_as_it_is(bench):
    done = bench.shell(
        "printf one > a.root; printf mine > all.zip",
        outputs=["a.root", "all.zip"],
        archives={"all.zip": ["a.root"]},
    )
    assert bench.stored("A") == ["all.zip"]
    assert (bench.folder / "A/all.zip").read_bytes() == b"mine"
    assert [(file["lfn"], file["size"]) for file in done["files"]] == [("a.root", 3), ("all.zip", 4)]


@pytest.mark.parametrize(
    ("outputs", "code", "stored"),
    [
        (["a.root", "all.zip"], 1165, []),
        ([{"lfn": "a.root", "may_be_missing": True}, "all.zip"], 1165, []),
        ([{"lfn": "a.root", "may_be_missing": True}, {"lfn": "all.zip", "may_be_missing": True}], 0, []),
    ],
)
def test_an_archive_of_outputs_that_are_missing(bench, outputs, code, stored):
    done = bench.shell("true", outputs=outputs, archives={"all.zip": ["a.root"]})
    assert ([failure["code"] for failure in done["errors"]] or [0]) == [code]
    assert bench.stored("A") == stored


def test_a_failed_job_leaves_no_archive_behind(bench):
    bench.storages["B"]["url"] = "nothing://serves/this"
    bench.queue["alt_stageout"] = "off"
    done = bench.shell(
        "printf one > a.root",
        outputs=["a.root", "all.zip"],
        archives={"all.zip": ["a.root"]},
        log={"lfn": "log.tgz", "rse": "B"},
    )
    assert done["state"] == "failed"
    assert [failure["task"] for failure in done["errors"]] == ["log"]
    assert bench.stored("A") == []
    assert done["files"] == []


def test_an_explanation_says_what_goes_into_which_archive(bench):
    job = {"parameters": "-c true", "outputs": ["a.root", "all.zip"], "archives": {"all.zip": ["*.root"]}}
    files = {file["lfn"]: file for file in bench.run(job, "--explain")["files"]}
    assert (files["a.root"]["archive"], files["a.root"]["choices"]) == ("all.zip", [])
    assert (files["all.zip"]["members"], len(files["all.zip"]["choices"])) == (["a.root"], 1)
    text = bench.start(job, "--explain").stdout.splitlines()
    assert "  in the archive all.zip" in text
    assert "  an archive of a.root, unless the payload makes it" in text


# -- alternatives ------------------------------------------------------------------------------------------------------


def break_storage(bench, rse):
    """Have a file in the place of a storage's directory."""
    (bench.folder / rse).rmdir()
    (bench.folder / rse).write_text("no directory")


@pytest.mark.parametrize(("queue", "job"), [("on", "off"), ("job", "on")])
def test_an_output_goes_elsewhere_if_its_own_storage_fails_and_that_is_told(bench, queue, job):
    bench.queue |= {"write": ["A", "B"], "alt_stageout": queue}
    break_storage(bench, "A")
    done = bench.shell(
        "printf x > o", outputs=[{"lfn": "o", "rse": "A"}], alt_stageout=job, log={"lfn": "log.tgz", "rse": "B"}
    )
    assert done["state"] == "finished"
    assert [(file["lfn"], file["rse"]) for file in done["files"]] == [("o", "B"), ("log.tgz", "B")]
    assert bench.stored("B") == ["log.tgz", "o"]
    assert done["report"]["metrics"]["altTransferred"] == "o"
    assert done["report"]["metadata"]["pilot"]["alternative_stageout"] == ["o"]


@pytest.mark.parametrize(("queue", "job"), [("off", "on"), ("job", "off"), ("job", "")])
def test_an_output_stays_where_it_belongs_unless_somebody_allows_more(bench, queue, job):
    bench.queue |= {"write": ["A", "B"], "alt_stageout": queue}
    break_storage(bench, "A")
    done = bench.shell("printf x > o", outputs=[{"lfn": "o", "rse": "A"}], alt_stageout=job)
    assert done["state"] == "failed"
    assert [one["rse"] for one in done["attempts"]] == ["A"]
    assert "altTransferred" not in done["report"]["metrics"]


def test_the_log_has_a_storage_of_its_own(bench):
    bench.queue["log"] = ["B"]
    done = bench.shell("printf x > o", outputs=["o"], log="log.tgz")
    assert [(file["lfn"], file["rse"]) for file in done["files"]] == [("o", "A"), ("log.tgz", "B")]


# -- a catalogue -------------------------------------------------------------------------------------------------------


def test_a_catalogue_says_where_an_input_lies_and_hears_what_became_of_it(bench):
    file = bench.put("B", "in.dat")
    bench.plant_catalogue(
        **{"in.dat": [["ELSEWHERE", "file:///nowhere/in.dat"], ["B", f"file://{bench.folder}/B/in.dat"]]}
    )
    bench.queue["allow_wan"] = True
    done = bench.shell("cp in.dat out.dat", inputs=[file], outputs=["out.dat"])
    assert done["state"] == "finished"
    assert [(one["lfn"], one["rse"], one["outcome"]) for one in done["attempts"]] == [
        ("in.dat", "ELSEWHERE", "SourceNotFound"),
        ("in.dat", "B", "ok"),
        ("out.dat", "A", "ok"),
    ]
    assert bench.text_of("heard").splitlines() == [
        *("7 read in.dat SourceNotFound", "7 read in.dat ok", "7 write out.dat ok", "settled"),
    ]
    assert bench.text_of("registered") == ""


def test_an_input_that_the_catalogue_does_not_know_fails_the_job_with_its_code(bench):
    bench.plant_catalogue()
    done = bench.shell("true", inputs=[{"lfn": "in.dat", "scope": "s"}])
    assert failures(done) == [
        (
            1326,
            (
                "input s:in.dat: the catalogue knows no replica of it that can be read here; "
                "check its name, whether it still exists, and which stagers are installed"
            ),
        )
    ]


def test_a_catalogue_that_does_not_answer_leaves_it_to_the_queue(bench):
    bench.plant_catalogue(trouble="shelf: no answer")
    file = bench.put("A", "in.dat")
    done = bench.start({"parameters": "-c 'cat in.dat'", "inputs": [file]}, "--json")
    assert json.loads(done.stdout)["state"] == "finished"
    assert "where inputs lie is taken from the queue, because of the catalogue: shelf: no answer" in done.stderr


def test_outputs_are_entered_into_the_catalogue_if_the_queue_says_so(bench):
    bench.plant_catalogue(places={"T1": f"file://{bench.folder}/B"})
    bench.queue |= {"register_outputs": True, "write": []}
    done = bench.shell("printf xy > o", outputs=[{"lfn": "o", "rse": "T1"}], log={"lfn": "log.tgz", "rse": "A"})
    assert done["state"] == "finished"
    assert bench.stored("B") == ["o"]
    size = (bench.folder / "A/log.tgz").stat().st_size
    assert bench.text_of("registered").splitlines() == ["o 2 T1", f"log.tgz {size} A"]


def test_outputs_that_the_catalogue_refuses_are_taken_away_again(bench):
    bench.plant_catalogue(refuses="o is known with another size")
    bench.queue["register_outputs"] = True
    done = bench.shell("printf xy > o", outputs=["o"])
    assert failures(done) == [
        (1137, "the outputs cannot be entered into the catalogue shelf: o is known with another size")
    ]
    assert bench.stored("A") == []


def test_outputs_of_a_job_that_fails_at_its_log_are_not_entered(bench):
    bench.plant_catalogue()
    bench.queue |= {"register_outputs": True, "alt_stageout": "off"}
    bench.storages["B"]["url"] = "nothing://serves/this"
    done = bench.shell("printf xy > o", outputs=["o"], log={"lfn": "log.tgz", "rse": "B"})
    assert [failure["task"] for failure in done["errors"]] == ["log"]
    assert bench.text_of("registered") == ""
    assert bench.stored("A") == []


def test_an_explanation_shows_the_catalogues_replicas(bench):
    bench.plant_catalogue(**{"in.dat": [["A", f"file://{bench.folder}/A/x/in.dat"], ["FAR", "file:///far/in.dat"]]})
    bench.queue["allow_wan"] = True
    found = bench.run({"inputs": ["in.dat"], "parameters": "-c true"}, "--explain")
    assert [(each["place"], each["rse"], each["url"]) for each in found["files"][0]["choices"]] == [
        (1, "A", f"file://{bench.folder}/A/x/in.dat"),
        (2, "FAR", "file:///far/in.dat"),
    ]
    assert "catalog.shelf" in [plugin["name"] for plugin in found["plugins"]]
    assert bench.text_of("heard") == ""


def test_a_catalogue_that_is_not_installed_ends_the_pilot_in_one_line(bench):
    bench.queue["catalog"] = "rucioo"
    done = bench.start({"parameters": "-c true"})
    assert (done.returncode, done.stdout) == (3, "")
    assert "rucioo" in done.stderr.splitlines()[-1]


@pytest.mark.needs("module:cryptography")
def test_storages_and_catalogues_may_be_shown_the_pilots_certificate_and_never_its_token(bench):
    from pilot_core.testing.tls import TestAuthority

    (bench.folder / "ca").mkdir()
    certificate, key = TestAuthority(bench.folder / "ca").client()
    token = bench.folder / "token"
    token.write_text("eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.x")
    token.chmod(0o600)
    bench.plant_catalogue()
    bench.storages["B"]["url"] = "board://b/x"
    job = {"parameters": "-c true"}
    assert bench.run(job, "--cert", certificate, "--key", key)["state"] == "finished"
    assert bench.run(job, "--token-file", token, "--token-origin", "vo.role")["state"] == "finished"
    assert bench.run(job)["state"] == "finished"
    assert bench.text_of("shown").split() == ["ClientCertificate"] * 2 + ["None"] * 4
