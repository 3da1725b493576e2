"""Export and import: what comes back is what was there, and what is wrong leaves nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import requests

from devkit_api.database.lifetime import external_target
from devkit_api.database.migrate import connect
from devkit_api.objects.describe import describe
from devkit_api.settings import Settings, load_settings
from devkit_api.state import StoreLocked
from devkit_api.transfer import TransferRefused, commit
from devkit_api.transfer import load as load_module
from devkit_api.transfer.archive import Writer
from devkit_api.transfer.catalogs import CatalogReader
from devkit_api.transfer.dump import export
from devkit_api.transfer.layout import END, EXPORTED, FORMAT, HEADER, OF_THE_MACHINE, SECRET, unknown
from devkit_api.transfer.load import load
from devkit_api.transfer.objects import bucket_of, namespaces_of
from tests.objects.test_stores import put
from tests.support.client import snapshot
from tests.support.modules import write_module
from tests.support.postgres import external_postgres, new_database
from tests.support.process import DevkitProcess
from tests.support.publishing import pack, request_of, submission, write_publishable
from tests.support.s3 import load_s3, moto_server, s3_settings
from tests.support.waiting import PATIENCE, until

SAVER = """
for number in range(3):
    self.storage.save_text(f"deep/er/table {number}.txt", f"row {number} Ω" * 500)
