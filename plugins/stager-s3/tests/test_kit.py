"""The kit for stagers, on a real Ceph gateway."""

from __future__ import annotations

from typing import ClassVar

import pytest

from pilot_core.testing import StagerKit
from pilot_core.testing.servers.relay import Trouble

MIB = 1 << 20


@pytest.mark.needs("bin:ceph-mon", "bin:ceph-osd", "bin:radosgw", "bin:ceph", "module:boto3")
class TestS3(StagerKit):
    capabilities: ClassVar = {**StagerKit.capabilities, "resume": ("test_a_fetch_goes_on_where_it_broke_off",)}

    @pytest.fixture
    def plugin(self):
        return "stager.s3"

    @pytest.fixture
    def storage(self, storage):
        return storage

    @pytest.fixture
    def settings(self, settings):
        return settings

    def test_a_fetch_goes_on_where_it_broke_off(self, stage_in):
        """After a cut only what is missing is asked for."""
        data = bytes(range(256)) * (8 * MIB // 256)
        stage_in.storage.put("file.dat", data)
        stage_in.storage.relay.bring(Trouble(kind="cut", after=5 * MIB))
        told = []
        stage_in.fetch(size=len(data), progress=told.append)
        assert (stage_in.here / "file.dat").read_bytes() == data
        assert told == sorted(told)
        assert stage_in.storage.relay.connections == 2
