"""What every test needs: the module, an offline context, a run storage that remembers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from backend.main import EpitopeAnchors

ROOT = Path(__file__).resolve().parent.parent


class RememberingStorage:
    """Stands in for the run storage behind `self.storage`."""

    run_scoped = True

    def __init__(self, fail_on: str | None = None) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.fail_on = fail_on

    def put_object(self, key: str, body: bytes, content_type: str, metadata: dict[str, str]) -> str:
        if key == self.fail_on:
            raise OSError("disk full")
        self.objects[key] = (body, content_type)
        return key

    def delete_object(self, key: str) -> None:
        del self.objects[key]


@pytest.fixture
def module() -> EpitopeAnchors:
    return EpitopeAnchors(manifest_path=str(ROOT / "manifest.json"))


@pytest.fixture
def context() -> dict[str, Any]:
    return {
        "run_id": "local-run",
        "module_id": "epitope-anchors",
        "organization_id": "local-org",
        "user_id": "local-user",
        "environment": "local",
        "correlation_id": "local-correlation",
        "requested_at": "2026-01-01T00:00:00Z",
        "offline": True,
    }


@pytest.fixture
def sample_input() -> dict[str, Any]:
    return json.loads((ROOT / "examples" / "sample_input.json").read_text(encoding="utf-8"))