print("a line of the log")
return self.success(results={"n": input_data["n"]})
"""
SQL = (
    "SELECT s.sample_id, s.sample_name, p.sequence, m.normalized_intensity FROM sample_peptide_mappings m"
    " JOIN samples s ON s.sample_id = m.sample_id JOIN peptides p ON p.peptide_id = m.peptide_id ORDER BY 1, 3"
)


def no_progress(_done: int, _total: int) -> None:
    pass


def settings_of(state: Path) -> Settings:
    return load_settings({"DEVKIT_STATE_DIR": str(state), "DEVKIT_CATALOGS": "off"})


class View:
    """Everything a client can see of a devkit."""

    def __init__(self, devkit: DevkitProcess) -> None:
        self.modules = devkit.request("GET", "/v1/modules").json()
        self.runs = devkit.request("GET", "/v1/module-runs").json()
        self.details, self.bytes = {}, {}
        for run in self.runs["runs"]:
            at = f"/v1/module-runs/{run['runId']}"
            self.details[run["runId"]] = [devkit.request("GET", at + end).json() for end in ("", "/result", "/logs")]
            for file in devkit.request("GET", at + "/files").json()["files"]:
                got = requests.get(file["url"], timeout=PATIENCE)
                assert got.status_code == 200
                self.bytes[run["runId"], file["name"]] = (got.content, file["sha256"], file["createdAt"])
        self.catalogs = devkit.request("GET", "/v1/data-catalogs").json()
        self.rows = []
        for catalog in self.catalogs["catalogs"]:
            at = f"/v1/data/{catalog['providerKey']}/{catalog['catalogKey']}"
            answer = devkit.request("POST", at + "/query", json={"sql": SQL})
            assert answer.status_code == 200, answer.text
            self.rows.append(answer.json())


def command(devkit: DevkitProcess, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    devkit.root.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "devkit_api", *arguments], check=False, env=devkit.environment(), cwd=devkit.root,
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.process
def test_a_devkit_comes_back_as_it_was(make_devkit: Callable[..., DevkitProcess], tmp_path: Path) -> None:
    devkit = make_devkit(catalogs="on")
    file = tmp_path / "devkit.tar.gz"
    devkit.arguments = ("--on-exit-export", str(file))
    with devkit:
        command(devkit, "catalog", "generate", "--peptides", "200", "--samples", "3")
        archive = pack(write_publishable(tmp_path / "saver", SAVER))
        asked = request_of(tmp_path / "saver", archive)
        grant = devkit.request("POST", "/v1/modules/publish/source-upload", json=asked).json()
        assert devkit.request("PUT", grant["uploadUrl"].removeprefix(devkit.endpoint), data=archive).ok
        devkit.request("POST", "/v1/modules/publish", json=submission(asked))
        at = f"/v1/modules/publish/{grant['publishId']}"
        until(lambda: devkit.request("GET", at).json()["status"] != "in_progress")
        published = devkit.request("GET", at).json()
        for n in range(2):
            run = devkit.wait(devkit.run("saver", {"n": n})["runId"])
            assert run["status"] == "completed", run["error"]
        before = View(devkit)
    assert len(before.bytes) == 6
    assert sum(len(rows["data"]) for rows in before.rows) > 200

    secrets = (devkit.state / "credentials.env").read_text().split("JWT_SECRET=")[1].split()[0]
    assert secrets.encode() not in gzip.decompress(file.read_bytes())
    assert unknown(devkit.state) == []

    shutil.rmtree(devkit.state)
    told = json.loads(command(devkit, "import", str(file), "--json").stdout)
    assert told["documents"] == {"modules": 1, "publications": 1, "runs": 2}
    devkit.arguments = ()
    with devkit.start():
        after = View(devkit)
        assert devkit.request("GET", at).json() == published
        assert devkit.wait(devkit.run("saver", {"n": 9})["runId"])["status"] == "completed"
        # New rows take new ids: the sequences came along.
        command(devkit, "catalog", "generate", "--peptides", "50", "--samples", "1", "--seed", "2")
    assert strip(after) == strip(before)


def strip(view: View) -> dict[str, Any]:
    """What does not change with where things lie."""
    for details in view.details.values():
        for part in details:
            part.pop("links", None)
    return vars(view)


@pytest.mark.process
def test_a_devkit_moves_between_servers_of_ones_own_and_its_own_directory(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    modules = write_module(tmp_path / "modules" / "saver", SAVER).parent
    with moto_server() as endpoint, tempfile.TemporaryDirectory() as home, external_postgres(Path(home)) as server:

        def elsewhere(name: str, **changed: str) -> DevkitProcess:
            settings = {**s3_settings(endpoint, f"bucket-{name}"), **new_database(*server), **changed}
            return make_devkit(name, catalogs="on", **settings)

        first = elsewhere("first")
        first.modules = modules
        with first:
            assert first.wait(first.run("saver", {"n": 1})["runId"])["status"] == "completed"
            assert first.request("POST", "/v1/devkit/inputs/a.csv", data=b"an upload").status_code == 201
            before = View(first)
        assert len(before.bytes) == 3
        assert not list((first.state / "objects").rglob("*.json"))
        out, back = tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"
        told = [asyncio.run(export(settings_for(first), out, no_progress))]

        # Files and a database in the state directory, and from there to others again.
        second = make_devkit("second", catalogs="on")
        told.append(asyncio.run(load(settings_for(second), out, no_progress)))
        with second.start():
            after = View(second)
            uploads = second.request("GET", "/v1/devkit/inputs").json()["items"]
            assert [(one["filename"], one["checksum"]) for one in uploads] == [
                ("a.csv", hashlib.sha256(b"an upload").hexdigest())
            ]
        assert strip(after) == strip(before)
        told.append(asyncio.run(export(settings_for(second), back, no_progress)))
        third = elsewhere("third")
        told.append(asyncio.run(load(settings_for(third), back, no_progress)))
        assert len({(one.tables, one.files, one.total_bytes) for one in told[1:]}) == 1
        assert all((one.documents, one.tables) == (told[0].documents, told[0].tables) for one in told)
        assert asyncio.run(in_bucket(settings_for(third))) == asyncio.run(in_bucket(settings_for(first)))
        assert rows_of(settings_for(third)) == rows_of(settings_for(first))
        assert not list((third.state / "objects").rglob("*.json"))

        taken = {key: value for key, value in third.settings.items() if key.startswith("db_")}
        fourth = elsewhere("fourth", **taken)
        with pytest.raises(TransferRefused, match="the database is not empty"):
            asyncio.run(load(settings_for(fourth), back, no_progress))
        assert not fourth.state.exists()
        assert asyncio.run(in_bucket(settings_for(fourth))) == {}


def settings_for(devkit: DevkitProcess) -> Settings:
    return load_settings({name: value for name, value in devkit.environment().items() if name.startswith("DEVKIT_")})


async def in_bucket(settings: Settings) -> dict[tuple[str, str], str]:
    """SHA-256 of every file of a devkit in its bucket."""
    found = {}
    async with bucket_of(settings) as store:
        assert store is not None
        for namespace in namespaces_of(settings.state_dir):
            for info in await describe(store, namespace, (await store.list(namespace))[0]):
                data = b"".join([chunk async for chunk in store.read(namespace, info.name)])
                assert hashlib.sha256(data).hexdigest() == info.sha256
                found[namespace, info.name] = info.sha256
    return found


def rows_of(settings: Settings) -> dict[str, bytes]:
    """Every table of the catalogs, row by row."""
    with connect(external_target(settings)) as connection:
        reader, found = CatalogReader(connection), {}
        for table in reader.tables():
            data = bytearray()
            reader.copy(table, data.extend)
            found[table.full_name] = b"\n".join(sorted(bytes(data).splitlines()))
    assert any(found.values())
    return found


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A state directory with something in it."""
    state = tmp_path / "state"
    for name, text in {
        "modules/aa/m@1.0.0.json": "{}", "runs/bb/r.json": '{"a": 1}', "objects/cc/r/x.1": "bytes", "users.json": "{}",
        "bundles/dd/dddd/we\\ird.txt": "a name like any other here",
        "bundles/dd/dddd/backend/" + "deep/" * 10 + "n" * 150 + ".py": "x = 1",
    }.items():  # fmt: skip
        path = state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return state


