"""One server under attack for all tests of this folder that want the real process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.attack import CLIENT_TIMEOUT, ORIGIN, assert_no_surprises
from tests.security.test_chain import SECRET
from tests.support.process import DevkitProcess


@pytest.fixture(scope="session")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    root = tmp_path_factory.mktemp("attacked")
    settings = {"client_timeout": CLIENT_TIMEOUT, "cors_origins": ORIGIN, "jwt_secret": SECRET, "max_body_bytes": 65536}
    settings |= {"audit_file": root / "audit.jsonl", "trusted_proxies": "127.0.0.2"}
    with DevkitProcess(root, **settings) as running:
        yield running
        assert_no_surprises(running)
