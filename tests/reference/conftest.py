"""A devkit with catalogs, an open throttle and a user, shared by the tests of the API reference."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE

EMAIL, PASSWORD = "me@lab.example", "a long phrase of mine"  # pragma: allowlist secret


@pytest.fixture(scope="package")
def reference_devkit() -> Iterator[DevkitProcess]:
    """Not in pytest's own directory: for root the embedded database server is another user."""
    with tempfile.TemporaryDirectory(prefix="devkit-reference-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        limits = dict.fromkeys(("rate_limit_read", "rate_limit_write", "rate_limit_run"), "off")
        limits["rate_limit_refused"] = "100000/second"  # schemathesis asks everything with wrong keys too
        devkit = DevkitProcess(folder / "devkit", catalogs="on", interactive_timeout="0.2", **limits)
        devkit.root.mkdir()
        subprocess.run(
            [sys.executable, "-m", "devkit_api", "users", "add", EMAIL, "--password-stdin"],
            env=devkit.environment(), input=PASSWORD + "\n", text=True, check=True, capture_output=True,
            timeout=PATIENCE,
        )  # fmt: skip
        with devkit:
            yield devkit


@pytest.fixture(scope="package")
def document(reference_devkit: DevkitProcess) -> dict[str, Any]:
    """The document as it is served."""
    answer = reference_devkit.request("GET", "/docs/openapi.json", key=None)
    assert answer.status_code == 200
    return answer.json()


@pytest.fixture(scope="package")
def bearer(reference_devkit: DevkitProcess) -> str:
    """The `Authorization` header of the local user."""
    done = subprocess.run(
        [sys.executable, "-m", "devkit_api", "token"],
        env=reference_devkit.environment(), cwd=reference_devkit.root, check=True, capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    return f"Bearer {done.stdout.strip().splitlines()[-1]}"
