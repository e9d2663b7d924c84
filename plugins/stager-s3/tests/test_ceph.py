"""On a real Ceph gateway: what others read and wrote, what it refuses, and what becomes of transfers that break."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import subprocess
import threading
import zlib
from urllib.request import urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_stager_s3.problems import error_of
from pilot_stager_s3.session import Call, Limits
from pilot_stager_s3.upload import part_size

from pilot_core import (
    AuthError,
    BackendUnavailable,
    Cancelled,
    ChecksumMismatch,
    NoSpace,
    PilotErrorCode,
    SourceNotFound,
    SystemClock,
    TargetExists,
    TransferTimeout,
    TransientError,
)
from pilot_core.api.web import WebBody
from pilot_core.testing.servers.relay import Trouble

MIB = 1 << 20
SMALL = b"a few bytes"
LARGE = bytes(range(251)) * (12 * MIB // 251)
"""Three parts of 5 MiB, the last one shorter."""

pytestmark = pytest.mark.needs("bin:ceph-mon", "bin:ceph-osd", "bin:radosgw", "bin:ceph", "module:boto3")


def adler(data):
    return f"adler32:{zlib.adler32(data):08x}"


def once(call, after=0):
    """Return a `progress` that makes a call once, when so many bytes are done."""
    calls = [call]
    return lambda done: calls.pop()() if calls and done >= after else None


def head(storage, name="f.dat"):
    return storage.site.client.head_object(Bucket=storage.bucket, Key=name)


# -- real peers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", SMALL, LARGE[: 5 * MIB], LARGE], ids=["empty", "small", "one-part", "large"])
def test_boto3_reads_what_we_wrote_and_stat_knows_its_checksum(bench, storage, data):
    result = bench.store("dir/ü f%.dat", data)
    assert storage.get("dir/ü f%.dat") == data
    assert (result.size, result.checksum) == (len(data), adler(data))
    found = bench.stat("dir/ü f%.dat")
    assert (found.size, found.checksum) == (len(data), adler(data))


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_we_read_what_boto3_wrote(bench, storage, data, tmp_path):
    source = tmp_path / "theirs"
    source.write_bytes(data)
    storage.site.client.upload_file(str(source), storage.bucket, "f.dat")
    result = bench.fetch(size=len(data), checksum=adler(data))
    assert bench.local.read_bytes() == data
    assert result.checksum == adler(data)


@pytest.mark.needs("bin:curl")
def test_curl_reads_a_presigned_url_for_as_long_as_it_holds(bench, storage):
    bench.store("a b+c.dat", SMALL)
    url = bench.stager.presigned_url(storage.url("a b+c.dat"))
    done = subprocess.run(["curl", "-sSf", url], capture_output=True, check=True)
    assert done.stdout == SMALL
    with urlopen(bench.made(presigned_seconds=1).presigned_url(storage.url("a b+c.dat"))) as answer:
        assert answer.read() == SMALL
    damaged = url[:-1] + ("0" if url[-1] != "0" else "1")
    assert subprocess.run(["curl", "-sf", damaged], capture_output=True, check=False).returncode == 22


@pytest.mark.needs("bin:curl")
def test_curl_reads_what_we_wrote_with_a_signature_of_its_own(bench, storage):
    bench.store(data=SMALL)
    gateway = storage.site.gateway
    config = f'user = "{gateway.access_key}:{gateway.secret_key}"\naws-sigv4 = "aws:amz:us-east-1:s3"\n'
    config += f'url = "{gateway.endpoint}/{storage.bucket}/f.dat"\n'
    done = subprocess.run(
        ["curl", "-sSf", "-K", "-", "-H", f"x-amz-content-sha256: {hashlib.sha256().hexdigest()}"],
        input=config.encode(),
        capture_output=True,
        check=True,
    )
    assert done.stdout == SMALL


# -- checksums ---------------------------------------------------------------------------------------------------------


def test_stat_tells_the_md5_of_what_others_wrote_in_one_request(bench, storage):
    storage.put("f.dat", SMALL)
    assert bench.stat().checksum == f"md5:{hashlib.md5(SMALL).hexdigest()}"
    assert bench.made(etag_is_md5=False).stat(storage.url("f.dat"), **bench.limits()).checksum == ""


def test_a_checksum_that_is_known_before_goes_with_the_object_from_the_beginning(bench, storage):
    bench.store(data=LARGE, checksum=adler(LARGE))
    assert head(storage)["Metadata"] == {"adler32": adler(LARGE).partition(":")[2]}
    assert "TagCount" not in head(storage)


def test_the_label_of_an_older_object_is_not_believed(bench, storage):
    bench.store(data=LARGE)
    tags = storage.site.client.get_object_tagging(Bucket=storage.bucket, Key="f.dat")["TagSet"]
    storage.put("f.dat", SMALL)
    storage.site.client.put_object_tagging(Bucket=storage.bucket, Key="f.dat", Tagging={"TagSet": tags})
    assert bench.stat().checksum == f"md5:{hashlib.md5(SMALL).hexdigest()}"


def test_the_gateway_refuses_bytes_that_were_damaged_on_the_way(bench, storage):
    """Its own check of Content-MD5, and the class that becomes of it."""
    location = bench.stager._locator.find(storage.url("f.dat"), reading=False)
    headers = {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    call = Call(method="PUT", location=location, what="x", headers=headers, body=WebBody.of(SMALL))
    problem = bench.stager._session.ask(call, Limits(**bench.limits()))
    assert problem.code == "BadDigest"
    assert isinstance(error_of(problem, "x"), ChecksumMismatch)
    assert storage.get("f.dat") is None


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_an_auth_error_that_names_the_setting(bench, storage):
    storage.put("f.dat", SMALL)
    secret = storage.site.gateway.secret_key
    storage.refuse()
    for call in (bench.fetch, lambda: bench.store(data=SMALL), lambda: bench.store(data=LARGE), bench.stat):
        with pytest.raises(AuthError, match="credentials_file") as error:
            call()
        assert secret not in str(error.value)
    assert storage.names() == {"f.dat"}


def test_an_unknown_key_is_an_auth_error(bench, storage):
    storage.keys.write_text("[default]\naws_access_key_id = NOBODY\naws_secret_access_key = secret\n")
    with pytest.raises(AuthError, match="InvalidAccessKeyId"):
        bench.fetch()


def test_keys_that_are_renewed_are_taken_without_a_restart(bench, storage):
    storage.put("f.dat", SMALL)
    storage.refuse()
    with pytest.raises(AuthError):
        bench.fetch()
    storage.site.write_keys(file=storage.keys)
    bench.fetch()
    assert bench.local.read_bytes() == SMALL


def test_somebody_elses_bucket_is_an_auth_error(bench, storage):
    storage.put("f.dat", SMALL)
    admin = storage.site.gateway.admin
    keys = json.loads(admin("user", "create", f"--uid=other-{storage.bucket}", "--display-name=other"))["keys"][0]
    storage.keys.write_text(
        f"[default]\naws_access_key_id = {keys['access_key']}\naws_secret_access_key = {keys['secret_key']}\n"
    )
    with pytest.raises(AuthError, match="AccessDenied"):
        bench.fetch()
    with pytest.raises(AuthError, match="403"):
        bench.stat()
    with pytest.raises(AuthError, match="AccessDenied"):
        bench.store(data=SMALL)


def test_public_objects_are_read_without_keys(bench, storage):
    storage.put("f.dat", SMALL, ACL="public-read")
    storage.put("private.dat", SMALL)
    stager = bench.made(credentials_file=None)
    bench.fetch(stager=stager)
    assert bench.local.read_bytes() == SMALL
    with pytest.raises(AuthError):
        bench.fetch("private.dat", stager=stager)


def test_a_missing_bucket_is_told(bench):
    with pytest.raises(SourceNotFound, match=r"NoSuchBucket.*s3://HOST:PORT/BUCKET/KEY"):
        bench.fetch(url="s3://no-such-bucket/f.dat")
    with pytest.raises(BackendUnavailable, match="NoSuchBucket"):
        bench.store(url="s3://no-such-bucket/f.dat", data=SMALL)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_full_quota_is_no_space(bench, storage, data):
    admin = storage.site.gateway.admin
    user = f"--uid=poor-{storage.bucket}"
    keys = json.loads(admin("user", "create", user, "--display-name=poor", "--max-buckets=5"))["keys"][0]
    import boto3

    poor = boto3.client(
        "s3",
        endpoint_url=storage.site.gateway.endpoint,
        aws_access_key_id=keys["access_key"],
        aws_secret_access_key=keys["secret_key"],
        region_name="us-east-1",
    )
    poor.create_bucket(Bucket=f"poor-{storage.bucket}")
    admin("quota", "set", user, "--quota-scope=user", "--max-size=1")
    admin("quota", "enable", user, "--quota-scope=user")
    storage.keys.write_text(
        f"[default]\naws_access_key_id = {keys['access_key']}\naws_secret_access_key = {keys['secret_key']}\n"
    )
    with pytest.raises(NoSpace, match="QuotaExceeded"):
        bench.store(url=f"s3://poor-{storage.bucket}/f.dat", data=data)
    assert not poor.list_multipart_uploads(Bucket=f"poor-{storage.bucket}").get("Uploads")


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_without_overwrite_an_object_stays(bench, storage, data):
    storage.put("f.dat", b"older")
    with pytest.raises(TargetExists, match="is there already"):
        bench.store(data=data, overwrite=False)
    assert storage.get("f.dat") == b"older"
    bench.store("free.dat", data, overwrite=False)
    assert storage.get("free.dat") == data
    assert storage.names() == {"f.dat", "free.dat"}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_an_object_that_appears_meanwhile_stays_without_overwrite(bench, storage, data):
    """The gateway judges a single request's condition itself; before parts are joined it is asked again."""

    def meanwhile(_):
        if storage.get("f.dat") is None:
            storage.put("f.dat", b"somebody's")

    with pytest.raises(TargetExists, match="is there already"):
        bench.store(data=data, overwrite=False, progress=meanwhile)
    assert storage.get("f.dat") == b"somebody's"
    assert storage.names() == {"f.dat"}


