"""Fixtures shared by the module's tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(MODULE_ROOT))


class MemoryStorage:
    """Stands where the run's storage would: keeps what is saved."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, str]] = {}

    def save_file(self, filename: str, content: str, content_type: str) -> str:
        self.files[filename] = (content, content_type)
        return f"s3://runs/test/{filename}"


@pytest.fixture
def sample_input() -> dict[str, Any]:
    return json.loads((MODULE_ROOT / "examples" / "sample_input.json").read_text())


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def run(storage: MemoryStorage):
    """Run the module as the platform does: input and context in, output envelope out."""
    from backend.main import UIModule

    class StoringModule(UIModule):
        progress: list[tuple[float, str]] = []

        def _initialize_helpers(self, context):
            super()._initialize_helpers(context)
            self.storage = storage if context.get("with_storage") else None

        def report_progress(self, percent, message="", estimated_completion=None):
            self.progress.append((percent, message))

    def execute(input_data: dict[str, Any], *, with_storage: bool = True) -> tuple[dict[str, Any], list]:
        module = StoringModule(manifest_path=str(MODULE_ROOT / "manifest.json"))
        module.progress = []
        context = {
            "run_id": "test-run",
            "module_id": "anchor-motif-explorer",
            "organization_id": "test-org",
            "user_id": "test-user",
            "environment": "dev",
            "mode": "test",
            "offline": True,
            "with_storage": with_storage,
        }
        return module.run(input_data, context), module.progress

    return execute
