"""A real Ceph gateway, a relay before it that spoils connections, and boto3 as the other client."""

from __future__ import annotations

import itertools
import logging
from urllib.parse import quote, unquote_plus

import pytest
from pilot_stager_s3 import make
from pilot_stager_s3.settings import Settings

from pilot_core import CancelToken, Context, Deadline, FetchRequest, StoreRequest, SystemClock
from pilot_core.testing.servers.ceph import CephGateway
from pilot_core.testing.servers.relay import Relay, Trouble
from pilot_core.testing.tls import TestAuthority

COUNTER = itertools.count()


class Site:
    """A running gateway and a client of it that has nothing to do with ours."""

    def __init__(self, gateway, authority, folder):
        import boto3
        from botocore.config import Config

        logging.getLogger("botocore").setLevel(logging.INFO)
        self.gateway = gateway
        self.authority = authority
        self.keys = folder / "credentials"
        self.write_keys()
        self.client = boto3.client(
            "s3",
            endpoint_url=gateway.endpoint,
            aws_access_key_id=gateway.access_key,
            aws_secret_access_key=gateway.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def write_keys(self, secret=None, file=None):
        file = file or self.keys
        secret = secret or self.gateway.secret_key
        text = f"[default]\naws_access_key_id = {self.gateway.access_key}\naws_secret_access_key = {secret}\n"
        file.write_text(text)
        return file

    def bucket(self):
        name = f"bucket-{next(COUNTER)}"
        self.client.create_bucket(Bucket=name)
        return name


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ceph")
    authority = TestAuthority(folder)
    with CephGateway(folder / "cluster", certificate=authority.server_file()) as gateway:
        yield Site(gateway, authority, folder)


class BucketStorage:
    """A fresh bucket of the gateway, seen past the stager; in between a relay."""

    def __init__(self, site, relay, keys):
        self.site = site
        self.relay = relay
        self.keys = keys
        self.bucket = site.bucket()

    def url(self, name):
        return f"s3://{self.bucket}/{quote(name, safe='/')}"

    def put(self, name, data, **more):
        try:
            self.site.client.put_object(Bucket=self.bucket, Key=name, Body=data, **more)
        except self.site.client.exceptions.ClientError as error:
            raise OSError(str(error)) from error

    def get(self, name):
        try:
            return self.site.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
        except self.site.client.exceptions.NoSuchKey:
            return None

    def names(self):
        objects = self.site.client.list_objects_v2(Bucket=self.bucket, EncodingType="url").get("Contents", ())
        uploads = self.site.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        return {unquote_plus(o["Key"]) for o in objects} | {f"unfinished: {u['Key']}" for u in uploads}

    # -- trouble -----------------------------------------------------------------------------------------------------

    def stall(self, name, data):
        self.put(name, data)
        self.relay.bring(Trouble(kind="stall", after=len(data) // 2, times=1000))

    def cut(self, name, data):
        self.put(name, data)
        self.relay.bring(Trouble(kind="cut", after=len(data) // 2, times=1000))

    def down(self):
        self.relay.refuse()

    def refuse(self):
        self.site.write_keys("a secret that is wrong".replace(" ", "-"), self.keys)


@pytest.fixture
def relay(site):
    with Relay(site.gateway.port) as relay:
        yield relay


@pytest.fixture
def storage(site, relay, tmp_path):
    return BucketStorage(site, relay, site.write_keys(file=tmp_path / "credentials"))


@pytest.fixture
def settings(storage):
    return {
        "endpoint": f"http://127.0.0.1:{storage.relay.port}",
        "plain_http": True,
        "credentials_file": storage.keys,
        "part_size": 5,
    }


class Bench:
    """A stager, a storage, a place to work."""

    def __init__(self, storage, settings, folder):
        self.storage = storage
        self.folder = folder
        self.settings = settings
        self.cancel = CancelToken()
        self.clock = SystemClock()
        self.local = folder / "local.dat"
        self.stager = self.made()

    def made(self, clock=None, **more):
        log = logging.getLogger("pilot_core.stager.s3")
        context = Context(clock=clock or self.clock, log=log, work_dir=self.folder)
        return make(Settings(**{**self.settings, **more}), context)

    def limits(self, seconds=60.0):
        return {"cancel": self.cancel, "deadline": Deadline.after(self.clock, seconds)}

    def fetch(self, name="f.dat", *, url=None, stager=None, seconds=60.0, **more):
        request = FetchRequest(url=url or self.storage.url(name), destination=self.local, **more)
        return (stager or self.stager).fetch(request, **self.limits(seconds))

    def store(self, name="f.dat", data=None, *, url=None, stager=None, seconds=60.0, **more):
        if data is not None:
            self.local.write_bytes(data)
        request = StoreRequest(source=self.local, url=url or self.storage.url(name), **more)
        return (stager or self.stager).store(request, **self.limits(seconds))

    def stat(self, name="f.dat", **more):
        return self.stager.stat(self.storage.url(name), **self.limits(**more))


@pytest.fixture
def bench(storage, settings, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return Bench(storage, settings, folder)
