"""The watched directory: what is seen of it however folders come, go and are replaced."""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from devkit_api.lifetimes import BUNDLES, WATCHER
from devkit_api.modules.routes import REGISTRY
from tests.support.client import client_of
from tests.support.modules import write_module
from tests.support.waiting import until_async

Client = TestClient[Any, Any]


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    write_module(tmp_path / "modules" / "paged")
    return tmp_path / "modules"


@pytest.fixture
async def client(modules: Path, tmp_path: Path) -> AsyncIterator[Client]:
    """A devkit that watches, and has begun to."""
    async with client_of(tmp_path / "state", modules_dir=modules) as made:
        await _seen(made, modules / "paged", "first")
        yield made


async def _seen(client: Client, module: Path, word: str) -> None:
    """A save of the module's main.py is registered."""
    main = module / "backend" / "main.py"
    text = f"{main.read_text()}# {word}\n"
    main.write_text(text)
    await until_async(lambda: _registered(client, module.name) == text)


def _registered(client: Client, module_id: str) -> str | None:
    """The main.py of the module as a run of it would have it."""
    assert client.app is not None
    found = [m.bundle.digest for m in client.app[REGISTRY].current() if m.module_id == module_id and m.bundle]
    # A look while the folder is being replaced may have found it without.
    main = client.app[BUNDLES].path(found[0]) / "backend" / "main.py" if found else None
    return main.read_text() if main and main.is_file() else None


def _watched(client: Client) -> set[str]:
    assert client.app is not None
    [watcher] = client.app[WATCHER]
    return {str(path.relative_to(watcher._directory)) for path in watcher._watched()}


async def test_saves_are_seen_in_folders_that_are_new_or_replaced(client: Client, modules: Path) -> None:
    write_module(modules / "later")
    await until_async(lambda: _registered(client, "later"))
    await _seen(client, modules / "later", "one")
    kept = modules.parent / "kept"
    shutil.copytree(modules / "paged", kept)
    for part in ("backend", ".", "backend"):  # the same name, and another folder
        text = f"{_registered(client, 'paged')}# {part}\n"
        (kept / "backend" / "main.py").write_text(text)
        shutil.rmtree(modules / "paged" / part)
        shutil.copytree(kept / part, modules / "paged" / part)
        await until_async(lambda text=text: _registered(client, "paged") == text)
        await _seen(client, modules / "paged", "after")


async def test_a_folder_becomes_a_module_and_a_link_is_one(client: Client, modules: Path) -> None:
    (modules / "empty").mkdir()
    made = write_module(modules.parent / "empty")
    shutil.copytree(made / "backend", modules / "empty" / "backend")
    shutil.copy(made / "manifest.json", modules / "empty")
    await until_async(lambda: _registered(client, "empty"))
    await _seen(client, modules / "empty", "one")
    write_module(modules.parent / "linked")
    (modules / "linked").symlink_to(modules.parent / "linked")
    await until_async(lambda: _registered(client, "linked"))
    await _seen(client, modules / "linked", "one")


async def test_what_is_no_part_of_a_module_is_not_watched(client: Client, modules: Path) -> None:
    page = modules / "paged" / "frontend"
    packages = modules.parent / "packages"
    (packages / "react" / "deep").mkdir(parents=True)
    (page / "src").mkdir(parents=True)
    (page / "node_modules").symlink_to(packages)
    (modules / "paged" / ".venv" / "lib").mkdir(parents=True)
    await _seen(client, modules / "paged", "one")
    parts = {"", "/backend", "/frontend", "/frontend/src"}
    assert _watched(client) == {".", *(f"paged{part}" for part in parts)}


async def test_a_directory_that_goes_is_looked_for_again(
    client: Client, modules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "devkit_api.modules.watcher"):
        modules.rename(modules.with_name("away"))
        await until_async(lambda: "it will be tried again" in caplog.text)
        modules.with_name("away").rename(modules)
        await _seen(client, modules / "paged", "again")
    assert caplog.text.count("it will be tried again") == 1