# -- the clock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-7200.0, 7200.0], ids=["behind", "ahead"])
def test_a_wrong_clock_is_put_right_and_said(bench, storage, caplog, step):
    stager = bench.made(clock=SystemClock(wall_step=step))
    with caplog.at_level(logging.WARNING):
        bench.store(data=LARGE, stager=stager)
        bench.fetch(stager=stager)
    assert bench.local.read_bytes() == LARGE
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    way = "behind" if step < 0 else "ahead of"
    assert re.search(rf"clock is 7(199|20\d) s {way} that of 127.0.0.1", record.getMessage())


# -- TLS ---------------------------------------------------------------------------------------------------------------


def secure(bench, storage, **more):
    gateway = storage.site.gateway
    return bench.made(endpoint=gateway.tls_endpoint, plain_http=False, **more), gateway.tls_endpoint.partition("//")[2]


def test_files_go_over_tls_both_ways(bench, storage):
    stager, host = secure(bench, storage, ca_file=storage.site.authority.ca_file)
    bench.store(data=LARGE, stager=stager)
    bench.fetch(stager=stager, url=f"s3://{host}/{storage.bucket}/f.dat", checksum=adler(LARGE))
    assert bench.local.read_bytes() == LARGE


def test_an_authority_that_is_not_trusted_is_refused(bench, storage):
    storage.put("f.dat", SMALL)
    stager, host = secure(bench, storage)
    with pytest.raises(BackendUnavailable, match="certificate is refused"):
        bench.fetch(stager=stager)
    stager, _ = secure(bench, storage, ca_file=storage.site.authority.ca_file)
    url = f"s3://{host.replace('localhost', '127.0.0.2')}/{storage.bucket}/f.dat"
    with pytest.raises(AuthError, match="no section"):
        bench.fetch(stager=stager, url=url)


