"""Why refusals are tried on a real gateway only: moto, the usual stand-in for S3, takes whatever it is given."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pilot_stager_s3.session import Call, Limits

from pilot_core.api.web import WebBody

pytestmark = pytest.mark.needs("module:moto", "module:flask", "module:flask_cors", "module:boto3")


@pytest.fixture
def storage():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        names = {"aws_access_key_id": "KEY", "aws_secret_access_key": "right", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **names).create_bucket(Bucket="bucket")
        yield SimpleNamespace(url=lambda name: f"s3+http://127.0.0.1:{port}/bucket/{name}", port=port)
    finally:
        server.stop()


@pytest.fixture
def settings(storage, tmp_path):
    keys = tmp_path / "credentials"
    keys.write_text("[default]\naws_access_key_id = KEY\naws_secret_access_key = right\n")
    endpoint = f"http://127.0.0.1:{storage.port}"
    return {"endpoint": endpoint, "plain_http": True, "credentials_file": keys, "part_size": 5}


def test_moto_takes_files_as_any_s3_does(bench):
    data = bytes(range(256)) * 24_000
    bench.store(data=data)
    bench.local.unlink()
    assert bench.fetch(size=len(data)).checksum == bench.stat().checksum
    assert bench.local.read_bytes() == data


def test_moto_takes_a_wrong_secret(bench, settings):
    settings["credentials_file"].write_text("[default]\naws_access_key_id = KEY\naws_secret_access_key = wrong\n")
    bench.store(data=b"x")
    bench.fetch()


def test_moto_takes_a_wrong_content_md5(bench):
    location = bench.stager._locator.find(bench.storage.url("f.dat"), reading=False)
    headers = {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    call = Call(method="PUT", location=location, what="x", headers=headers, body=WebBody.of(b"other bytes"))
    bench.stager._session.must(call, Limits(**bench.limits())).close()
    assert bench.stat().size == 11