async def test_what_is_secret_stays_and_the_rest_comes_back(stopped: Path, tmp_path: Path) -> None:
    for name in SECRET - {"refresh-tokens"}:
        (stopped / name).write_text("a fake password hash")
    (stopped / "refresh-tokens" / "aa").mkdir(parents=True)
    (stopped / "refresh-tokens" / "aa" / "t.json").write_text("a fake password hash")
    file = tmp_path / "x.tar.gz"
    await export(settings_of(stopped), file, no_progress)
    assert file.stat().st_mode & 0o077 == 0
    assert b"a fake password hash" not in gzip.decompress(file.read_bytes())
    with tarfile.open(file) as listed:  # by any tar
        assert HEADER in listed.getnames()
    await load(settings_of(tmp_path / "new"), file, no_progress)
    kept = {name: digest for name, digest in snapshot(stopped).items() if name.split("/")[0] in EXPORTED}
    found = {name: digest for name, digest in snapshot(tmp_path / "new").items() if name != "lock"}
    assert found == kept


async def test_an_upload_that_waits_for_parts_stays(stopped: Path, tmp_path: Path) -> None:
    for status in ("uploading", "completing", "complete", "cancelled"):
        (stopped / "uploads" / status).mkdir(parents=True)
        (stopped / "uploads" / status / "u.json").write_text(json.dumps({"status": status}))
    file = tmp_path / "x.tar.gz"
    summary = await export(settings_of(stopped), file, no_progress)
    with tarfile.open(file) as listed:
        found = [name for name in listed.getnames() if name.startswith("state/uploads/")]
    assert sorted(found) == ["state/uploads/cancelled/u.json", "state/uploads/complete/u.json"]
    assert summary.documents["uploads"] == 2


async def test_an_export_replaces_nothing_unasked_and_needs_a_devkit(stopped: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_text("mine")
    with pytest.raises(TransferRefused, match="exists already"):
        await export(settings_of(stopped), file, no_progress)
    assert file.read_text() == "mine"
    await export(settings_of(stopped), file, no_progress, replace=True)
    with pytest.raises(TransferRefused, match="no devkit"):
        await export(settings_of(tmp_path / "none"), tmp_path / "y.tar.gz", no_progress)
    (stopped / "objects" / "link").symlink_to("/etc/passwd")
    with pytest.raises(TransferRefused, match="not a regular file"):
        await export(settings_of(stopped), tmp_path / "y.tar.gz", no_progress)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "x.tar.gz"]


async def test_a_devkit_that_runs_is_left_alone(make_client: Any, tmp_path: Path) -> None:
    client = await make_client()
    with pytest.raises(StoreLocked):
        await export(settings_of(client.app_state), tmp_path / "x.tar.gz", no_progress)
    assert unknown(client.app_state) == []


