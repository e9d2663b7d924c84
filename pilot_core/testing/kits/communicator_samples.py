"""What the communicator kit offers, asks and tells: values that a careless translation would not survive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pilot_core.api.communicator import FileReport, JobRequest, JobUpdate, WorkerNode, WorkerStatus
from pilot_core.api.job import InputFile, Job, OutputFile, Step
from pilot_core.testing.memory_store import QUEUE

__all__ = ["JOB", "NODE", "ODD_TEXT", "PARAMETERS", "REQUEST", "STATUS", "UPDATE", "plain_job", "plain_update"]

JOB_ID = 6_612_345_678
"""Beyond 32 bits, as PandaIDs are."""
ODD_TEXT = "\"double\" 'single' <tag> & a=b;c 100%25 1+1 \\n back\\slash Größe → µ 漢字 😀 {json: [1, 2]} $HOME `x`"
PARAMETERS = f"--in 'a b' --list=a,b --null=NULL --none=None  --two-blanks {ODD_TEXT} --last='x'\n--next\tline"

REQUEST = JobRequest(
    queue=QUEUE,
    label="ptest",
    node="slot1@wn1.kit.example",
    jobs=3,
    memory_mb=32_000,
    disk_mb=15_001,
    remaining_seconds=86_399,
    resource_type="MCORE",
    computing_element="ce1.kit.example",
    task_id=41_234_567,
    job_type="user",
    harvester_id="harvester-1",
    worker_id=4_711_000_001,
    scheduler_id="scheduler-1",
    user="Jane Doe",
)
"""A request for jobs that says everything."""

JOB = Job(
    id=JOB_ID,
    attempt=3,
    name="kit.job-1",
    label="managed",
    transformation="/cvmfs/kit.example/bin/Sim_tf.py",
    parameters=PARAMETERS,
    inputs=(
        InputFile(
            lfn="EVNT.1._000001.pool.root.1",
            scope="mc23_13p6TeV",
            guid="7f1c3e0a-0000-4000-8000-000000000001",
            size=5_000_000_001,
            checksum="adler32:0a1b2c3d",
            dataset="mc23.evgen.EVNT.e1",
            rse="KIT_DATADISK",
            token="local",  # noqa: S106  (a storage token: the name of a space)
        ),
        InputFile(lfn="empty+file~2.root", scope="user.jdoe", size=0, checksum="md5:d41d8cd98f00b204e9800998ecf8427e"),
        InputFile(lfn="unknown.root", scope="mc23_13p6TeV"),
    ),
    outputs=(
        OutputFile(lfn="HITS.1._000001.pool.root.1", scope="mc23_13p6TeV", dataset="mc23.HITS.e1", rse="KIT_DATADISK"),
        OutputFile(
            lfn="extra.root", scope="mc23_13p6TeV", dataset="mc23.extra.e1", rse="KIT_SCRATCH", may_be_missing=True
        ),
    ),
    log=OutputFile(
        lfn="log.1._000001.job.log.tgz.1",
        scope="mc23.log",
        guid="9b1c3e0a-0000-4000-8000-000000000009",
        dataset="mc23.log.e1",
        rse="KIT_LOGDISK",
    ),
    task_id=41_234_567,
    jobset_id=98_765,
    core_count=8,
    memory_mb=16_000,
    disk_mb=20_001,
    max_cpu_seconds=432_000,
    max_wall_seconds=86_400,
    resource_type="MCORE",
    processing_type="simul",
    priority=950,
    user="Jane Doe",
    release="Athena-24.0.40",
    home_package="Athena/24.0.40",
    platform="x86_64-el9-gcc13-opt",
    transfer_type="direct",
    looping_check=False,
    debug=True,
    container_image="docker://kit.example/image:1",
    preprocess=Step(command="prepare.sh", arguments="--one 'two three'"),
    postprocess=Step(command="finish.sh", arguments="-v"),
    coprocess=Step(command="beside.sh", arguments=""),
    container_options={"containerImage": "docker://kit.example/other:2", "workDir": "/data"},
    input_lists={"inputs.txt": ("EVNT.1._000001.pool.root.1", "unknown.root")},
    secrets={"KIT_USER_KEY": "user's secret, with = and &"},
    pilot_secrets={"KIT_PILOT_KEY": "pilot's secret"},
    extra={"kitWord": "kept as received"},
)
"""A job that says everything; `queue_overrides` have no place of their own in PanDA's description."""

UPDATE = JobUpdate(
    job_id=JOB_ID,
    attempt=3,
    state="finished",
    sub_state="stage-out done",
    queue=QUEUE,
    node="slot1@wn1.kit.example",
    pilot_id="https://logs.kit.example/1?a=b|PR|4.0.0",
    batch_id="cluster.1234.0",
    scheduler_id="scheduler-1",
    start_time=1_767_243_661.0,
    end_time=1_767_330_062.0,
    timing=(2, 35, 15_023, 41, 0, 88),
    core_count=8,
    cpu_seconds=120_184,
    cpu_unit="s+AMD EPYC 7B12 8-Core 512 KB",
    max_rss_kb=2_100_000_001,
    input_files=3,
    events=1000,
    payload_exit_code=65,
    payload_error_code=65,
    payload_error="the payload said: no such detector",
    pilot_error_code=1305,
    pilot_error="payload execution failed",
    files=(
        FileReport(
            lfn="HITS.1._000001.pool.root.1",
            guid="1a1c3e0a-0000-4000-8000-00000000000a",
            size=5_000_000_001,
            checksum="adler32:0a1b2c3d",
            surl="davs://se.kit.example:443/a/b/HITS.1?x=1",
            rse="KIT_DATADISK",
            events=1000,
        ),
        FileReport(lfn="log.tgz", guid="1b", size=0, checksum="md5:d41d8cd98f00b204e9800998ecf8427e"),
    ),
    metadata={"files": {"output": [{"name": "HITS", "nentries": 1000, "ratio": 0.25}]}, "Größe": None, "ok": True},
    metrics={"nEvents": "1000", "workDirSize": "123456"},
    log_extract="10:00 started\n10:01 ended: a=b & c\n",
    stdout="last line of the payload → end\n",
)
"""The last update of a job, which says everything."""

STATUS = WorkerStatus(
    worker_id=4_711_000_001,
    harvester_id="harvester-1",
    status="started",
    site="KIT-SITE",
    node="slot1@wn1.kit.example",
)
NODE = WorkerNode(
    site="KIT-SITE",
    queue=QUEUE,
    host_name="wn1.kit.example",
    cpu_model="AMD EPYC 7B12",
    logical_cpus=64,
    sockets=2,
    cores_per_socket=16,
    threads_per_core=2,
    cpu_architecture="x86_64",
    cpu_architecture_level="x86_64-v3",
    clock_mhz=2700.0,
    memory_mb=256_001,
    disk_gb=900,
)


def plain_job(number: int = 1, **values: Any) -> Job:
    """Return a job that says little; `number` tells jobs apart."""
    job = Job(id=JOB_ID + number, attempt=1, label="managed", transformation="/bin/true", log=OutputFile(lfn="log.tgz"))
    return replace(job, **values)


def plain_update(number: int = 1, /, **values: Any) -> JobUpdate:
    """Return an update of the plain job of that number; `running` unless told otherwise."""
    return JobUpdate(**{"job_id": JOB_ID + number, "attempt": 1, "state": "running", **values})
