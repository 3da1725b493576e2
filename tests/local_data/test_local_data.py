"""Local data over HTTP: what is seen, what is never seen, pages without gap or repeat, ranges."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from devkit_api.errors import DataBusy, DataFolderTooLarge, DataNotFound
from devkit_api.local_data.service import LISTINGS, WAITING, LocalData
from devkit_api.security.api_keys import ApiKeyBook
from devkit_api.security.principals import Role
from devkit_api.security.private_files import PrivateFile
from devkit_api.settings.values import DataRoot, data_roots
from tests.support.waiting import PATIENCE, until_async

SECRET = "outside every root"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A root with every kind of thing in it, beside what must not be reached from it."""
    root = tmp_path / "study"
    (root / "runs").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    (root / "runs" / "a b&c=d?é.csv").write_text("peptide\nSIINFEKL\n")
    (root / "big.txt").write_bytes(b"0123456789" * 100)
    (root / "page.html").write_text("<script>alert(1)</script>")
    (root / ".secret").write_text(SECRET)
    (root / ".hidden" / "inner.txt").write_text(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    (tmp_path / "study-2").mkdir()
    (tmp_path / "study-2" / "secret.txt").write_text(SECRET)
    os.mkfifo(root / "pipe")
    (root / "in-link").symlink_to("runs")
    (root / "in-file").symlink_to(root / "big.txt")
    (root / "out-link").symlink_to(tmp_path / "outside")
    (root / "out-file").symlink_to("../outside/secret.txt")
    (root / "to-hidden").symlink_to(".secret")
    (root / "to-sibling").symlink_to(tmp_path / "study-2")
    (root / "broken").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "runs" / "up").symlink_to("../..")
    return root


@pytest.fixture
async def client(make_client: Any, study: Path) -> AsyncIterator[Any]:
    yield await make_client(data_roots=f"Study data={study}")


async def names(client: Any, path: str = "", **query: str) -> list[str]:
    answer = await client.get("/dev/data/list", params={"root": "study-data", "path": path, **query})
    assert answer.status == 200, await answer.text()
    return [entry["name"] for entry in (await answer.json())["entries"]]


async def refused(answer: Any, status: int, code: str) -> None:
    text = await answer.text()
    assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    assert SECRET not in text


async def test_roots_are_named_and_not_located(client: Any, study: Path) -> None:
    answer = await client.get("/dev/data/roots")
    assert await answer.json() == {"roots": [{"id": "study-data", "label": "Study data"}]}
    assert str(study) not in await answer.text()


async def test_none_is_configured_by_default(make_client: Any) -> None:
    client = await make_client()
    assert await (await client.get("/dev/data/roots")).json() == {"roots": []}
    await refused(await client.get("/dev/data/list", params={"root": "study-data"}), 404, "DATA_NOT_FOUND")


async def test_a_folder_shows_folders_first_and_nothing_that_leads_out(client: Any) -> None:
    assert await names(client) == ["empty", "in-link", "runs", "big.txt", "in-file", "page.html"]
    assert await names(client, "empty") == []
    assert await names(client, "in-link") == await names(client, "runs") == ["a b&c=d?é.csv"]


async def test_entries_say_what_they_are(client: Any, study: Path) -> None:
    os.utime(study / "big.txt", (1_700_000_000, 1_700_000_000))
    answer = await client.get("/dev/data/list", params={"root": "study-data"})
    entries = {entry["name"]: entry for entry in (await answer.json())["entries"]}
    assert entries["big.txt"] == {
        "name": "big.txt", "path": "big.txt", "kind": "file", "sizeBytes": 1000, "modifiedAt": "2023-11-14T22:13:20Z",
    }  # fmt: skip
    assert (entries["runs"]["kind"], entries["runs"]["sizeBytes"]) == ("dir", None)
    assert entries["in-file"]["sizeBytes"] == 1000
    below = await client.get("/dev/data/list", params={"root": "study-data", "path": "runs"})
    assert (await below.json())["entries"][0]["path"] == "runs/a b&c=d?é.csv"


MALFORMED = ["..", "../outside/secret.txt", "runs/../../outside/secret.txt", "/etc/passwd", "//etc/passwd", "runs//x",
             "./big.txt", "runs/.", "runs/..", "big.txt\0.csv", "\0", "runs/", "a/" * 3000 + "a"]  # fmt: skip