# -- broken transfers --------------------------------------------------------------------------------------------------


def test_an_object_that_changes_while_it_is_read_is_not_mixed(bench, storage):
    storage.put("f.dat", LARGE)
    storage.relay.bring(Trouble(kind="cut", after=5 * MIB))

    change = once(lambda: storage.put("f.dat", LARGE[::-1]))
    with pytest.raises(TransientError, match="changed on the storage"):
        bench.fetch(progress=change)
    assert not bench.local.exists()


def test_a_fetch_goes_on_after_the_server_was_restarted(bench, storage):
    storage.put("f.dat", LARGE)
    gateway = storage.site.gateway
    storage.relay.bring(Trouble(kind="stall", after=5 * MIB))

    def restart():
        gateway.stop()
        gateway.start()

    result = bench.fetch(progress=once(restart), stager=bench.made(silence=1.0, tries=8), checksum=adler(LARGE))
    assert result.size == len(LARGE)
    assert bench.local.read_bytes() == LARGE


def test_a_store_goes_on_after_the_server_was_restarted(bench, storage):
    gateway = storage.site.gateway

    def restart():
        gateway.stop()
        gateway.start()

    result = bench.store(data=LARGE, progress=once(restart, after=8 * MIB))
    assert storage.get("f.dat") == LARGE
    assert result.checksum == adler(LARGE)
    assert storage.names() == {"f.dat"}


