"""Both object stores: files, and S3 against a moto server on a free port."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from devkit_api.objects.files import FileObjectStore
from devkit_api.objects.protocol import ObjectStore
from devkit_api.objects.s3 import S3ObjectStore
from tests.support.s3 import load_s3, s3_settings


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket() -> str:
    """A bucket no other test has."""
    return f"devkit-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["files", "s3"])
def store_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings (without their prefix) for each kind of store."""
    if request.param == "files":
        return {}
    return s3_settings(request.getfixturevalue("s3_endpoint"), request.getfixturevalue("bucket"))


@pytest.fixture(params=["files", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An open store of each kind."""
    opened: ObjectStore
    if request.param == "files":
        opened = FileObjectStore(tmp_path / "objects")
    else:
        endpoint, bucket = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("bucket")
        opened = S3ObjectStore(load_s3(endpoint, bucket, tmp_path / "state"), tmp_path / "spool")
    await opened.open()
    yield opened
    await opened.close()