ABSENT = ["nothing", "out-link", "out-link/secret.txt", "out-file", "to-sibling/secret.txt", "to-hidden", ".secret",
          ".hidden", ".hidden/inner.txt", "broken", "loop", "loop/x", "runs/up", "runs/up/outside/secret.txt",
          "runs/up/study/big.txt", "pipe", "..%2foutside%2fsecret.txt", "..\\outside\\secret.txt", "x" * 300,
          "big.txt/x", "runs/a b", "...", "C:\\windows", "~", "~root/.bashrc"]  # fmt: skip


@pytest.mark.parametrize("address", ["list", "file"])
@pytest.mark.parametrize("path", MALFORMED)
async def test_malformed_paths_are_refused(client: Any, address: str, path: str) -> None:
    answer = await client.get(f"/dev/data/{address}", params={"root": "study-data", "path": path})
    await refused(answer, 400, "PARAMETER_INVALID")


@pytest.mark.parametrize("address", ["list", "file"])
@pytest.mark.parametrize("path", ABSENT)
async def test_what_may_not_be_seen_is_absent(client: Any, address: str, path: str) -> None:
    answer = await client.get(f"/dev/data/{address}", params={"root": "study-data", "path": path})
    await refused(answer, 404, "DATA_NOT_FOUND")


async def test_doubly_encoded_paths_are_taken_as_they_are(client: Any) -> None:
    for tail in ("%2e%2e%2foutside%2fsecret.txt", "..%2foutside%2fsecret.txt"):
        await refused(await client.get(f"/dev/data/file?root=study-data&path={tail}"), 400, "PARAMETER_INVALID")
        await refused(await client.get(f"/dev/data/file?root=study-data&path={quote(tail)}"), 404, "DATA_NOT_FOUND")


@pytest.mark.parametrize("root", ["", "other", "..", "/", "study-data/..", "STUDY-DATA"])
async def test_unknown_roots_are_refused(client: Any, root: str) -> None:
    answer = await client.get("/dev/data/file", params={"root": root, "path": "big.txt"})
    assert answer.status in {400, 404}
    assert SECRET not in await answer.text()


async def test_a_folder_is_no_file_and_a_file_no_folder(client: Any) -> None:
    for path in ("", "runs", "in-link"):
        answer = await client.get("/dev/data/file", params={"root": "study-data", "path": path})
        await refused(answer, 404, "DATA_NOT_FOUND")
    for path in ("big.txt", "in-file"):
        answer = await client.get("/dev/data/list", params={"root": "study-data", "path": path})
        await refused(answer, 404, "DATA_NOT_FOUND")


async def test_the_devkits_own_files_are_absent_under_any_root(make_client: Any, tmp_path: Path) -> None:
    client = await make_client(data_roots=f"all={tmp_path}")
    (tmp_path / "state" / "credentials.env").write_text(SECRET)
    (tmp_path / "shortcut").symlink_to("state")
    answer = await client.get("/dev/data/list", params={"root": "all"})
    assert {"state", "shortcut"}.isdisjoint(entry["name"] for entry in (await answer.json())["entries"])
    for path in ("state/credentials.env", "shortcut/credentials.env"):
        await refused(await client.get("/dev/data/file", params={"root": "all", "path": path}), 404, "DATA_NOT_FOUND")


async def test_a_file_comes_whole_and_in_ranges(client: Any) -> None:
    query = {"root": "study-data", "path": "big.txt"}
    whole = await client.get("/dev/data/file", params=query)
    assert (whole.status, await whole.read()) == (200, b"0123456789" * 100)
    assert whole.headers["Accept-Ranges"] == "bytes"
    part = await client.get("/dev/data/file", params=query, headers={"Range": "bytes=995-"})
    assert (part.status, await part.read()) == (206, b"56789")
    assert part.headers["Content-Range"] == "bytes 995-999/1000"
    beyond = await client.get("/dev/data/file", params=query, headers={"Range": "bytes=1000-"})
    assert beyond.status == 416
    again = await client.get("/dev/data/file", params=query, headers={"If-None-Match": whole.headers["ETag"]})
    assert again.status == 304
    through_link = await client.get("/dev/data/file", params={**query, "path": "in-file"})
    assert await through_link.read() == b"0123456789" * 100