def test_keys_that_expire_in_mid_transfer_are_an_auth_error_or_renewed(bench, storage):
    storage.put("f.dat", LARGE)
    storage.relay.bring(Trouble(kind="cut", after=5 * MIB))
    with pytest.raises(AuthError):
        bench.fetch(progress=once(storage.refuse))
    assert not bench.local.exists()
    storage.site.write_keys(file=storage.keys)
    storage.relay.bring(Trouble(kind="cut", after=5 * MIB))
    bench.fetch()
    assert bench.local.read_bytes() == LARGE


@pytest.mark.parametrize("after", [0, 100, MIB, 7 * MIB, 11 * MIB])
def test_a_part_whose_connection_breaks_is_sent_again(bench, storage, after):
    storage.relay.bring(Trouble(kind="cut", after=after + 2000, way="up"))
    result = bench.store(data=LARGE)
    assert storage.get("f.dat") == LARGE
    assert result.checksum == adler(LARGE)
    assert storage.names() == {"f.dat"}


@pytest.mark.parametrize("after", [0, 200, 800, 1000, 1200, 1400, 1600])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_answers_that_get_lost_are_no_failure(bench, storage, data, after):
    """One answer does not arrive; which one depends on how many bytes of answers do."""
    storage.relay.bring(Trouble(kind="cut", after=after))
    if data == LARGE and after < 400:
        # that of the request that begins an upload: nobody knows its name now, and it has no parts
        with pytest.raises(TransientError):
            bench.store(data=data)
        assert storage.names() <= {"unfinished: f.dat"}
        return
    assert bench.store(data=data).checksum == adler(data)
    assert storage.get("f.dat") == data
    assert storage.names() == {"f.dat"}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_an_upload_that_stalls_is_cancelled_within_a_second_and_nothing_stays(bench, storage, data):
    storage.relay.bring(Trouble(kind="stall", after=len(data) // 2 + 1000 * (len(data) > 1000), way="up", times=9))
    clock = SystemClock()
    began = []

    def cancel():
        clock.wait(until=clock.monotonic() + 0.7)
        storage.relay.heal()  # what was sent before still arrives; what was not, does not
        began.append(clock.monotonic())
        bench.cancel.cancel("enough")

    caller = threading.Thread(target=cancel)
    caller.start()
    try:
        bench.store(data=data)
    except Cancelled:
        took = clock.monotonic() - began[0]
        assert took < 3.0
        assert storage.names() == set()
    else:
        assert storage.get("f.dat") == data  # it was quicker than the cancellation
    finally:
        caller.join()


def test_a_deadline_ends_a_stalled_upload(bench, storage):
    storage.relay.bring(Trouble(kind="stall", after=6 * MIB, way="up", times=99))
    with pytest.raises(TransferTimeout):
        bench.store(data=LARGE, seconds=1.0)
    storage.relay.heal()
    assert storage.get("f.dat") is None


def test_a_source_that_changes_while_it_is_sent_leaves_no_parts(bench, storage):
    def grow():
        with bench.local.open("ab") as file:
            file.write(b"more")

    with pytest.raises(TransientError, match="changed while it was read"):
        bench.store(data=LARGE, progress=once(grow))
    assert storage.names() == set()


def test_a_wrong_checksum_leaves_no_parts(bench, storage):
    with pytest.raises(ChecksumMismatch) as error:
        bench.store(data=LARGE, checksum="adler32:deadbeef")
    assert error.value.error_code == PilotErrorCode.PUTADMISMATCH
    assert storage.names() == set()


# -- much and many -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "part", "parts"),
    [(5 * MIB, 5, 1), (5 * MIB + 1, 5, 2), (100 * 10**9, 10, 9537), (5 * 2**40, 525, 9987)],
)
def test_parts_are_no_more_than_s3_allows(size, part, parts):
    found = part_size(size, 5 * MIB)
    assert found == part * MIB
    assert -(-size // found) == parts


@given(st.integers(1, 48 * 2**40), st.integers(5, 64))
def test_parts_are_whole_mebibytes_and_as_small_as_may_be(size, wanted):
    part = part_size(size, wanted * MIB)
    assert part % MIB == 0
    assert part >= wanted * MIB
    assert -(-size // part) <= 10_000
    assert part == wanted * MIB or -(-size // (part - MIB)) > 10_000