def entry(name: str, data: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def raw(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    """An archive with a right header, these members, and whatever end they bring."""
    buffer = io.BytesIO()
    head = entry(HEADER, json.dumps({"format": FORMAT, "createdAt": "now"}).encode())
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb") as zipped,
        tarfile.open(fileobj=zipped, mode="w|", format=form) as tar,
    ):
        for info, data in (head, *entries):
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def written(fill: Callable[[Writer], None]) -> bytes:
    """An archive with right checksums."""
    buffer = io.BytesIO()
    writer = Writer(buffer)
    writer.add_json(HEADER, {"format": FORMAT, "createdAt": "now"})
    fill(writer)
    writer.finish()
    return buffer.getvalue()


def good() -> bytes:
    return written(lambda w: w.add_bytes("state/modules/aa/m.json", b"{}" * 400))


def members(*names: str) -> bytes:
    return written(lambda w: [w.add_bytes(name, b"x") for name in names])  # type: ignore[arg-type,return-value]


def swapped() -> bytes:
    data = gzip.decompress(good())
    return gzip.compress(data.replace(b"{}{}", b"{}[]", 1))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "no archive": lambda: b"hello",
    "empty": lambda: b"",
    "another tar": lambda: gzip.compress(b"\0" * 10240),
    "cut in the middle": lambda: good()[: len(good()) // 2],
    "cut at the end": lambda: good()[:-4],
    "no end": lambda: raw(entry("state/modules/aa/m.json")),
    "changed byte": swapped,
    "wrong sum": lambda: raw(entry("state/modules/aa/m.json"), entry(END, b'{"members": 2, "sha256": "00"}')),
    "more behind": lambda: gzip.compress(gzip.decompress(good()) + b"x" * 512),
    "climbs": lambda: members("state/modules/../../outside.txt"),
    "absolute": lambda: members("/tmp/outside.txt"),
    "into secrets": lambda: members("state/credentials.env/x"),
    "users": lambda: members("state/users.json"),
    "elsewhere": lambda: members("state/postgres/data/pg_hba.conf"),
    "hidden": lambda: members("state/.import-commit/x"),
    "twice": lambda: members("state/modules/aa/m.json", "state/modules/aa/m.json"),
    "file and folder": lambda: members("state/modules/aa", "state/modules/aa/m.json"),
    "control characters": lambda: members("state/modules/a\na"),
    "too long": lambda: members("state/modules/" + "a/" * 600 + "x"),
    "symlink": lambda: raw(entry("state/modules/aa", b"", type=tarfile.SYMTYPE, linkname="/etc")),
    "hard link": lambda: raw(entry("state/modules/aa", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "device": lambda: raw(entry("state/modules/aa", b"", type=tarfile.CHRTYPE)),
    "folder": lambda: raw(entry("state/modules/aa", b"", type=tarfile.DIRTYPE)),
    "long header": lambda: raw(entry("state/modules/" + "a" * 3000), form=tarfile.PAX_FORMAT),
    "huge name": lambda: raw(entry("state/modules/" + "a" * 100_000)),
    "bomb": lambda: written(lambda w: w.add_bytes("state/objects/aa/zeros", bytes(60_000_000))),
    "rows without catalogs": lambda: members("catalogs/devkit.catalogs/000000000"),
    "rows of the system": lambda: members("catalogs/pg_catalog.pg_authid/0"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("existed", [True, False])
async def test_a_hostile_archive_is_refused_and_leaves_nothing(kind: str, existed: bool, tmp_path: Path) -> None:
    file, state = tmp_path / "x.tar.gz", tmp_path / "state"
    file.write_bytes(HOSTILE[kind]())
    if existed:
        state.mkdir()
        (state / "credentials.env").write_text("# kept")
    before = snapshot(tmp_path)
    with pytest.raises(TransferRefused):
        await load(settings_of(state), file, no_progress, most_bytes=50_000_000)
    after = snapshot(tmp_path)
    after.pop("state/lock", None)
    assert after == before


async def test_an_archive_of_nothing_but_names_does_not_take_all_the_places_for_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, asked = tmp_path / "x.tar.gz", []
    source.write_bytes(written(lambda w: [w.add_bytes(f"state/modules/aa/{n}.json", b"") for n in range(3000)]))
    real = os.statvfs

    def nearly_full(path: Any) -> Any:
        asked.append(len(list(Path(path).rglob("*.json"))))
        return SimpleNamespace(f_frsize=4096, f_bavail=real(path).f_bavail, f_files=5000, f_favail=5000 - asked[-1])

    monkeypatch.setattr(load_module, "_LOOK_AT_DISK_EVERY", 1024**2)
    monkeypatch.setattr(load_module, "_KEEP_FREE_FILES", 4000)
    monkeypatch.setattr(os, "statvfs", nearly_full)
    with pytest.raises(TransferRefused, match="nearly full"):
        await load(settings_of(tmp_path / "new"), source, no_progress)
    assert 1000 < asked[-1] < 1500
    assert not (tmp_path / "new").exists()


async def test_the_good_archive_of_these_tests_is_taken(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(good())
    summary = await load(settings_of(tmp_path / "state"), tmp_path / "x.tar.gz", no_progress)
    assert summary.documents == {"modules": 1}
    with pytest.raises(TransferRefused, match="it holds modules"):
        await load(settings_of(tmp_path / "state"), tmp_path / "x.tar.gz", no_progress)


async def test_an_import_cut_off_is_finished_or_never_was(make_client: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    finished, abandoned = state / ".import-done", state / ".import-not"
    for folder in (finished, abandoned):
        (folder / "publications").mkdir(parents=True)
        (folder / "publications" / folder.name).write_text("x")
    # As after a kill between the marker and the last move.
    (state / commit.MARKER).write_text(json.dumps({"staging": finished.name}))
    await make_client()
    assert (state / "publications" / ".import-done").exists()
    assert sorted(path.name for path in state.glob(".import*")) == []


def test_every_name_is_in_one_list() -> None:
    assert not EXPORTED & SECRET
    assert not EXPORTED & OF_THE_MACHINE


@pytest.fixture(autouse=True)
def _nothing_outside() -> Iterator[None]:
    yield
    assert not Path("/tmp/outside.txt").exists()


@pytest.mark.process
def test_an_export_that_could_not_be_written_is_said_at_the_start(
    make_devkit: Callable[..., DevkitProcess], tmp_path: Path
) -> None:
    devkit = make_devkit(modules=write_module(tmp_path / "modules" / "one").parent)
    done = command(devkit, "serve", "--on-exit-export", str(tmp_path / "missing" / "x.tar.gz"), code=1)
    assert "the export would be lost" in done.stderr


async def test_what_does_not_arrive_in_the_bucket_takes_nothing_with_it(tmp_path: Path) -> None:
    run_id = "devkit-run-moved"
    with moto_server() as endpoint:
        bucket = load_s3(endpoint, "bucket-moved", tmp_path / "old" / "state")
        bucket = attrs.evolve(bucket, catalogs=False)
        (bucket.state_dir / "runs" / "aa").mkdir(parents=True)
        (bucket.state_dir / "runs" / "aa" / f"{run_id}.json").write_text("{}")
        async with bucket_of(bucket) as store:
            assert store is not None
            for name in ("a", "b"):
                await put(store, name, name.encode(), run_id)
        file = tmp_path / "x.tar.gz"
        await export(bucket, file, no_progress)
        # The same bytes are there already: nothing to send, and nothing to refuse.
        await load(attrs.evolve(bucket, state_dir=tmp_path / "again"), file, no_progress)
        async with bucket_of(bucket) as store:
            assert store is not None
            await put(store, "b", b"another", run_id)
            await store.delete(run_id, "a")
            with pytest.raises(TransferRefused, match="the bucket holds another runs/devkit-run-moved/files/b"):
                await load(attrs.evolve(bucket, state_dir=tmp_path / "refused"), file, no_progress)
            assert [(one.name, one.size) for one in (await store.list(run_id))[0]] == [("b", 7)]
        assert not (tmp_path / "refused").exists()
    with pytest.raises(TransferRefused, match="cannot be used now"):
        await export(attrs.evolve(bucket, s3_endpoint="http://127.0.0.1:1"), tmp_path / "y.tar.gz", no_progress)