async def test_what_lies_compressed_beside_a_file_is_another_file(client: Any, study: Path) -> None:
    (study / "big.txt.gz").write_bytes(b"something else")
    answer = await client.get(
        "/dev/data/file", params={"root": "study-data", "path": "big.txt"}, headers={"Accept-Encoding": "gzip"}
    )
    assert "Content-Encoding" not in answer.headers
    assert await answer.read() == b"0123456789" * 100


async def test_a_file_never_becomes_a_page_of_the_devkit(client: Any) -> None:
    answer = await client.get("/dev/data/file", params={"root": "study-data", "path": "page.html"})
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="page.html"')
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_sent_files_are_closed(client: Any) -> None:
    def still_open() -> int:
        return sum(1 for link in Path("/proc/self/fd").iterdir() if "big.txt" in os.path.realpath(link))

    for headers in ({}, {"Range": "bytes=0-3"}, {"Range": "bytes=9999-"}):
        query = {"root": "study-data", "path": "big.txt"}
        await (await client.get("/dev/data/file", params=query, headers=headers)).read()
    await until_async(lambda: not still_open())  # aiohttp closes its own handle in a thread


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_neither_skip_nor_repeat(client: Any, study: Path, limit: int) -> None:
    many = study / "many"
    for n in range(25):
        (many / f"folder {n}").mkdir(parents=True)
        (many / f"datei-ü {n}.txt").write_text("x")
    seen: list[str] = []
    token: str | None = None
    while True:
        query = {"root": "study-data", "path": "many", "limit": str(limit), **({"pageToken": token} if token else {})}
        page = await (await client.get("/dev/data/list", params=query)).json()
        assert len(page["entries"]) <= limit
        seen += [entry["name"] for entry in page["entries"]]
        token = page["nextToken"]
        if token is None:
            break
    assert seen == sorted(f"folder {n}" for n in range(25)) + sorted(f"datei-ü {n}.txt" for n in range(25))


async def test_pages_hold_while_files_come_and_go(client: Any, study: Path) -> None:
    for name in "bdfh":
        (study / "runs" / name).write_text("x")
    query = {"root": "study-data", "path": "runs", "limit": "2"}
    first = await (await client.get("/dev/data/list", params=query)).json()
    assert [entry["name"] for entry in first["entries"]] == ["a b&c=d?é.csv", "b"]
    (study / "runs" / "a").write_text("before: not seen any more")
    (study / "runs" / "b").unlink()
    (study / "runs" / "c").write_text("after: seen")
    rest = await (
        await client.get("/dev/data/list", params={**query, "limit": "100", "pageToken": first["nextToken"]})
    ).json()
    assert [entry["name"] for entry in rest["entries"]] == ["c", "d", "f", "h"]


@pytest.mark.parametrize("token", ["x", "!!!", "MS8uLi8", "9", "Mmhlcg", "\0", "é", "A" * 6000])
async def test_made_up_tokens_and_limits_are_refused(client: Any, token: str) -> None:
    query = {"root": "study-data", "pageToken": token}
    answer = await client.get("/dev/data/list", params=query)
    if token == "MS8uLi8":  # well-formed: a place among the names, not on the disk
        assert [entry["name"] for entry in (await answer.json())["entries"]] == ["big.txt", "in-file", "page.html"]
    else:
        await refused(answer, 400, "PARAMETER_INVALID")
    for limit in ("0", "1001", "-1", "many"):
        answer = await client.get("/dev/data/list", params={"root": "study-data", "limit": limit})
        await refused(answer, 400, "PARAMETER_INVALID")


async def test_readers_only(client: Any, tmp_path: Path) -> None:
    url = client.make_url("/dev/data/roots")
    async with client.anonymous.get(url) as answer:
        assert answer.status == 401
    book = ApiKeyBook(PrivateFile(tmp_path / "state" / "api-keys.json"), "org")
    for scope, status in (("write", 403), ("read", 200)):
        _, key = book.create(scope, user_id="u", role=Role.USER, scopes=frozenset({scope}), days=None)
        async with client.anonymous.get(url, headers={"X-API-Key": key}) as answer:
            assert answer.status == status, await answer.text()
    for method in ("post", "put", "delete", "patch"):
        answer = await getattr(client, method)("/dev/data/file?root=study-data&path=big.txt")
        assert answer.status == 405


