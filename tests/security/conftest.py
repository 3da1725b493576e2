"""One server under attack for all tests of this folder that want the real process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.attack import ORIGIN, assert_no_surprises
from tests.security.test_chain import SECRET
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE


@pytest.fixture(scope="session")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevkitProcess]:
    root = tmp_path_factory.mktemp("attacked")
    # A client that stands still is not cut here, nor is a wrong credential one too many: see `strict`.
    settings = {"client_timeout": PATIENCE, "rate_limit_refused": "1000/second:100000", "max_body_bytes": 65536}
    settings |= {"audit_file": root / "audit.jsonl", "trusted_proxies": "127.0.0.2"}
    settings |= {"cors_origins": ORIGIN, "jwt_secret": SECRET}
    with DevkitProcess(root, **settings) as running:
        yield running
        assert_no_surprises(running)
