"""Export and import between documents in files and documents in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devkit_api.database.target import Target
from devkit_api.settings import Settings, SettingsError, load_settings
from devkit_api.state import StoreLocked
from devkit_api.state.binding import FILE
from devkit_api.state.json_files import JsonFileStore
from devkit_api.state.postgres.store import PostgresStore
from devkit_api.transfer import TransferRefused
from devkit_api.transfer import load as loading
from devkit_api.transfer.archive import Writer
from devkit_api.transfer.dump import export
from devkit_api.transfer.layout import FORMAT, HEADER
from devkit_api.transfer.load import load
from tests.support.client import snapshot

Ask = Callable[..., list[tuple[Any, ...]]]
DOCUMENTS = {("modules", "m@1.0.0"): {"text": "Ω\0"}, ("runs", "devkit-run-1"): {"n": 1.0}, ("plans", "p"): {}}
STORED = "SELECT collection, key, document::text FROM devkit_state.documents ORDER BY 1, 2"


def no_progress(_done: int, _total: int) -> None:
    pass


def settings_of(state: Path, database: dict[str, str] | None = None) -> Settings:
    environ = {"DEVKIT_STATE_DIR": str(state), "DEVKIT_CATALOGS": "off"}
    if database is not None:
        environ |= {"DEVKIT_STATE_BACKEND": "postgres"}
        environ |= {f"DEVKIT_{name.upper()}": value for name, value in database.items()}
    return load_settings(environ)


async def filled(state: Path) -> Path:
    """A state directory with documents as files, a sign-in, and the log of the run."""
    store = JsonFileStore(state)
    await store.open()
    for (collection, key), document in DOCUMENTS.items():
        await store.put(collection, key, document)
    await store.put("refresh-tokens", "t", {"secret": "fake"})
    await store.close()
    (state / "run-files" / "aa" / "devkit-run-1").mkdir(parents=True)
    (state / "run-files" / "aa" / "devkit-run-1" / "log.jsonl").write_text("{}\n")
    return state


async def held(store: JsonFileStore | PostgresStore) -> dict[tuple[str, str], Any]:
    await store.open()
    found = {(c, k): d for c in ("modules", "runs", "plans", "refresh-tokens") async for k, d in store.scan(c)}
    await store.close()
    return found


async def test_documents_go_to_a_database_and_back(
    tmp_path: Path, database: dict[str, str], target: Target, ask: Ask
) -> None:
    await export(settings_of(await filled(tmp_path / "files")), tmp_path / "one", no_progress)
    there = settings_of(tmp_path / "there", database)
    summary = await load(there, tmp_path / "one", no_progress)
    assert summary.documents == {"modules": 1, "plans": 1, "runs": 1}
    assert await held(PostgresStore(target)) == DOCUMENTS
    assert (tmp_path / "there" / "run-files" / "aa" / "devkit-run-1" / "log.jsonl").is_file()
    assert not (tmp_path / "there" / "runs").exists()
    [(state_id,)] = ask("SELECT state_id::text FROM devkit_state.owner")
    assert (tmp_path / "there" / FILE).read_text().strip() == state_id

    before = snapshot(tmp_path / "there")
    await export(there, tmp_path / "two", no_progress)
    assert snapshot(tmp_path / "there") == before, "the copy of the documents is gone again"
    back = settings_of(tmp_path / "back")
    assert (await load(back, tmp_path / "two", no_progress)).documents == summary.documents
    assert await held(JsonFileStore(tmp_path / "back")) == DOCUMENTS
    with pytest.raises(TransferRefused, match="it holds"):
        await load(settings_of(tmp_path / "more", database), tmp_path / "two", no_progress)
    with pytest.raises(SettingsError, match="in PostgreSQL"):
        await export(settings_of(tmp_path / "there"), tmp_path / "three", no_progress)


async def test_a_database_that_is_owned_is_left_alone(tmp_path: Path, database: dict[str, str], target: Target) -> None:
    await export(settings_of(await filled(tmp_path / "files")), tmp_path / "one", no_progress)
    owner = PostgresStore(target)
    await owner.open()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(StoreLocked, match="owns the state"):
        await export(settings_of(tmp_path / "elsewhere", database), tmp_path / "two", no_progress)
    with pytest.raises(StoreLocked, match="owns the state"):
        await load(settings_of(tmp_path / "new", database), tmp_path / "one", no_progress)
    assert not (tmp_path / "two").exists()
    await owner.put("runs", "a", {})
    assert owner.ownership.lost is None
    await owner.close()


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff", b'{"a": 1} {}'], ids=repr)
async def test_what_is_no_document_is_refused_and_leaves_nothing(
    tmp_path: Path, database: dict[str, str], ask: Ask, content: bytes
) -> None:
    with (tmp_path / "bad").open("wb") as file:
        writer = Writer(file)
        writer.add_json(HEADER, {"format": FORMAT, "devkit": "1", "createdAt": "now"})
        writer.add_bytes("state/modules/0a/good.json", b"{}")
        writer.add_bytes("state/runs/0a/bad.json", content)
        writer.finish()
    with pytest.raises(TransferRefused, match="runs/bad"):
        await load(settings_of(tmp_path / "new", database), tmp_path / "bad", no_progress)
    assert ask(STORED) == []
    assert not (tmp_path / "new").exists()


async def test_documents_are_stored_last(
    tmp_path: Path, database: dict[str, str], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files without a document go some day; a document without its files would be damage."""
    await export(settings_of(await filled(tmp_path / "files")), tmp_path / "one", no_progress)
    stored: list[int] = []

    def commit(_state: Path, _staging: Path) -> None:
        stored.append(len(ask(STORED)))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loading, "commit", commit)
    with pytest.raises(OSError, match="No space left"):
        await load(settings_of(tmp_path / "new", database), tmp_path / "one", no_progress)
    assert stored == [0]
    assert ask(STORED) == []