def roots(path: Path) -> tuple[DataRoot, ...]:
    return (DataRoot("it", "it", path),)


async def test_a_folder_of_too_many_names_is_refused_not_read_to_the_end(study: Path) -> None:
    for n in range(12):
        (study / "empty" / str(n)).write_text("")
    assert len((await LocalData(roots(study), max_names=12).browse("it", "empty", limit=5, token=None)).entries) == 5
    with pytest.raises(DataFolderTooLarge):
        await LocalData(roots(study), max_names=11).browse("it", "empty", limit=5, token=None)


async def test_names_that_are_not_utf8_are_left_out(study: Path) -> None:
    os.close(os.open(os.fsencode(study / "empty") + b"/caf\xe9", os.O_CREAT | os.O_WRONLY))
    assert (await LocalData(roots(study)).browse("it", "empty", limit=5, token=None)).entries == []


async def test_a_folder_exchanged_for_a_link_after_the_check_is_not_followed(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study / "runs" / "secret.txt").write_text("harmless")
    real_open = os.open

    def exchange_then_open(path: Any, *arguments: Any, **options: Any) -> int:
        if path == "runs" and not (study / "runs").is_symlink():
            (study / "runs").rename(study / "moved")
            (study / "runs").symlink_to(study.parent / "outside")
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", exchange_then_open)
    with pytest.raises(DataNotFound):
        await LocalData(roots(study)).open("it", "runs/secret.txt")
    assert (study / "moved").exists(), "the exchange took place"


async def test_a_root_that_is_gone_is_absent(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound):
        await LocalData(roots(tmp_path / "gone")).browse("it", "", limit=5, token=None)


def test_roots_are_read_from_the_setting() -> None:
    found = data_roots(f"/a/study:Mass spec=/b/x=y:/c/study:/d/e=f:{'Mass spec'}=/z")
    assert [(root.id, root.label, str(root.path)) for root in found] == [
        ("study", "study", "/a/study"),
        ("mass-spec", "Mass spec", "/b/x=y"),
        ("study-2", "study", "/c/study"),
        ("e-f", "e=f", "/d/e=f"),
        ("mass-spec-2", "Mass spec", "/z"),
    ]
    for wrong in ("label=", "a\tb=/x", "x" * 101 + "=/x"):
        with pytest.raises(ValueError, match=r"label|folder"):
            data_roots(wrong)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Folders can be read once the event is set."""
    answered, scandir = threading.Event(), os.scandir

    def wait_and_scan(*arguments: Any) -> Any:
        answered.wait(PATIENCE)
        return scandir(*arguments)

    monkeypatch.setattr(os, "scandir", wait_and_scan)
    yield answered
    answered.set()


async def test_listings_that_wait_for_the_disk_hold_up_nothing_else(study: Path, slow_disk: threading.Event) -> None:
    data = LocalData(roots(study))
    listings = [asyncio.create_task(data.browse("it", "", limit=5, token=None)) for _ in range(LISTINGS + WAITING)]
    await until_async(lambda: data._listings == LISTINGS + WAITING)
    with pytest.raises(DataBusy):
        await data.browse("it", "", limit=5, token=None)
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.to_thread(lambda: "the server's own threads are free")
        with await data.open("it", "big.txt") as file:
            assert file.read(3) == b"012"
    assert not any(listing.done() for listing in listings)
    slow_disk.set()
    pages = await asyncio.gather(*listings)
    assert {tuple(entry["name"] for entry in page.entries) for page in pages} == {
        ("empty", "in-link", "runs", "big.txt", "in-file")
    }
    data.close()


async def test_only_links_on_the_page_are_followed(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(50):
        (study / "empty" / f"link-{n:02}").symlink_to("../big.txt" if n % 2 else "../../outside/secret.txt")
    asked: list[str] = []
    behind = LocalData._mode_behind
    monkeypatch.setattr(
        LocalData, "_mode_behind", lambda self, base, link: asked.append(link.name) or behind(self, base, link)
    )
    data = LocalData(roots(study))
    first = await data.browse("it", "empty", limit=2, token=None)
    second = await data.browse("it", "empty", limit=2, token=first.next_token)
    assert [entry["name"] for entry in first.entries + second.entries] == [f"link-{n:02}" for n in (1, 3, 5, 7)]
    assert asked == [f"link-{n:02}" for n in [*range(6), *range(4, 10)]]
